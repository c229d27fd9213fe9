//! The tags of resources, for policies that read them: what AWS says now, and over it what the configuration says.
//!
//! Promise: a tag that cannot be read is not "no tag"; the operation is refused. What AWS said is used for a short while, and
//! forgotten at once when a call that may change it passes through. Reading is done with a credential cut to that one read.

use crate::line::{Exchange, Identity};
use crate::rooms::Rooms;
use crate::transport::Origin;
use bytes::Bytes;
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_aws::sigv4::{SigningKey, inbound::format_timestamp, sha256_hex};
use durward_aws::tags::{Page, TagCall, WireCall, holder, tag_call};
use durward_catalog::Catalog;
use durward_core::{
    AccessLevel, Arn, Demand, Door, Operation, Reason, Refusal, Resource, ResourceTags, Traits, arn_matches,
    arn_may_be,
};
use durward_credential::{ConnectionConfig, LendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// How long what AWS said is used: so long may a tag that was changed past this gateway be old.
const FRESH: Duration = Duration::from_secs(30);
/// Resources whose tags are kept.
const KEPT: usize = 4_096;
/// Resources of one operation whose tags are read.
const MOST: usize = 100;
/// Pages of tags of one resource: AWS allows 50 tags, DynamoDB gives ten a page.
const PAGES: usize = 10;
/// Largest answer, in bytes.
const ANSWER: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Tags that the configuration gives to every resource whose ARN matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// An ARN in which `*` stands for any text and `?` for one character.
    pub arn: String,
    pub tags: BTreeMap<String, String>,
}

/// How tags are read.
#[derive(Debug, Default)]
pub struct TagOptions {
    pub labels: Vec<Label>,
    /// Ask AWS; otherwise the labels are all the tags there are.
    pub live: bool,
    /// Every service is here.
    pub emulator: Option<Origin>,
    /// The roles that read tags, by the connection they read for; without one, the connection's own.
    pub readers: HashMap<String, ConnectionConfig>,
}

type Tags = BTreeMap<String, String>;
/// A connection and the ARN of a resource.
type Key = (String, String);

#[derive(Debug)]
struct Cached {
    at: Instant,
    tags: OnceCell<Tags>,
}

/// Reads tags.
#[derive(Debug)]
pub struct TagReader {
    options: TagOptions,
    cache: Mutex<HashMap<Key, Arc<Cached>>>,
}

/// How old the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As of the last half minute.
    Recent,
    /// As of now: when an approval is used.
    Now,
}

impl TagReader {
    pub fn new(options: TagOptions) -> Self {
        Self { options, cache: Mutex::default() }
    }

    /// The tags of these resources of an operation.
    pub async fn read(
        &self,
        rooms: &Rooms,
        exchange: &Exchange,
        identity: &Identity,
        operation: &Operation,
        arns: &[&str],
        freshness: Freshness,
    ) -> Result<ResourceTags, Refusal> {
        let mut read = ResourceTags::new();
        let wholes: BTreeSet<&str> = arns.iter().map(|arn| holder(arn)).collect();
        if wholes.len() > MOST {
            return Err(unknown(&format!("it touches more than {MOST} resources"), &operation.title()));
        }
        for arn in arns {
            let whole = holder(arn);
            if is_pattern(whole) {
                return Err(unknown("the request does not name the resources one by one", arn));
            }
            let theirs = Arn::parse(whole).map_or("", |arn| arn.account);
            if !theirs.is_empty() && operation.account.as_deref().is_some_and(|ours| ours != theirs) {
                return Err(unknown("it belongs to another account than the connection", arn));
            }
            let mut tags = Tags::new();
            if self.options.live {
                let reading = Reading { rooms, exchange, identity, operation, reader: self };
                tags = self.live(&reading, whole, freshness).await?;
            }
            // What the operator says of the whole and of the part counts, whatever AWS says.
            for label in &self.options.labels {
                if arn_matches(&label.arn, whole) || arn_matches(&label.arn, arn) {
                    tags.extend(label.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
                } else if (is_pattern(arn) && may_meet(&label.arn, arn)) || arn_may_be(arn, &label.arn) {
                    return Err(unknown("some of what it touches may have labels of its own", arn));
                }
            }
            read.insert((*arn).to_owned(), tags);
        }
        Ok(read)
    }

    /// Refuses if one of these actions is on resources that the request could have named and does not.
    pub fn refuse_unnamed(&self, catalog: &Catalog, actions: &[&str]) -> Result<(), Refusal> {
        match actions.iter().find(|action| catalog.may_have_resource(action)) {
            Some(action) => Err(unknown("the request does not name its resource by ARN or id", action)),
            None => Ok(()),
        }
    }

    async fn live(&self, reading: &Reading<'_>, arn: &str, freshness: Freshness) -> Result<Tags, Refusal> {
        let key = (reading.identity.connection.clone(), arn.to_owned());
        let cached = self.entry(&key, freshness);
        // One asks, the others who want the same wait for it.
        let found = cached.tags.get_or_try_init(|| Box::pin(reading.ask(arn))).await;
        match found {
            Ok(tags) => Ok(tags.clone()),
            Err(NotRead::Missing) => {
                self.forget(&key, &cached);
                Ok(Tags::new())
            }
            Err(NotRead::Refused(refusal)) => {
                self.forget(&key, &cached);
                Err(refusal)
            }
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Cached>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, key: &Key, freshness: Freshness) -> Arc<Cached> {
        let mut cache = self.cache();
        if freshness == Freshness::Recent
            && let Some(cached) = cache.get(key).filter(|cached| cached.at.elapsed() < FRESH)
        {
            return cached.clone();
        }
        if cache.len() >= KEPT {
            cache.retain(|_, cached| cached.at.elapsed() < FRESH);
            if cache.len() >= KEPT {
                cache.clear();
            }
        }
        let cached = Arc::new(Cached { at: Instant::now(), tags: OnceCell::new() });
        cache.insert(key.clone(), cached.clone());
        cached
    }

    fn forget(&self, key: &Key, known: &Arc<Cached>) {
        let mut cache = self.cache();
        if cache.get(key).is_some_and(|cached| Arc::ptr_eq(cached, known)) {
            cache.remove(key);
        }
    }

    /// Forgets what an operation may change, now and when it is over.
    pub fn passing(&self, operation: &Operation) -> Option<Passing<'_>> {
        if !self.options.live || !may_change_tags(operation) {
            return None;
        }
        let whole = |demand: &Demand| match &demand.resource {
            Resource::Arn(arn) => Some(holder(arn).to_owned()).filter(|whole| !is_pattern(whole)),
            _ => None,
        };
        let passing = Passing { reader: self, named: operation.demands.iter().map(whole).collect() };
        passing.forget();
        Some(passing)
    }
}

/// Whether an operation is on a resource that the request could have named and does not.
pub(crate) fn names_too_little(catalog: &Catalog, operation: &Operation) -> bool {
    let mut unnamed = operation.demands.iter().filter(|demand| demand.resource == Resource::Any);
    unnamed.any(|demand| catalog.may_have_resource(&demand.action))
}

/// Tagging calls, and what may make, replace or remove a resource.
fn may_change_tags(operation: &Operation) -> bool {
    let level = operation.access_level();
    level == AccessLevel::Tagging
        || (level > AccessLevel::Read
            && (["Tag", "Create", "Delete", "Update", "Import", "Restore"]
                .iter()
                .any(|word| operation.name.contains(word))
                || durward_core::request_tags(operation).is_none_or(|tags| !tags.is_empty())))
}

/// An operation under way that may change tags.
pub struct Passing<'a> {
    reader: &'a TagReader,
    /// None: it does not say of which resources.
    named: Option<Vec<String>>,
}

impl Passing<'_> {
    fn forget(&self) {
        let mut cache = self.reader.cache();
        match &self.named {
            Some(named) => cache.retain(|(_, arn), _| !named.contains(arn)),
            None => cache.clear(),
        }
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Why there are no tags.
enum NotRead {
    /// There is no such resource.
    Missing,
    Refused(Refusal),
}

impl From<Refusal> for NotRead {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// For whom tags are read.
struct Reading<'a> {
    rooms: &'a Rooms,
    exchange: &'a Exchange,
    identity: &'a Identity,
    operation: &'a Operation,
    reader: &'a TagReader,
}

impl Reading<'_> {
    async fn ask(&self, arn: &str) -> Result<Tags, NotRead> {
        let region = match Arn::parse(arn) {
            Some(Arn { region, .. }) if !region.is_empty() => region,
            _ => self.operation.region.as_deref().unwrap_or("us-east-1"),
        };
        let call = tag_call(self.rooms.catalog, arn, region).ok_or_else(|| {
            unknown("this version knows no call that tells them; give the resource a label", arn)
        })?;
        let mut region = region.to_owned();
        let mut tags = Tags::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES {
            let request = call
                .request(next.as_deref())
                .ok_or_else(|| unknown("they do not fit on one page, and the service has no pages", arn))?;
            let mut answer = self.send(arn, &call, &request, &region).await?;
            if let Some(other) = elsewhere(&answer).filter(|other| *other != region) {
                region = other;
                answer = self.send(arn, &call, &request, &region).await?;
            }
            let page = call.read(answer.status().as_u16(), answer.body());
            let Page { tags: more, next: after, missing } =
                page.map_err(|error| unknown(&error.to_string(), arn))?;
            if missing {
                return Err(NotRead::Missing);
            }
            tags.extend(more);
            match after {
                Some(after) => next = Some(after),
                None => return Ok(tags),
            }
        }
        Err(unknown("there is no end of pages", arn).into())
    }

    async fn send(
        &self,
        arn: &str,
        call: &TagCall,
        wire: &WireCall,
        region: &str,
    ) -> Result<http::Response<Bytes>, Refusal> {
        let failed = |why: &str| unknown(why, arn);
        let (origin, region, service) =
            self.place(call, region).ok_or_else(|| failed("no endpoint is known"))?;
        let credential = self.lend(call, arn).await?;
        let mut headers = HeaderMap::new();
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_error| failed("the request cannot be written"))
        };
        headers.insert(header::HOST, value(&origin.authority())?);
        for (name, text) in &wire.headers {
            headers.insert(HeaderName::from_static(name), value(text)?);
        }
        let at = OffsetDateTime::now_utc();
        let date = format_timestamp(at);
        let day = date.get(..8).unwrap_or_default();
        let key = SigningKey::derive(credential.secret.expose(), day, &region, &service);
        let signer = Signer {
            access_key_id: &credential.access_key_id,
            session_token: Some(&credential.session_token),
            key: &key,
            region: &region,
            service: &service,
            at,
        };
        let method = wire.method.parse().map_err(|_error| failed("the request cannot be written"))?;
        sign(&signer, &method, &wire.path, &wire.query, &mut headers, &sha256_hex(wire.body.as_bytes()))
            .map_err(|_error| failed("the request cannot be signed"))?;
        let target =
            if wire.query.is_empty() { wire.path.clone() } else { format!("{}?{}", wire.path, wire.query) };
        let mut request = Request::new(Bytes::from(wire.body.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|_error| failed("the request cannot be written"))?;
        *request.headers_mut() = headers;
        tokio::time::timeout(PATIENCE, self.rooms.transport.call(&origin, request, ANSWER))
            .await
            .map_err(|_elapsed| failed("AWS did not answer in time"))?
            .map_err(|error| failed("AWS could not be reached").detail(error))
    }

    fn place(&self, call: &TagCall, region: &str) -> Option<(Origin, String, String)> {
        if let Some(emulator) = &self.reader.options.emulator {
            return Some((emulator.clone(), region.to_owned(), call.service.signing_name.clone()));
        }
        let endpoint = self.rooms.catalog.endpoint(&call.service.id, region)?;
        Some((Origin::https(&endpoint.host), endpoint.signing_region, endpoint.signing_name))
    }

    async fn lend(&self, call: &TagCall, arn: &str) -> Result<Arc<durward_credential::Lent>, Refusal> {
        let operation = Operation {
            door: Door::Aws,
            service: call.service.iam_prefix.clone(),
            name: call.operation().map(|operation| operation.name.clone()).unwrap_or_default(),
            demands: call.demands.clone(),
            parameters: serde_json::Value::Object(serde_json::Map::new()),
            sensitive: Vec::new(),
            region: self.operation.region.clone(),
            account: self.operation.account.clone(),
            traits: Traits::default(),
            uninspected: Vec::new(),
            body_sha256: None,
        };
        let connection = match self.reader.options.readers.get(&self.identity.connection) {
            Some(reader) => reader,
            None => self.rooms.connection(&self.identity.connection)?,
        };
        let ask = LendRequest {
            connection,
            caller: &self.identity.caller,
            session: self.identity.session,
            exchange: self.exchange.id,
            operation: &operation,
        };
        self.rooms
            .lender
            .lend(&ask)
            .await
            .map_err(|error| unknown("no credential to read them could be obtained", arn).detail(error))
    }
}

/// The region that S3 says a bucket is in.
fn elsewhere(answer: &http::Response<Bytes>) -> Option<String> {
    let region = answer.headers().get("x-amz-bucket-region")?.to_str().ok()?;
    (!answer.status().is_success()).then(|| region.to_owned())
}

fn unknown(why: &str, arn: &str) -> Refusal {
    Refusal::new(
        Reason::AccessDenied,
        format!("a policy reads the tags of {arn}, and they cannot be read: {why}"),
    )
}

fn is_pattern(arn: &str) -> bool {
    arn.contains(['*', '?'])
}

/// Whether two patterns may match the same ARN; true where that is not certain.
fn may_meet(one: &str, other: &str) -> bool {
    let literal = |pattern: &str| pattern.split(['*', '?']).next().unwrap_or_default().to_owned();
    let (one, other) = (literal(one), literal(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_meets_labels_that_it_may_share_a_resource_with() {
        for (label, asked, expected) in [
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/*", true),
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/secret/x*", true),
            ("arn:aws:s3:::b/secret/*", "arn:aws:s3:::b/public/*", false),
            ("arn:aws:s3:::other*", "arn:aws:s3:::b/*", false),
        ] {
            assert_eq!(may_meet(label, asked), expected, "{label} {asked}");
        }
    }
}
