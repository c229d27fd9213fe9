//! The file format of the compiled index, for the generator and the reader.
//!
//! Magic, the length of the table of contents, the table, then one zstd frame of postcard data per service and three more
//! for IAM actions, their users and endpoints. All integers of the head are little endian. Nothing depends on time or host.

use crate::service_model::ServiceModel;
use durward_core::AccessLevel;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::ops::Range;

const INDEX_MAGIC: &[u8; 8] = b"DWCAT\x00\x00\x02";
const INDEX_HEAD_BYTES: usize = INDEX_MAGIC.len() + 8;
/// No frame unpacks to more than this; the largest (ec2) is below 4 MiB.
const MAX_FRAME_BYTES: u32 = 64 << 20;
const ZSTD_LEVEL: i32 = 19;

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "the catalog index does not begin with its magic bytes; regenerate it with `cargo xtask generate catalog`"
    )]
    BadMagic,
    #[error("the catalog index ends before its {0}; regenerate it with `cargo xtask generate catalog`")]
    Truncated(&'static str),
    #[error("a frame of the catalog index does not unpack: {0}")]
    Decompress(#[from] std::io::Error),
    #[error("a frame of the catalog index does not hold what it should: {0}")]
    Decode(#[from] postcard::Error),
}

/// Where a frame lies after the table of contents, and how long it is when unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFrame {
    pub offset: u32,
    pub packed_bytes: u32,
    pub unpacked_bytes: u32,
}

/// What can be asked of a service without unpacking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    pub id: String,
    pub iam_prefix: String,
    pub signing_name: String,
    /// Further services in credential scopes: its endpoints sign with a name that the model does not give.
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
    /// Regions the sources know; others that match a prefix are newer.
    pub regions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEndpoint {
    /// Position in [`Endpoints::partitions`].
    pub partition_index: u32,
    pub target: EndpointTarget,
    /// Regions that differ from the rule of their partition.
    pub region_overrides: Vec<(String, EndpointTarget)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointTarget {
    /// `sqs.{region}.amazonaws.com`
    pub host: String,
    /// The region of the signature when it is not the region asked for.
    pub signing_region: Option<String>,
    pub signing_name: Option<String>,
}

/// Everything the generator writes.
pub struct CatalogIndex<'a> {
    pub services: &'a [ServiceModel],
    pub iam_actions: &'a [PrefixActions],
    pub action_operations: &'a [ActionOperations],
    pub endpoints: &'a EndpointTable,
}

/// The bytes of an index. The same input gives the same bytes.
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

/// The table of contents and where the frames begin.
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

/// The value in `frame` of `body`, the bytes after the table of contents.
pub(crate) fn decode_frame<T: DeserializeOwned>(body: &[u8], frame: IndexFrame) -> Result<T, IndexError> {
    let start = frame.offset as usize;
    let range: Range<usize> = start..start.saturating_add(frame.packed_bytes as usize);
    let packed = body.get(range).ok_or(IndexError::Truncated("last frame"))?;
    let plain = zstd::bulk::decompress(packed, frame.unpacked_bytes.min(MAX_FRAME_BYTES) as usize)?;
    Ok(postcard::from_bytes(&plain)?)
}
