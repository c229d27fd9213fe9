//! The file format of the compiled index, for the generator and the reader.
//!
//! The magic bytes, the lengths of the table of contents, the table, then one zstd frame of postcard data for each service and three
//! more: the IAM actions, the operations that need them, and the endpoints. The integers of the head are little-endian. The bytes
//! depend on the input alone, not on time or host, so that a reviewer can generate them again and compare.

use crate::service_model::ServiceModel;
use durward_core::AccessLevel;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::ops::Range;

/// The last byte is the version of the format. postcard data does not describe itself, so every change of a type here needs another.
const INDEX_MAGIC: &[u8; 8] = b"DWCAT\x00\x00\x02";
const INDEX_HEAD_BYTES: usize = INDEX_MAGIC.len() + 8;
/// No frame unpacks to more than this. The largest (ec2) is below 4 MiB.
const MAX_FRAME_BYTES: u32 = 64 << 20;
// The generator packs once; the level of compression hardly changes the time to unpack.
const ZSTD_LEVEL: i32 = 19;

/// Why bytes are no index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "the catalog index does not begin with the magic bytes of this version; regenerate it with `cargo xtask generate catalog`"
    )]
    BadMagic,
    #[error("the catalog index ends before its {0}; regenerate it with `cargo xtask generate catalog`")]
    Truncated(&'static str),
    #[error("a frame of the catalog index does not unpack: {0}")]
    Decompress(#[from] std::io::Error),
    #[error("a frame of the catalog index cannot be decoded: {0}")]
    Decode(#[from] postcard::Error),
}

/// The position of a frame after the table of contents, and its sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFrame {
    pub offset: u32,
    pub packed_bytes: u32,
    pub unpacked_bytes: u32,
}

/// The facts about a service that are known without unpacking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    pub id: String,
    pub iam_prefix: String,
    pub signing_name: String,
    /// Other names that its endpoints sign with, which the model does not have.
    pub extra_signing_names: Vec<String>,
    pub target_prefix: Option<String>,
    pub operation_count: u32,
    pub frame: IndexFrame,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TableOfContents {
    /// Sorted by id.
    pub services: Vec<ServiceEntry>,
    pub iam_actions: IndexFrame,
    pub action_operations: IndexFrame,
    pub endpoints: IndexFrame,
}

/// The actions of one IAM prefix, sorted by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrefixActions {
    pub prefix: String,
    pub actions: Vec<(String, AccessLevel)>,
}

/// The operations that need one action, as (position of the service, operation name).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActionOperations {
    pub action: String,
    pub operations: Vec<(u32, String)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndpointTable {
    /// The most specific prefix first.
    pub partitions: Vec<Partition>,
    /// Sorted by service id.
    pub services: Vec<(String, Vec<PartitionEndpoint>)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    pub id: String,
    /// A region of the partition begins with one of these (`us-gov-`).
    pub region_prefixes: Vec<String>,
    /// The regions that the sources list. Others that match a prefix are newer.
    pub regions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEndpoint {
    /// Index into [`EndpointTable::partitions`].
    pub partition_index: u32,
    pub target: EndpointTarget,
    /// The regions that differ from the rule of their partition.
    pub region_overrides: Vec<(String, EndpointTarget)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointTarget {
    /// `sqs.{region}.amazonaws.com`
    pub host: String,
    /// The region of the signature, if it is not the requested region.
    pub signing_region: Option<String>,
    pub signing_name: Option<String>,
}

/// The content of an index.
pub struct CatalogIndex<'a> {
    pub services: &'a [ServiceModel],
    pub iam_actions: &'a [PrefixActions],
    pub action_operations: &'a [ActionOperations],
    pub endpoints: &'a EndpointTable,
}

/// Encodes an index. The same input gives the same bytes.
pub fn encode_index(index: &CatalogIndex<'_>) -> Result<Vec<u8>, IndexError> {
    let mut body = Vec::new();
    let mut contents = TableOfContents::default();
    for service in index.services {
        let frame = append_frame(&mut body, service)?;
        contents.services.push(ServiceEntry {
            id: service.id.clone(),
            iam_prefix: service.iam_prefix.clone(),
            signing_name: service.signing_name.clone(),
            extra_signing_names: find_extra_signing_names(index.endpoints, service),
            target_prefix: service.target_prefix.clone(),
            operation_count: service.operations.len() as u32,
            frame,
        });
    }
    contents.iam_actions = append_frame(&mut body, index.iam_actions)?;
    contents.action_operations = append_frame(&mut body, index.action_operations)?;
    contents.endpoints = append_frame(&mut body, index.endpoints)?;
    let mut table = Vec::new();
    let frame = append_frame(&mut table, &contents)?;
    let mut out = Vec::with_capacity(INDEX_HEAD_BYTES + table.len() + body.len());
    out.extend_from_slice(INDEX_MAGIC);
    out.extend_from_slice(&frame.packed_bytes.to_le_bytes());
    out.extend_from_slice(&frame.unpacked_bytes.to_le_bytes());
    out.append(&mut table);
    out.append(&mut body);
    Ok(out)
}

fn find_extra_signing_names(endpoints: &EndpointTable, service: &ServiceModel) -> Vec<String> {
    let rules = endpoints.services.iter().filter(|(id, _)| *id == service.id).flat_map(|(_, rules)| rules);
    let targets = rules.flat_map(|rule| {
        std::iter::once(&rule.target).chain(rule.region_overrides.iter().map(|(_, target)| target))
    });
    let names: BTreeSet<&String> = targets.filter_map(|target| target.signing_name.as_ref()).collect();
    names.into_iter().filter(|name| **name != service.signing_name).cloned().collect()
}

fn append_frame<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) -> Result<IndexFrame, IndexError> {
    let plain = postcard::to_allocvec(value)?;
    let packed = zstd::bulk::compress(&plain, ZSTD_LEVEL)?;
    let frame = IndexFrame {
        offset: body.len() as u32,
        packed_bytes: packed.len() as u32,
        unpacked_bytes: plain.len() as u32,
    };
    body.extend_from_slice(&packed);
    Ok(frame)
}

/// The table of contents, and the offset at which the frames begin.
pub(crate) fn decode_contents(bytes: &[u8]) -> Result<(TableOfContents, usize), IndexError> {
    let rest = bytes.strip_prefix(INDEX_MAGIC.as_slice()).ok_or(IndexError::BadMagic)?;
    let (packed, rest) = rest.split_first_chunk::<4>().ok_or(IndexError::Truncated("head"))?;
    let (unpacked, rest) = rest.split_first_chunk::<4>().ok_or(IndexError::Truncated("head"))?;
    let frame = IndexFrame {
        offset: 0,
        packed_bytes: u32::from_le_bytes(*packed),
        unpacked_bytes: u32::from_le_bytes(*unpacked),
    };
    let table = decode_frame(rest, frame)?;
    Ok((table, INDEX_HEAD_BYTES + frame.packed_bytes as usize))
}

/// Decodes the value of `frame`. `body` is the bytes after the table of contents.
pub(crate) fn decode_frame<T: DeserializeOwned>(body: &[u8], frame: IndexFrame) -> Result<T, IndexError> {
    let start = frame.offset as usize;
    let range: Range<usize> = start..start.saturating_add(frame.packed_bytes as usize);
    let packed = body.get(range).ok_or(IndexError::Truncated("last frame"))?;
    // The size that the index claims allocates the buffer, so it is bounded before (decompression bomb).
    let plain = zstd::bulk::decompress(packed, frame.unpacked_bytes.min(MAX_FRAME_BYTES) as usize)?;
    Ok(postcard::from_bytes(&plain)?)
}
