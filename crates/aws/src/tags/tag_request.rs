//! Requests for the tags of a resource. Most services have one operation that takes an ARN and returns the tags, which the
//! catalog shows; services that name the resource in another way are listed here.

use crate::sigv4::percent_encode;
use durward_catalog::{AwsProtocol, Catalog, MemberLocation, OperationModel, ServiceModel};
use durward_core::{Arn, RequiredPermission, Resource};
use std::sync::Arc;

/// Names of operations that list the tags of one resource, the most common first.
const LIST_TAGS_OPERATIONS: [&str; 7] = [
    "ListTagsForResource",
    "ListTagsOfResource",
    "ListResourceTags",
    "ListTags",
    "GetTags",
    "ListTagsForCertificate",
    "ListTagsForDeliveryStream",
];

/// Input members that take the token of the next page.
const PAGE_TOKEN_INPUTS: [&str; 4] = ["NextToken", "nextToken", "Marker", "marker"];

/// A call that returns the tags of one resource.
#[derive(Debug, Clone)]
pub struct TagLookup {
    pub service: Arc<ServiceModel>,
    operation_index: usize,
    protocol: AwsProtocol,
    /// The permissions that the credential for the call needs.
    pub required_permissions: Vec<RequiredPermission>,
    /// Input members and their values; in the query protocols the names in the form.
    parameters: Vec<(String, String)>,
}

/// A request that still lacks its host and signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// The ARN of the resource whose tags apply to `arn`: the bucket of an S3 object, the function of a version, the table of an
/// index or stream, the log group of a log stream.
pub fn taggable_resource(arn: &str) -> &str {
    let Some(fields) = Arn::parse(arn) else { return arn };
    let head = arn.len() - fields.resource.len();
    let first_parts = |separator: char, count: usize| {
        let end = fields.resource.match_indices(separator).nth(count - 1).map(|(at, _)| head + at);
        end.and_then(|end| arn.get(..end)).unwrap_or(arn)
    };
    match fields.service {
        "s3" if fields.region.is_empty() => first_parts('/', 1),
        "lambda" if fields.resource.starts_with("function:") => first_parts(':', 2),
        "dynamodb" if fields.resource.starts_with("table/") => first_parts('/', 2),
        "logs" if fields.resource.starts_with("log-group:") => first_parts(':', 2),
        _ => arn,
    }
}

/// Finds the call that returns the tags of a resource, as [`taggable_resource`] gives it. `None` if no call is known: then its
/// tags are unknown, not absent.
pub fn find_tag_lookup(catalog: &Catalog, arn: &str, region: &str) -> Option<TagLookup> {
    let fields = Arn::parse(arn)?;
    let (kind, name) = fields.resource.split_once(['/', ':']).unwrap_or(("", fields.resource));
    let last = fields.resource.rsplit('/').next().unwrap_or_default().to_owned();
    let call = |id: &str, operation: &str, member: &str, value: String| {
        TagLookup::new(catalog.service(id)?, operation, vec![(member.to_owned(), value)], arn)
    };
    match (fields.service, kind) {
        ("s3", "") if fields.region.is_empty() => {
            call("s3", "GetBucketTagging", "Bucket", fields.resource.to_owned())
        }
        // The tags of a queue are listed by its URL, not by its ARN (SQS API Reference, ListQueueTags).
        ("sqs", "") => {
            let host = catalog.resolve_endpoint("sqs", region)?.host;
            let url = format!("https://{host}/{}/{}", fields.account, fields.resource);
            call("sqs", "ListQueueTags", "QueueUrl", url)
        }
        // The ARN has the path of a role or user in it; these operations take the name alone.
        ("iam", "role") => call("iam", "ListRoleTags", "RoleName", last),
        ("iam", "user") => call("iam", "ListUserTags", "UserName", last),
        ("iam", "instance-profile") => call("iam", "ListInstanceProfileTags", "InstanceProfileName", last),
        ("iam", "policy") => call("iam", "ListPolicyTags", "PolicyArn", arn.to_owned()),
        ("kms", "key") => call("kms", "ListResourceTags", "KeyId", arn.to_owned()),
        // Secrets Manager and CloudFormation have no operation that lists tags alone.
        ("secretsmanager", "secret") => call("secretsmanager", "DescribeSecret", "SecretId", arn.to_owned()),
        ("cloudformation", "stack") => call("cloudformation", "DescribeStacks", "StackName", arn.to_owned()),
        ("firehose", "deliverystream") => {
            call("firehose", "ListTagsForDeliveryStream", "DeliveryStreamName", name.to_owned())
        }
        ("ssm", "parameter") => {
            // The ARN of `/a/b` is `parameter/a/b`: the leading slash of a hierarchy is not repeated.
            let full = if name.contains('/') { format!("/{name}") } else { name.to_owned() };
            let parameters =
                vec![("ResourceId".to_owned(), full), ("ResourceType".to_owned(), "Parameter".to_owned())];
            TagLookup::new(catalog.service("ssm")?, "ListTagsForResource", parameters, arn)
        }
        // Requests may give these by name. DescribeTags takes only ids, and a name may look like one.
        ("ec2", "key-pair") if !name.starts_with("key-") => None,
        ("ec2", "placement-group") if !name.starts_with("pg-") => None,
        ("ec2", _) if !is_ec2_resource_id(name) => None,
        ("ec2", _) => {
            let filter = vec![
                ("Filter.1.Name".to_owned(), "resource-id".to_owned()),
                ("Filter.1.Value.1".to_owned(), name.to_owned()),
            ];
            TagLookup::new(catalog.service("ec2")?, "DescribeTags", filter, arn)
        }
        ("elasticloadbalancing", _) => {
            // The ARN of a classic load balancer ends in its name; the others name their kind first (`loadbalancer/app/...`).
            let is_classic = kind == "loadbalancer" && !name.contains('/');
            let (id, member, value) = if is_classic {
                ("elb", "LoadBalancerNames.member.1", name)
            } else {
                ("elbv2", "ResourceArns.member.1", arn)
            };
            call(id, "DescribeTags", member, value.to_owned())
        }
        _ => find_list_tags_operation(catalog, fields.service, arn),
    }
}

/// Returns true for a name like `sg-0123456789abcdef0`: words, then 8 or 17 hexadecimal digits (EC2 User Guide, "Resource IDs").
fn is_ec2_resource_id(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(words, digits)| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
            && words.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

/// Finds the operation of a service that takes an ARN and lists tags.
fn find_list_tags_operation(catalog: &Catalog, prefix: &str, arn: &str) -> Option<TagLookup> {
    let mut ids: Vec<&str> = catalog
        .service_entries()
        .iter()
        .filter(|entry| entry.iam_prefix == prefix || entry.signing_name == prefix)
        .map(|entry| entry.id.as_str())
        .collect();
    ids.sort_by_key(|id| *id != prefix);
    ids.into_iter().filter_map(|id| catalog.service(id)).find_map(|service| {
        LIST_TAGS_OPERATIONS.iter().find_map(|name| {
            let member = find_arn_member(&service, service.operation(name)?)?;
            TagLookup::new(service.clone(), name, vec![(member, arn.to_owned())], arn)
        })
    })
}

/// The input member that takes the ARN, if the operation requires no other.
fn find_arn_member(service: &ServiceModel, operation: &OperationModel) -> Option<String> {
    let takes_arn = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.ends_with("arn") || matches!(name.as_str(), "resource" | "resourcename")
    };
    let members = service.structure_members(operation.input_shape?);
    let mut required = members.iter().filter(|member| member.is_required);
    let member = match (required.next(), required.next()) {
        (Some(only), None) => only,
        (None, _) => members.iter().find(|member| takes_arn(&member.name))?,
        _ => return None,
    };
    takes_arn(&member.name).then(|| member.name.clone())
}

impl TagLookup {
    fn new(
        service: Arc<ServiceModel>,
        operation: &str,
        parameters: Vec<(String, String)>,
        arn: &str,
    ) -> Option<Self> {
        let operation_index = service.operation_index(operation)?;
        let model = service.operations.get(operation_index)?;
        // Without a known output member, a response with tags would parse as one without.
        service
            .structure_members(model.output_shape?)
            .iter()
            .find(|member| super::tag_containers::holds_tags(&member.name))?;
        // `build_request` writes no CBOR. A service that speaks nothing else has no lookup, so its tags are unknown.
        let protocol = service.protocols.iter().copied().find(|known| *known != AwsProtocol::RpcV2Cbor)?;
        let required_permissions: Vec<RequiredPermission> = model
            .required_actions
            .iter()
            .filter(|needed| needed.required_if_member.is_none())
            .map(|needed| RequiredPermission {
                access_level: needed.access_level,
                action: needed.action.clone(),
                resource: if needed.resources.is_empty() {
                    Resource::Any
                } else {
                    Resource::Arn(arn.to_owned())
                },
            })
            .collect();
        (!required_permissions.is_empty()).then_some(Self {
            service,
            operation_index,
            protocol,
            required_permissions,
            parameters,
        })
    }

    /// The model of the operation that is called.
    pub fn operation_model(&self) -> Option<&OperationModel> {
        self.service.operations.get(self.operation_index)
    }

    pub(super) fn protocol(&self) -> AwsProtocol {
        self.protocol
    }

    /// Builds the request for the page after the token `page`. `None` if the operation has no pages.
    pub fn build_request(&self, page: Option<&str>) -> Option<UnsignedRequest> {
        let operation = self.operation_model()?;
        let mut parameters = self.parameters.clone();
        if let Some(page) = page {
            let members = self.service.structure_members(operation.input_shape?);
            let member = members.iter().find(|member| PAGE_TOKEN_INPUTS.contains(&member.name.as_str()))?;
            parameters.push((member.name.clone(), page.to_owned()));
        }
        match self.protocol {
            AwsProtocol::Json10 | AwsProtocol::Json11 => self.build_json_request(operation, &parameters),
            AwsProtocol::Query | AwsProtocol::Ec2 => Some(self.build_form_request(operation, &parameters)),
            AwsProtocol::RestJson | AwsProtocol::RestXml => self.build_rest_request(operation, &parameters),
            AwsProtocol::RpcV2Cbor => None,
        }
    }

    fn wire_name_and_location<'a>(
        &'a self,
        operation: &OperationModel,
        name: &'a str,
    ) -> (&'a str, MemberLocation) {
        let members =
            operation.input_shape.map(|input| self.service.structure_members(input)).unwrap_or_default();
        members.iter().find(|member| member.name == name).map_or((name, MemberLocation::Body), |member| {
            (member.wire_name.as_deref().unwrap_or(&member.name), member.location)
        })
    }

    fn build_json_request(
        &self,
        operation: &OperationModel,
        parameters: &[(String, String)],
    ) -> Option<UnsignedRequest> {
        let version = if self.protocol == AwsProtocol::Json10 { "1.0" } else { "1.1" };
        let target = self.service.target_prefix.as_deref()?;
        let members: serde_json::Map<String, serde_json::Value> = parameters
            .iter()
            .map(|(name, value)| {
                (
                    self.wire_name_and_location(operation, name).0.to_owned(),
                    serde_json::Value::from(value.as_str()),
                )
            })
            .collect();
        Some(UnsignedRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![
                ("content-type", format!("application/x-amz-json-{version}")),
                ("x-amz-target", format!("{target}.{}", operation.name)),
            ],
            body: serde_json::Value::Object(members).to_string(),
        })
    }

    fn build_form_request(
        &self,
        operation: &OperationModel,
        parameters: &[(String, String)],
    ) -> UnsignedRequest {
        let mut body = format!("Action={}&Version={}", operation.name, self.service.api_version);
        for (name, value) in parameters {
            let (name, _) = self.wire_name_and_location(operation, name);
            for part in ["&", name, "=", &percent_encode(value.as_bytes())] {
                body.push_str(part);
            }
        }
        UnsignedRequest {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())],
            body,
        }
    }

    fn build_rest_request(
        &self,
        operation: &OperationModel,
        parameters: &[(String, String)],
    ) -> Option<UnsignedRequest> {
        let mut path = operation.path_template.clone();
        let mut query: Vec<String> = operation
            .query_literals
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={}", percent_encode(value.as_bytes())),
                None => name.clone(),
            })
            .collect();
        let mut members = serde_json::Map::new();
        for (name, value) in parameters {
            let (wire, location) = self.wire_name_and_location(operation, name);
            let encoded = percent_encode(value.as_bytes());
            match location {
                MemberLocation::Uri => {
                    path = path
                        .replace(&format!("{{{wire}+}}"), &encoded)
                        .replace(&format!("{{{wire}}}"), &encoded);
                }
                MemberLocation::Query => query.push(format!("{wire}={encoded}")),
                MemberLocation::Body if self.protocol == AwsProtocol::RestJson => {
                    members.insert(wire.to_owned(), serde_json::Value::from(value.as_str()));
                }
                _ => return None,
            }
        }
        if path.contains('{') {
            return None;
        }
        let body =
            if members.is_empty() { String::new() } else { serde_json::Value::Object(members).to_string() };
        let headers =
            if body.is_empty() { Vec::new() } else { vec![("content-type", "application/json".to_owned())] };
        Some(UnsignedRequest {
            method: operation.http_method.clone(),
            path,
            query: query.join("&"),
            headers,
            body,
        })
    }
}
