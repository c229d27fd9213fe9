//! The catalog itself: the table of contents at hand, each service unpacked when first asked for.
//!
//! Frames that do not unpack are treated as absent, so a damaged index makes operations unknown (and denied), never
//! wrongly known; the tests unpack every frame of the embedded one.

use crate::endpoint::{self, Endpoint};
use crate::iam::{self, Actions};
use crate::index::{self, Contents, Endpoints, Entry, IndexError};
use crate::model::{ActionUse, Service};
use durward_core::AccessLevel;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

static BYTES: &[u8] = include_bytes!("../data/catalog.bin");

/// Scope services of S3's siblings, which are modelled in `s3` and `s3control` (facts/aws.md 1a).
const SCOPE_ALIASES: [&str; 3] = ["s3express", "s3-outposts", "s3-object-lambda"];

pub struct Catalog {
    bytes: &'static [u8],
    /// Where the frames begin in `bytes`.
    body: usize,
    contents: Contents,
    loaded: Vec<OnceLock<Option<Arc<Service>>>>,
    by_signing_name: HashMap<String, Vec<usize>>,
    by_target_prefix: HashMap<String, Vec<usize>>,
    actions: OnceLock<Actions>,
    endpoints: OnceLock<Endpoints>,
}

impl Catalog {
    /// The catalog this binary was built with.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Catalog> = OnceLock::new();
        EMBEDDED.get_or_init(|| {
            Self::from_bytes(BYTES).expect("the embedded index was written by this crate's encode")
        })
    }

    /// A catalog over the bytes of an index.
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Self, IndexError> {
        let (contents, body) = index::contents(bytes)?;
        let mut by_signing_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_target_prefix: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, entry) in contents.services.iter().enumerate() {
            for name in std::iter::once(&entry.signing_name).chain(&entry.also_signs_as) {
                by_signing_name.entry(name.clone()).or_default().push(at);
            }
            if let Some(prefix) = &entry.target_prefix {
                by_target_prefix.entry(prefix.clone()).or_default().push(at);
            }
        }
        let s3: Vec<usize> = ["s3", "s3control"].iter().filter_map(|id| position(&contents, id)).collect();
        for alias in SCOPE_ALIASES {
            by_signing_name.entry(alias.to_owned()).or_default().extend(&s3);
        }
        let loaded = contents.services.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            bytes,
            body,
            contents,
            loaded,
            by_signing_name,
            by_target_prefix,
            actions: OnceLock::new(),
            endpoints: OnceLock::new(),
        })
    }

    /// Every service, sorted by id, without unpacking any.
    pub fn services(&self) -> &[Entry] {
        &self.contents.services
    }

    /// The service with botocore's name `id`.
    pub fn service(&self, id: &str) -> Option<Arc<Service>> {
        self.load(position(&self.contents, id)?)
    }

    /// The services whose requests carry `signing_name` in their credential scope.
    pub fn services_signing_as(&self, signing_name: &str) -> Vec<Arc<Service>> {
        self.load_all(self.by_signing_name.get(signing_name))
    }

    /// Their ids, without unpacking them.
    pub fn ids_signing_as(&self, signing_name: &str) -> Vec<&str> {
        let positions = self.by_signing_name.get(signing_name).map_or(&[][..], Vec::as_slice);
        positions
            .iter()
            .filter_map(|at| self.contents.services.get(*at))
            .map(|entry| entry.id.as_str())
            .collect()
    }

    /// The services with this `X-Amz-Target` prefix, which is also the service segment of rpc-v2-cbor paths.
    /// One, but for the two of Timestream, which share `Timestream_20181101` and no operation but DescribeEndpoints
    /// and the tag operations.
    pub fn services_by_target_prefix(&self, prefix: &str) -> Vec<Arc<Service>> {
        self.load_all(self.by_target_prefix.get(prefix))
    }

    /// The service with this target prefix, when exactly one has it.
    pub fn service_by_target_prefix(&self, prefix: &str) -> Option<Arc<Service>> {
        match self.by_target_prefix.get(prefix)?.as_slice() {
            [one] => self.load(*one),
            _ => None,
        }
    }

    /// The access level of an IAM action, spelt exactly.
    pub fn action(&self, action: &str) -> Option<AccessLevel> {
        self.actions().level(action)
    }

    /// Every action of one IAM prefix as (action with its prefix, level), sorted.
    pub fn actions_of(&self, prefix: &str) -> impl Iterator<Item = (String, AccessLevel)> + '_ {
        self.actions().of(prefix)
    }

    /// Every IAM prefix there is, sorted.
    pub fn iam_prefixes(&self) -> impl Iterator<Item = &str> {
        self.actions().prefixes()
    }

    /// The action a writer most likely meant by `text`, when one is near.
    pub fn nearest_action(&self, text: &str) -> Option<String> {
        self.actions().nearest(text)
    }

    /// The operation that a writer most likely meant by `service` and `name`, as (service id, operation), when one is near.
    /// Services go by botocore's name, the IAM prefix or the signing name.
    pub fn nearest_operation(&self, service: &str, name: &str) -> Option<(String, String)> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let (service, name) = (plain(service), plain(name));
        let apart = |entry: &Entry| {
            let names = [&entry.id, &entry.iam_prefix, &entry.signing_name];
            names.into_iter().map(|known| iam::distance(&service, &plain(known))).min().unwrap_or(usize::MAX)
        };
        let mut best: Option<(usize, String, String)> = None;
        for (at, entry) in self.contents.services.iter().enumerate() {
            let apart = apart(entry);
            if apart > iam::FARTHEST / 2 {
                continue;
            }
            for operation in self.load(at).iter().flat_map(|service| &service.operations) {
                let total = apart + iam::distance(&name, &plain(&operation.name));
                if total <= iam::FARTHEST && best.as_ref().is_none_or(|(least, _, _)| total < *least) {
                    best = Some((total, entry.id.clone(), operation.name.clone()));
                }
            }
        }
        best.map(|(_, id, operation)| (id, operation))
    }

    /// The operations that need `action`, as (service id, operation name), sorted.
    pub fn operations_needing(&self, action: &str) -> Vec<(String, String)> {
        self.actions()
            .users(action)
            .iter()
            .filter_map(|(at, operation)| {
                let entry = self.contents.services.get(*at as usize)?;
                Some((entry.id.clone(), operation.clone()))
            })
            .collect()
    }

    /// Whether an action is on resources, as IAM tells; of an action that nobody knows nobody can say that it is not.
    pub fn may_have_resource(&self, action: &str) -> bool {
        let has_one = |needed: &ActionUse| needed.resource_level || !needed.resources.is_empty();
        self.uses_of(action).is_none_or(|uses| uses.iter().any(has_one))
    }

    /// How the operations that need an action use it. None: nobody knows of all of them.
    pub fn uses_of(&self, action: &str) -> Option<Vec<ActionUse>> {
        let users = self.operations_needing(action);
        let mut uses = Vec::new();
        for (service, operation) in &users {
            let service = self.service(service)?;
            let needed = service.operation(operation)?.actions.iter();
            uses.extend(needed.filter(|needed| needed.action == action).cloned());
        }
        (!users.is_empty()).then_some(uses)
    }

    /// Where requests of `service_id` for `region` go, and how they are signed. `None` when the service is unknown, has no
    /// endpoint there, or `region` is not a region name.
    pub fn endpoint(&self, service_id: &str, region: &str) -> Option<Endpoint> {
        let at = position(&self.contents, service_id)?;
        let signing_name = &self.contents.services.get(at)?.signing_name;
        endpoint::resolve(self.endpoints(), service_id, signing_name, region)
    }

    /// The partition (`aws`, `aws-cn`, `aws-us-gov`, ...) a region belongs to; `aws` for a name no partition claims, as the
    /// SDKs do.
    pub fn partition(&self, region: &str) -> &str {
        endpoint::partition(self.endpoints(), region).map_or("aws", |partition| partition.id.as_str())
    }

    fn load(&self, at: usize) -> Option<Arc<Service>> {
        let entry = self.contents.services.get(at)?;
        self.loaded
            .get(at)?
            .get_or_init(|| index::unpack(self.frames(), entry.frame).ok().map(Arc::new))
            .clone()
    }

    fn load_all(&self, positions: Option<&Vec<usize>>) -> Vec<Arc<Service>> {
        positions.into_iter().flatten().filter_map(|at| self.load(*at)).collect()
    }

    fn frames(&self) -> &'static [u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }

    fn actions(&self) -> &Actions {
        self.actions.get_or_init(|| {
            let actions = index::unpack(self.frames(), self.contents.actions).unwrap_or_default();
            let users = index::unpack(self.frames(), self.contents.users).unwrap_or_default();
            Actions::new(actions, users)
        })
    }

    fn endpoints(&self) -> &Endpoints {
        self.endpoints
            .get_or_init(|| index::unpack(self.frames(), self.contents.endpoints).unwrap_or_default())
    }
}

fn position(contents: &Contents, id: &str) -> Option<usize> {
    contents.services.binary_search_by(|entry| entry.id.as_str().cmp(id)).ok()
}

#[cfg(test)]
mod tests;
