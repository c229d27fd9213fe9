//! The catalog itself: the table of contents at hand, each service unpacked when first asked for.
//!
//! Frames that do not unpack are treated as absent, so a damaged index makes operations unknown (and denied), never
//! wrongly known; the tests unpack every frame of the embedded one.

use crate::endpoint::{self, ServiceEndpoint};
use crate::iam_actions::{self, IamActions};
use crate::index_format::{self, EndpointTable, IndexError, ServiceEntry, TableOfContents};
use crate::service_model::{RequiredAction, ServiceModel};
use durward_core::AccessLevel;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

static EMBEDDED_INDEX: &[u8] = include_bytes!("../data/catalog.bin");

/// Scope services of S3's siblings, which are modelled in `s3` and `s3control` (facts/aws.md 1a).
const S3_SCOPE_ALIASES: [&str; 3] = ["s3express", "s3-outposts", "s3-object-lambda"];

pub struct Catalog {
    index_bytes: &'static [u8],
    /// Where the frames begin in `bytes`.
    frames_offset: usize,
    contents: TableOfContents,
    loaded_services: Vec<OnceLock<Option<Arc<ServiceModel>>>>,
    by_signing_name: HashMap<String, Vec<usize>>,
    by_target_prefix: HashMap<String, Vec<usize>>,
    iam_actions: OnceLock<IamActions>,
    endpoint_table: OnceLock<EndpointTable>,
}

impl Catalog {
    /// The catalog this binary was built with.
    pub fn embedded() -> &'static Self {
        static EMBEDDED_CATALOG: OnceLock<Catalog> = OnceLock::new();
        EMBEDDED_CATALOG.get_or_init(|| {
            Self::from_bytes(EMBEDDED_INDEX).expect("the embedded index was written by this crate's encode")
        })
    }

    /// A catalog over the bytes of an index.
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Self, IndexError> {
        let (contents, body) = index_format::decode_contents(bytes)?;
        let mut by_signing_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_target_prefix: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, entry) in contents.services.iter().enumerate() {
            for name in std::iter::once(&entry.signing_name).chain(&entry.extra_signing_names) {
                by_signing_name.entry(name.clone()).or_default().push(at);
            }
            if let Some(prefix) = &entry.target_prefix {
                by_target_prefix.entry(prefix.clone()).or_default().push(at);
            }
        }
        let s3: Vec<usize> =
            ["s3", "s3control"].iter().filter_map(|id| service_position(&contents, id)).collect();
        for alias in S3_SCOPE_ALIASES {
            by_signing_name.entry(alias.to_owned()).or_default().extend(&s3);
        }
        let loaded = contents.services.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            index_bytes: bytes,
            frames_offset: body,
            contents,
            loaded_services: loaded,
            by_signing_name,
            by_target_prefix,
            iam_actions: OnceLock::new(),
            endpoint_table: OnceLock::new(),
        })
    }

    /// Every service, sorted by id, without unpacking any.
    pub fn service_entries(&self) -> &[ServiceEntry] {
        &self.contents.services
    }

    /// The service with botocore's name `id`.
    pub fn service(&self, id: &str) -> Option<Arc<ServiceModel>> {
        self.load_service(service_position(&self.contents, id)?)
    }

    /// The services whose requests carry `signing_name` in their credential scope.
    pub fn services_signing_as(&self, signing_name: &str) -> Vec<Arc<ServiceModel>> {
        self.load_services(self.by_signing_name.get(signing_name))
    }

    /// Their ids, without unpacking them.
    pub fn service_ids_signing_as(&self, signing_name: &str) -> Vec<&str> {
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
    pub fn services_by_target_prefix(&self, prefix: &str) -> Vec<Arc<ServiceModel>> {
        self.load_services(self.by_target_prefix.get(prefix))
    }

    /// The service with this target prefix, when exactly one has it.
    pub fn service_by_target_prefix(&self, prefix: &str) -> Option<Arc<ServiceModel>> {
        match self.by_target_prefix.get(prefix)?.as_slice() {
            [one] => self.load_service(*one),
            _ => None,
        }
    }

    /// The access level of an IAM action, spelt exactly.
    pub fn access_level_of(&self, action: &str) -> Option<AccessLevel> {
        self.iam_actions().access_level(action)
    }

    /// Every action of one IAM prefix as (action with its prefix, level), sorted.
    pub fn actions_of(&self, prefix: &str) -> impl Iterator<Item = (String, AccessLevel)> + '_ {
        self.iam_actions().actions_of(prefix)
    }

    /// Every IAM prefix there is, sorted.
    pub fn iam_prefixes(&self) -> impl Iterator<Item = &str> {
        self.iam_actions().prefix_names()
    }

    /// The action a writer most likely meant by `text`, when one is near.
    pub fn nearest_action(&self, text: &str) -> Option<String> {
        self.iam_actions().nearest_action(text)
    }

    /// The operation that a writer most likely meant by `service` and `name`, as (service id, operation), when one is near.
    /// Services go by botocore's name, the IAM prefix or the signing name.
    pub fn nearest_operation(&self, service: &str, name: &str) -> Option<(String, String)> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let (service, name) = (plain(service), plain(name));
        let apart = |entry: &ServiceEntry| {
            let names = [&entry.id, &entry.iam_prefix, &entry.signing_name];
            names
                .into_iter()
                .map(|known| iam_actions::edit_distance(&service, &plain(known)))
                .min()
                .unwrap_or(usize::MAX)
        };
        let mut best: Option<(usize, String, String)> = None;
        for (at, entry) in self.contents.services.iter().enumerate() {
            let apart = apart(entry);
            if apart > iam_actions::MAX_EDIT_DISTANCE / 2 {
                continue;
            }
            for operation in self.load_service(at).iter().flat_map(|service| &service.operations) {
                let total = apart + iam_actions::edit_distance(&name, &plain(&operation.name));
                if total <= iam_actions::MAX_EDIT_DISTANCE
                    && best.as_ref().is_none_or(|(least, _, _)| total < *least)
                {
                    best = Some((total, entry.id.clone(), operation.name.clone()));
                }
            }
        }
        best.map(|(_, id, operation)| (id, operation))
    }

    /// The operations that need `action`, as (service id, operation name), sorted.
    pub fn operations_needing(&self, action: &str) -> Vec<(String, String)> {
        self.iam_actions()
            .operations_needing(action)
            .iter()
            .filter_map(|(at, operation)| {
                let entry = self.contents.services.get(*at as usize)?;
                Some((entry.id.clone(), operation.clone()))
            })
            .collect()
    }

    /// Whether an action is on resources, as IAM tells; of an action that nobody knows nobody can say that it is not.
    pub fn may_have_resources(&self, action: &str) -> bool {
        let has_one =
            |needed: &RequiredAction| needed.has_resource_level_permissions || !needed.resources.is_empty();
        self.required_actions_for(action).is_none_or(|uses| uses.iter().any(has_one))
    }

    /// How the operations that need an action use it. None: nobody knows of all of them.
    pub fn required_actions_for(&self, action: &str) -> Option<Vec<RequiredAction>> {
        let users = self.operations_needing(action);
        let mut uses = Vec::new();
        for (service, operation) in &users {
            let service = self.service(service)?;
            let needed = service.operation(operation)?.required_actions.iter();
            uses.extend(needed.filter(|needed| needed.action == action).cloned());
        }
        (!users.is_empty()).then_some(uses)
    }

    /// Where requests of `service_id` for `region` go, and how they are signed. `None` when the service is unknown, has no
    /// endpoint there, or `region` is not a region name.
    pub fn resolve_endpoint(&self, service_id: &str, region: &str) -> Option<ServiceEndpoint> {
        let at = service_position(&self.contents, service_id)?;
        let signing_name = &self.contents.services.get(at)?.signing_name;
        endpoint::resolve_endpoint(self.endpoint_table(), service_id, signing_name, region)
    }

    /// The partition (`aws`, `aws-cn`, `aws-us-gov`, ...) a region belongs to; `aws` for a name no partition claims, as the
    /// SDKs do.
    pub fn partition_of_region(&self, region: &str) -> &str {
        endpoint::find_partition(self.endpoint_table(), region)
            .map_or("aws", |partition| partition.id.as_str())
    }

    fn load_service(&self, at: usize) -> Option<Arc<ServiceModel>> {
        let entry = self.contents.services.get(at)?;
        self.loaded_services
            .get(at)?
            .get_or_init(|| index_format::decode_frame(self.frame_bytes(), entry.frame).ok().map(Arc::new))
            .clone()
    }

    fn load_services(&self, positions: Option<&Vec<usize>>) -> Vec<Arc<ServiceModel>> {
        positions.into_iter().flatten().filter_map(|at| self.load_service(*at)).collect()
    }

    fn frame_bytes(&self) -> &'static [u8] {
        self.index_bytes.get(self.frames_offset..).unwrap_or_default()
    }

    fn iam_actions(&self) -> &IamActions {
        self.iam_actions.get_or_init(|| {
            let actions =
                index_format::decode_frame(self.frame_bytes(), self.contents.iam_actions).unwrap_or_default();
            let users = index_format::decode_frame(self.frame_bytes(), self.contents.action_operations)
                .unwrap_or_default();
            IamActions::new(actions, users)
        })
    }

    fn endpoint_table(&self) -> &EndpointTable {
        self.endpoint_table.get_or_init(|| {
            index_format::decode_frame(self.frame_bytes(), self.contents.endpoints).unwrap_or_default()
        })
    }
}

fn service_position(contents: &TableOfContents, id: &str) -> Option<usize> {
    contents.services.binary_search_by(|entry| entry.id.as_str().cmp(id)).ok()
}

#[cfg(test)]
mod tests;
