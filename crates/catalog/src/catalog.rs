//! The catalog: the table of contents in memory, each service unpacked when it is first needed.
//!
//! A frame that does not unpack is treated as absent. So a corrupt index makes operations unknown, and denied, but never wrongly
//! known. The embedded index has no such frame: a test unpacks each of them.

use crate::endpoint::{self, ServiceEndpoint};
use crate::iam_actions::{self, IamActions};
use crate::index_format::{self, EndpointTable, IndexError, ServiceEntry, TableOfContents};
use crate::service_model::{RequiredAction, ServiceModel};
use durward_core::AccessLevel;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

static EMBEDDED_INDEX: &[u8] = include_bytes!("../data/catalog.bin");

/// The signing names of S3 Express, Outposts and Object Lambda. The models have their operations in `s3` and `s3control`.
const S3_SCOPE_ALIASES: [&str; 3] = ["s3express", "s3-outposts", "s3-object-lambda"];

/// The catalog over the bytes of one index.
pub struct Catalog {
    index_bytes: &'static [u8],
    /// The offset of the first frame in `index_bytes`.
    frames_offset: usize,
    contents: TableOfContents,
    loaded_services: Vec<OnceLock<Option<Arc<ServiceModel>>>>,
    by_signing_name: HashMap<String, Vec<usize>>,
    iam_actions: OnceLock<IamActions>,
    endpoint_table: OnceLock<EndpointTable>,
}

impl Catalog {
    /// The catalog that this binary was built with.
    pub fn embedded() -> &'static Self {
        static EMBEDDED_CATALOG: OnceLock<Catalog> = OnceLock::new();
        EMBEDDED_CATALOG.get_or_init(|| {
            Self::from_bytes(EMBEDDED_INDEX).expect("the embedded index was written by encode_index")
        })
    }

    /// A catalog over the bytes of an index.
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Self, IndexError> {
        let (contents, frames_offset) = index_format::decode_contents(bytes)?;
        let mut by_signing_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, entry) in contents.services.iter().enumerate() {
            for name in std::iter::once(&entry.signing_name).chain(&entry.extra_signing_names) {
                by_signing_name.entry(name.clone()).or_default().push(at);
            }
        }
        let s3: Vec<usize> =
            ["s3", "s3control"].iter().filter_map(|id| service_position(&contents, id)).collect();
        for alias in S3_SCOPE_ALIASES {
            by_signing_name.entry(alias.to_owned()).or_default().extend(&s3);
        }
        // Each service is unpacked when it is first used: a gateway uses a few of more than 400, and all of them would take
        // memory and time at the start.
        let loaded_services = contents.services.iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            index_bytes: bytes,
            frames_offset,
            contents,
            loaded_services,
            by_signing_name,
            iam_actions: OnceLock::new(),
            endpoint_table: OnceLock::new(),
        })
    }

    /// The entries of all services, sorted by id. No service is unpacked.
    pub fn service_entries(&self) -> &[ServiceEntry] {
        &self.contents.services
    }

    /// The service that botocore calls `id`.
    pub fn service(&self, id: &str) -> Option<Arc<ServiceModel>> {
        self.load_service(service_position(&self.contents, id)?)
    }

    /// The services whose requests carry `signing_name` in their credential scope.
    pub fn services_signing_as(&self, signing_name: &str) -> Vec<Arc<ServiceModel>> {
        self.load_services(self.by_signing_name.get(signing_name))
    }

    /// The ids of these services. None is unpacked.
    pub fn service_ids_signing_as(&self, signing_name: &str) -> Vec<&str> {
        let positions = self.by_signing_name.get(signing_name).map_or(&[][..], Vec::as_slice);
        positions
            .iter()
            .filter_map(|at| self.contents.services.get(*at))
            .map(|entry| entry.id.as_str())
            .collect()
    }

    /// The access level of an IAM action. The spelling must be exact.
    pub fn access_level_of(&self, action: &str) -> Option<AccessLevel> {
        self.iam_actions().access_level(action)
    }

    /// The actions of one IAM prefix with their access levels, sorted. The action includes its prefix.
    pub fn actions_of(&self, prefix: &str) -> impl Iterator<Item = (String, AccessLevel)> + '_ {
        self.iam_actions().actions_of(prefix)
    }

    /// All IAM prefixes, sorted.
    pub fn iam_prefixes(&self) -> impl Iterator<Item = &str> {
        self.iam_actions().prefix_names()
    }

    /// The action that was most likely meant by `text`, if one is near.
    pub fn nearest_action(&self, text: &str) -> Option<String> {
        self.iam_actions().nearest_action(text)
    }

    /// The operation that was most likely meant by `service` and `name`, as (service id, operation), if one is near. A service may be
    /// named by botocore's name, its IAM prefix or its signing name.
    pub fn nearest_operation(&self, service: &str, name: &str) -> Option<(String, String)> {
        let normalize = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let (service, name) = (normalize(service), normalize(name));
        let service_distance = |entry: &ServiceEntry| {
            let names = [&entry.id, &entry.iam_prefix, &entry.signing_name];
            names
                .into_iter()
                .map(|known| iam_actions::edit_distance(&service, &normalize(known)))
                .min()
                .unwrap_or(usize::MAX)
        };
        let mut best: Option<(usize, String, String)> = None;
        for (at, entry) in self.contents.services.iter().enumerate() {
            let distance = service_distance(entry);
            if distance > iam_actions::MAX_EDIT_DISTANCE / 2 {
                continue;
            }
            for operation in self.load_service(at).iter().flat_map(|service| &service.operations) {
                let total = distance + iam_actions::edit_distance(&name, &normalize(&operation.name));
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

    /// Returns true if an action may be on a resource. An unknown action may.
    pub fn may_have_resources(&self, action: &str) -> bool {
        let has_resource = |required: &RequiredAction| {
            required.has_resource_level_permissions || !required.resources.is_empty()
        };
        self.required_actions_for(action).is_none_or(|required| required.iter().any(has_resource))
    }

    /// The entries of an action in all operations that need it. `None` if no operation is known to need it, or if one of them cannot
    /// be read.
    pub fn required_actions_for(&self, action: &str) -> Option<Vec<RequiredAction>> {
        let operations = self.operations_needing(action);
        let mut found = Vec::new();
        for (service, operation) in &operations {
            // `None` and not a shorter list: with a part missing, an action could seem unable to affect a resource.
            let service = self.service(service)?;
            let required = service.operation(operation)?.required_actions.iter();
            found.extend(required.filter(|required| required.action == action).cloned());
        }
        (!operations.is_empty()).then_some(found)
    }

    /// The endpoint of `service_id` in `region`, and how requests to it are signed. `None` if the service is unknown or has no endpoint
    /// there, or if `region` is no region name.
    pub fn resolve_endpoint(&self, service_id: &str, region: &str) -> Option<ServiceEndpoint> {
        let at = service_position(&self.contents, service_id)?;
        let signing_name = &self.contents.services.get(at)?.signing_name;
        endpoint::resolve_endpoint(self.endpoint_table(), service_id, signing_name, region)
    }

    /// The partition (`aws`, `aws-cn`, `aws-us-gov`, ...) of a region. It is `aws` for a name that matches no partition, as in the SDKs.
    pub fn partition_of_region(&self, region: &str) -> &str {
        endpoint::find_partition(self.endpoint_table(), region)
            .map_or("aws", |partition| partition.id.as_str())
    }

    fn load_service(&self, at: usize) -> Option<Arc<ServiceModel>> {
        let entry = self.contents.services.get(at)?;
        self.loaded_services
            .get(at)?
            .get_or_init(|| {
                let mut service: ServiceModel =
                    index_format::decode_frame(self.frame_bytes(), entry.frame).ok()?;
                service.mark_returned_members();
                service.mark_shapes();
                Some(Arc::new(service))
            })
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
            let operations = index_format::decode_frame(self.frame_bytes(), self.contents.action_operations)
                .unwrap_or_default();
            IamActions::new(actions, operations)
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
