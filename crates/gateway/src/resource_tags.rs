//! The tags of resources, for policies that read them: live tags from AWS, overridden by labels from the configuration.
//!
//! A tag that cannot be read never counts as a missing tag: the operation is refused. Live tags are cached for a short time, and
//! dropped at once when a call that may change them passes through. They are read with a credential that is scoped to that read.

use crate::aws_client::{AwsClient, AwsSendError, UnsignedAwsRequest};
use crate::body::{full_body, read_limited_body};
use crate::exchange::{Exchange, Identity};
use bytes::Bytes;
use durward_aws::sigv4::sha256_hex;
use durward_aws::tags::{TagLookup, TagPage, UnsignedRequest, find_tag_lookup, taggable_resource};
use durward_catalog::Catalog;
use durward_core::{
    AccessLevel, Arn, FrontEndKind, Operation, OperationTraits, Refusal, RefusalReason, RequiredPermission,
    Resource, ResourceTags, arn_matches, arn_may_match, lock_ignoring_poison,
};
use durward_credential::{ConnectionConfig, IssuedCredential};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// The time for which live tags are used: a change made outside this gateway takes effect after it.
const TAG_CACHE_TTL: Duration = Duration::from_secs(30);
/// Resources whose tags are cached.
const MAX_CACHED_RESOURCES: usize = 4_096;
/// Resources of one operation whose tags are read: each may cost a call to AWS.
const MAX_RESOURCES_PER_OPERATION: usize = 100;
/// Pages of tags of one resource. AWS allows 50 user tags on most resources (Tagging AWS Resources User Guide, "Tag naming limits
/// and requirements"), and DynamoDB returns ten a page.
const MAX_TAG_PAGES: usize = 10;
/// Largest response, in bytes.
const MAX_TAG_RESPONSE_BYTES: usize = 1 << 20;
const TAG_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Tags that the configuration assigns to every resource whose ARN matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLabel {
    /// An ARN in which `*` matches any text and `?` one character.
    pub arn_pattern: String,
    pub tags: BTreeMap<String, String>,
}

/// The sources of tags.
#[derive(Debug, Default)]
pub struct TagReaderOptions {
    pub labels: Vec<ResourceLabel>,
    /// Read live tags from AWS. Without it, labels are the only tags.
    pub reads_from_aws: bool,
    /// The roles that read tags, by the connection that they read for. Without one, the connection's own role reads them.
    pub reader_connections: HashMap<String, ConnectionConfig>,
}

type TagMap = BTreeMap<String, String>;
/// A connection and the ARN of a resource.
type TagCacheKey = (String, String);

#[derive(Debug)]
struct CachedTags {
    created_at: Instant,
    tags: OnceCell<TagMap>,
}

/// Reads the tags of resources.
pub struct TagReader {
    aws_client: Arc<AwsClient>,
    options: TagReaderOptions,
    cache: Mutex<HashMap<TagCacheKey, Arc<CachedTags>>>,
}

/// The age that tags may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagFreshness {
    /// From the cache, if they are there.
    Recent,
    /// Read now: when a grant is consumed.
    Current,
}

impl TagReader {
    pub fn new(aws_client: Arc<AwsClient>, options: TagReaderOptions) -> Self {
        Self { aws_client, options, cache: Mutex::default() }
    }

    /// The tags of these resources of an operation.
    pub async fn read_tags(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        operation: &Operation,
        arns: &[&str],
        freshness: TagFreshness,
    ) -> Result<ResourceTags, Refusal> {
        let mut tags_by_arn = ResourceTags::new();
        let taggable_arns: BTreeSet<&str> = arns.iter().map(|arn| taggable_resource(arn)).collect();
        if taggable_arns.len() > MAX_RESOURCES_PER_OPERATION {
            return Err(unreadable_tags(
                &format!("it concerns more than {MAX_RESOURCES_PER_OPERATION} resources"),
                &operation.qualified_name(),
            ));
        }
        for arn in arns {
            let taggable_arn = taggable_resource(arn);
            if is_arn_pattern(taggable_arn) {
                return Err(unreadable_tags("the request does not name the resources one by one", arn));
            }
            let owner = Arn::parse(taggable_arn).map_or("", |arn| arn.account);
            if !owner.is_empty() && operation.account.as_deref().is_some_and(|account| account != owner) {
                return Err(unreadable_tags("it belongs to another account than the connection", arn));
            }
            let mut tags = TagMap::new();
            if self.options.reads_from_aws {
                let context = TagReadContext { exchange, identity, operation, reader: self };
                tags = self.read_live_tags(&context, taggable_arn, freshness).await?;
            }
            // Labels override live tags, so that a caller who may tag resources in AWS cannot change a label.
            for label in &self.options.labels {
                if arn_matches(&label.arn_pattern, taggable_arn) || arn_matches(&label.arn_pattern, arn) {
                    tags.extend(label.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
                } else if (is_arn_pattern(arn) && patterns_may_overlap(&label.arn_pattern, arn))
                    || arn_may_match(arn, &label.arn_pattern)
                {
                    return Err(unreadable_tags(
                        "some of the resources that it matches may have labels of their own",
                        arn,
                    ));
                }
            }
            tags_by_arn.insert((*arn).to_owned(), tags);
        }
        Ok(tags_by_arn)
    }

    /// Refuses if one of these actions acts on resources that the request does not name.
    pub fn refuse_unnamed_resources(&self, actions: &[&str]) -> Result<(), Refusal> {
        let catalog = self.aws_client.catalog();
        match actions.iter().find(|action| catalog.may_have_resources(action)) {
            Some(action) => {
                Err(unreadable_tags("the request does not name its resource by ARN or id", action))
            }
            None => Ok(()),
        }
    }

    async fn read_live_tags(
        &self,
        context: &TagReadContext<'_>,
        arn: &str,
        freshness: TagFreshness,
    ) -> Result<TagMap, Refusal> {
        let key = (context.identity.connection.clone(), arn.to_owned());
        let cached = self.get_or_create_entry(&key, freshness);
        // Single-flight: one request reads, and the others that need the same tags wait for it.
        let tags = cached.tags.get_or_try_init(|| Box::pin(context.fetch_tags(arn))).await;
        match tags {
            Ok(tags) => Ok(tags.clone()),
            // Not cached: it may be created with tags the next moment.
            Err(TagReadError::ResourceNotFound) => {
                self.remove_entry(&key, &cached);
                Ok(TagMap::new())
            }
            Err(TagReadError::Refused(refusal)) => {
                self.remove_entry(&key, &cached);
                Err(refusal)
            }
        }
    }

    fn lock_cache(&self) -> std::sync::MutexGuard<'_, HashMap<TagCacheKey, Arc<CachedTags>>> {
        lock_ignoring_poison(&self.cache)
    }

    fn get_or_create_entry(&self, key: &TagCacheKey, freshness: TagFreshness) -> Arc<CachedTags> {
        let mut cache = self.lock_cache();
        if freshness == TagFreshness::Recent
            && let Some(cached) = cache.get(key).filter(|cached| cached.created_at.elapsed() < TAG_CACHE_TTL)
        {
            return cached.clone();
        }
        if cache.len() >= MAX_CACHED_RESOURCES {
            cache.retain(|_, cached| cached.created_at.elapsed() < TAG_CACHE_TTL);
            if cache.len() >= MAX_CACHED_RESOURCES {
                // A cache full of fresh entries is dropped whole: that costs reads, and never gives wrong tags.
                cache.clear();
            }
        }
        let cached = Arc::new(CachedTags { created_at: Instant::now(), tags: OnceCell::new() });
        cache.insert(key.clone(), cached.clone());
        cached
    }

    fn remove_entry(&self, key: &TagCacheKey, entry: &Arc<CachedTags>) {
        let mut cache = self.lock_cache();
        if cache.get(key).is_some_and(|cached| Arc::ptr_eq(cached, entry)) {
            cache.remove(key);
        }
    }

    /// Drops the cached tags that an operation may change, now and again when the guard is dropped: a read in between may have
    /// cached the old ones.
    pub fn begin_invalidation(&self, operation: &Operation) -> Option<TagInvalidation<'_>> {
        if !self.options.reads_from_aws || !may_change_tags(operation) {
            return None;
        }
        let exact_arn = |permission: &RequiredPermission| match &permission.resource {
            Resource::Arn(arn) => Some(taggable_resource(arn).to_owned()).filter(|arn| !is_arn_pattern(arn)),
            _ => None,
        };
        let invalidation = TagInvalidation {
            reader: self,
            resource_arns: operation.required_permissions.iter().map(exact_arn).collect(),
        };
        invalidation.invalidate_cache();
        Some(invalidation)
    }
}

/// Returns true if an operation acts on a resource that the request does not name.
pub(crate) fn has_unnamed_resource(catalog: &Catalog, operation: &Operation) -> bool {
    operation
        .required_permissions
        .iter()
        .filter(|permission| permission.resource == Resource::Any)
        .any(|permission| catalog.may_have_resources(&permission.action))
}

/// True for tagging calls, and for calls that may create, replace or remove a resource.
fn may_change_tags(operation: &Operation) -> bool {
    let level = operation.access_level();
    level == AccessLevel::Tagging
        || (level > AccessLevel::Read
            && (["Tag", "Create", "Delete", "Update", "Import", "Restore"]
                .iter()
                .any(|word| operation.name.contains(word))
                || durward_core::collect_request_tags(operation).is_none_or(|tags| !tags.is_empty())))
}

/// An operation under way that may change tags.
pub struct TagInvalidation<'a> {
    reader: &'a TagReader,
    /// `None` where the request does not name its resources exactly: the whole cache is dropped.
    resource_arns: Option<Vec<String>>,
}

impl TagInvalidation<'_> {
    fn invalidate_cache(&self) {
        let mut cache = self.reader.lock_cache();
        match &self.resource_arns {
            Some(arns) => cache.retain(|(_, arn), _| !arns.contains(arn)),
            None => cache.clear(),
        }
    }
}

impl Drop for TagInvalidation<'_> {
    fn drop(&mut self) {
        self.invalidate_cache();
    }
}

/// The reasons for which no tags were read.
enum TagReadError {
    /// The resource does not exist, so it has no tags.
    ResourceNotFound,
    Refused(Refusal),
}

impl From<Refusal> for TagReadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The request that tags are read for.
struct TagReadContext<'a> {
    exchange: &'a Exchange,
    identity: &'a Identity,
    operation: &'a Operation,
    reader: &'a TagReader,
}

impl TagReadContext<'_> {
    async fn fetch_tags(&self, arn: &str) -> Result<TagMap, TagReadError> {
        // The ARNs of buckets and of IAM entities have no region.
        let region = match Arn::parse(arn) {
            Some(Arn { region, .. }) if !region.is_empty() => region,
            _ => self.operation.region.as_deref().unwrap_or("us-east-1"),
        };
        let lookup = find_tag_lookup(self.reader.aws_client.catalog(), arn, region).ok_or_else(|| {
            unreadable_tags(
                "no API call is known that lists them; give the resource a label in the configuration",
                arn,
            )
        })?;
        let mut region = region.to_owned();
        let mut tags = TagMap::new();
        let mut next_token: Option<String> = None;
        for _ in 0..MAX_TAG_PAGES {
            let request = lookup.build_request(next_token.as_deref()).ok_or_else(|| {
                unreadable_tags(
                    "there is more than one page, and the service has no way to ask for the next",
                    arn,
                )
            })?;
            let mut response = self.send_tag_request(arn, &lookup, &request, &region).await?;
            // A bucket ARN has no region, so the first request may go to the wrong one.
            if let Some(other) = redirected_region(&response).filter(|other| *other != region) {
                region = other;
                response = self.send_tag_request(arn, &lookup, &request, &region).await?;
            }
            let page = lookup.parse_response(response.status().as_u16(), response.body());
            let TagPage { tags: page_tags, next_token: following, is_resource_missing } =
                page.map_err(|error| unreadable_tags(&error.to_string(), arn))?;
            if is_resource_missing {
                return Err(TagReadError::ResourceNotFound);
            }
            tags.extend(page_tags);
            match following {
                Some(token) => next_token = Some(token),
                None => return Ok(tags),
            }
        }
        Err(unreadable_tags("there are too many pages", arn).into())
    }

    async fn send_tag_request(
        &self,
        arn: &str,
        lookup: &TagLookup,
        request: &UnsignedRequest,
        region: &str,
    ) -> Result<http::Response<Bytes>, Refusal> {
        let failed = |why: &str| unreadable_tags(why, arn);
        let unwritable = || failed("the request cannot be written");
        let aws_client = &self.reader.aws_client;
        let endpoint = aws_client
            .resolve_endpoint(&lookup.service.id, &lookup.service.signing_name, region)
            .ok_or_else(|| failed("no endpoint is known"))?;
        let credential = self.issue_read_credential(lookup, arn).await?;
        let mut headers = HeaderMap::new();
        for (name, text) in &request.headers {
            let value = HeaderValue::from_str(text).map_err(|_error| unwritable())?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let unsigned = UnsignedAwsRequest {
            method: request.method.parse().map_err(|_error| unwritable())?,
            path: request.path.clone(),
            query: request.query.clone(),
            headers,
            payload_hash: sha256_hex(request.body.as_bytes()),
            body: full_body(request.body.clone()),
        };
        let exchange = async {
            let response =
                aws_client.send(&endpoint, &credential, unsigned).await.map_err(|error| match error {
                    AwsSendError::Unwritable(why) => unwritable().with_detail(why),
                    AwsSendError::Upstream(error) => failed("AWS could not be reached").with_detail(error),
                })?;
            let (head, body) = response.into_parts();
            let body = read_limited_body(body, MAX_TAG_RESPONSE_BYTES, "response")
                .await
                .map_err(|refusal| failed("AWS's response could not be read").with_detail(refusal))?;
            Ok(http::Response::from_parts(head, body))
        };
        tokio::time::timeout(TAG_READ_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_elapsed| Err(failed("AWS did not respond in time")))
    }

    /// A credential for this read only, recorded like any other.
    async fn issue_read_credential(
        &self,
        lookup: &TagLookup,
        arn: &str,
    ) -> Result<Arc<IssuedCredential>, Refusal> {
        let operation = Operation {
            front_end: FrontEndKind::Aws,
            service: lookup.service.iam_prefix.clone(),
            name: lookup.operation_model().map(|operation| operation.name.clone()).unwrap_or_default(),
            required_permissions: lookup.required_permissions.clone(),
            parameters: serde_json::Value::Object(serde_json::Map::new()),
            sensitive_pointers: Vec::new(),
            region: self.operation.region.clone(),
            account: self.operation.account.clone(),
            traits: OperationTraits::default(),
            uninspected_parts: Vec::new(),
            body_sha256: None,
        };
        let aws_client = &self.reader.aws_client;
        let connection = match self.reader.options.reader_connections.get(&self.identity.connection) {
            Some(reader) => reader,
            None => aws_client.connections().find(&self.identity.connection)?,
        };
        aws_client.issue(self.exchange, self.identity, connection, &operation).await.map_err(|refusal| {
            unreadable_tags("no credential to read them could be obtained", arn).with_detail(refusal)
        })
    }
}

/// The region of a bucket, when S3 refuses a request that came to another region (`x-amz-bucket-region`, S3 API reference,
/// `HeadBucket`).
fn redirected_region(response: &http::Response<Bytes>) -> Option<String> {
    let region = response.headers().get("x-amz-bucket-region")?.to_str().ok()?;
    (!response.status().is_success()).then(|| region.to_owned())
}

fn unreadable_tags(why: &str, arn: &str) -> Refusal {
    Refusal::new(
        RefusalReason::TagsUnavailable,
        format!("a policy reads the tags of {arn}, and they cannot be read: {why}"),
    )
}

fn is_arn_pattern(arn: &str) -> bool {
    arn.contains(['*', '?'])
}

/// Returns true if two patterns may match the same ARN, or if that is not certain.
fn patterns_may_overlap(one: &str, other: &str) -> bool {
    let literal = |pattern: &str| pattern.split(['*', '?']).next().unwrap_or_default().to_owned();
    // Only the text before the first wildcard is compared. Two patterns that differ there cannot overlap.
    let (one, other) = (literal(one), literal(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_labels_that_may_match_the_same_resource() {
        for (label, pattern, expected) in [
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/*", true),
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/secret/x*", true),
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/public/*", false),
            ("arn:aws:s3:::other*", "arn:aws:s3:::b/*", false),
        ] {
            assert_eq!(patterns_may_overlap(label, pattern), expected, "{label} {pattern}");
        }
    }
}
