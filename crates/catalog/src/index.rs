//! The file format of the compiled index, for the generator and the reader.
//!
//! Magic, the length of the table of contents, the table, then one zstd frame of postcard data per service and three more
//! for IAM actions, their users and endpoints. All integers of the head are little endian. Nothing depends on time or host.

use crate::model::Service;
use durward_core::AccessLevel;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"DWCAT\x00\x00\x02";
const HEAD: usize = MAGIC.len() + 8;
/// No frame unpacks to more than this; the largest (ec2) is below 4 MiB.
const LARGEST: u32 = 64 << 20;
const LEVEL: i32 = 19;

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "the catalog index does not begin with its magic bytes; regenerate it with `cargo xtask catalog`"
    )]
    Magic,
    #[error("the catalog index ends before its {0}; regenerate it with `cargo xtask catalog`")]
    Short(&'static str),
    #[error("a frame of the catalog index does not unpack: {0}")]
    Unpack(#[from] std::io::Error),
    #[error("a frame of the catalog index does not hold what it should: {0}")]
    Decode(#[from] postcard::Error),
}

/// Where a frame lies after the table of contents, and how long it is when unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub offset: u32,
    pub packed: u32,
    pub unpacked: u32,
}

/// What can be asked of a service without unpacking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: String,
    pub iam_prefix: String,
    pub signing_name: String,
    /// Further services in credential scopes: its endpoints sign with a name that the model does not give.
    pub also_signs_as: Vec<String>,
    pub target_prefix: Option<String>,
    pub operations: u32,
    pub frame: Frame,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Contents {
    /// Sorted by id.
    pub services: Vec<Entry>,
    pub actions: Frame,
    pub users: Frame,
    pub endpoints: Frame,
}

/// The actions of one IAM prefix, sorted by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrefixActions {
    pub prefix: String,
    pub actions: Vec<(String, AccessLevel)>,
}

/// The operations that need one action, as (position of the service, operation name).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActionUsers {
    pub action: String,
    pub users: Vec<(u32, String)>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Endpoints {
    /// The most specific prefix first.
    pub partitions: Vec<Partition>,
    /// Sorted by service id.
    pub services: Vec<(String, Vec<PartitionEndpoint>)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    pub id: String,
    /// A region of the partition begins with one of these (`us-gov-`).
    pub prefixes: Vec<String>,
    /// Regions the sources know; others that match a prefix are newer.
    pub regions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEndpoint {
    /// Position in [`Endpoints::partitions`].
    pub partition: u32,
    pub target: Target,
    /// Regions that differ from the rule of their partition.
    pub exceptions: Vec<(String, Target)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// `sqs.{region}.amazonaws.com`
    pub host: String,
    /// The region of the signature when it is not the region asked for.
    pub signing_region: Option<String>,
    pub signing_name: Option<String>,
}

/// Everything the generator writes.
pub struct Index<'a> {
    pub services: &'a [Service],
    pub actions: &'a [PrefixActions],
    pub users: &'a [ActionUsers],
    pub endpoints: &'a Endpoints,
}

/// The bytes of an index. The same input gives the same bytes.
pub fn encode(index: &Index<'_>) -> Result<Vec<u8>, IndexError> {
    let mut body = Vec::new();
    let mut contents = Contents::default();
    for service in index.services {
        let frame = push(&mut body, service)?;
        contents.services.push(Entry {
            id: service.id.clone(),
            iam_prefix: service.iam_prefix.clone(),
            signing_name: service.signing_name.clone(),
            also_signs_as: also_signs_as(index.endpoints, service),
            target_prefix: service.target_prefix.clone(),
            operations: service.operations.len() as u32,
            frame,
        });
    }
    contents.actions = push(&mut body, index.actions)?;
    contents.users = push(&mut body, index.users)?;
    contents.endpoints = push(&mut body, index.endpoints)?;
    let mut table = Vec::new();
    let frame = push(&mut table, &contents)?;
    let mut out = Vec::with_capacity(HEAD + table.len() + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&frame.packed.to_le_bytes());
    out.extend_from_slice(&frame.unpacked.to_le_bytes());
    out.append(&mut table);
    out.append(&mut body);
    Ok(out)
}

fn also_signs_as(endpoints: &Endpoints, service: &Service) -> Vec<String> {
    let rules = endpoints.services.iter().filter(|(id, _)| *id == service.id).flat_map(|(_, rules)| rules);
    let targets = rules.flat_map(|rule| {
        std::iter::once(&rule.target).chain(rule.exceptions.iter().map(|(_, target)| target))
    });
    let names: BTreeSet<&String> = targets.filter_map(|target| target.signing_name.as_ref()).collect();
    names.into_iter().filter(|name| **name != service.signing_name).cloned().collect()
}

fn push<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) -> Result<Frame, IndexError> {
    let plain = postcard::to_allocvec(value)?;
    let packed = zstd::bulk::compress(&plain, LEVEL)?;
    let frame =
        Frame { offset: body.len() as u32, packed: packed.len() as u32, unpacked: plain.len() as u32 };
    body.extend_from_slice(&packed);
    Ok(frame)
}

/// The table of contents and where the frames begin.
pub(crate) fn contents(bytes: &[u8]) -> Result<(Contents, usize), IndexError> {
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(IndexError::Magic)?;
    let (packed, rest) = rest.split_first_chunk::<4>().ok_or(IndexError::Short("head"))?;
    let (unpacked, rest) = rest.split_first_chunk::<4>().ok_or(IndexError::Short("head"))?;
    let frame =
        Frame { offset: 0, packed: u32::from_le_bytes(*packed), unpacked: u32::from_le_bytes(*unpacked) };
    let table = unpack(rest, frame)?;
    Ok((table, HEAD + frame.packed as usize))
}

/// The value in `frame` of `body`, the bytes after the table of contents.
pub(crate) fn unpack<T: DeserializeOwned>(body: &[u8], frame: Frame) -> Result<T, IndexError> {
    let start = frame.offset as usize;
    let range: Range<usize> = start..start.saturating_add(frame.packed as usize);
    let packed = body.get(range).ok_or(IndexError::Short("last frame"))?;
    let plain = zstd::bulk::decompress(packed, frame.unpacked.min(LARGEST) as usize)?;
    Ok(postcard::from_bytes(&plain)?)
}
