//! A small AWS on loopback: STS, S3, Secrets Manager and DynamoDB, as much as the demo and in-process tests need.
//!
//! It is strict where Durward's promises are at stake: every request's SigV4 signature and body hash are verified, a
//! session credential needs its token, and session policies are enforced to the action, the resource and the time.

use crate::session_policy::policy_allows;
use aws_lc_rs::rand;
use bytes::Bytes;
use durward_aws::sigv4::inbound::{self, PayloadMode, SignedRequestHead};
use durward_aws::sigv4::{SigningKey, percent_decode, sha256_hex};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 32 << 20;
/// The account everything is in.
pub const ACCOUNT_ID: &str = "123456789012";
/// The gateway's own identity here.
pub const GATEWAY_ACCESS_KEY_ID: &str = "AKIASTANDINGATEWAY00";

/// One request that arrived with a valid signature.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub access_key_id: String,
    pub action: String,
    pub resource: String,
    pub is_allowed: bool,
}

struct AssumedRoleSession {
    secret_access_key: String,
    session_token: String,
    session_policy: Option<Value>,
    source_identity: String,
    role_name: String,
    expires_at: OffsetDateTime,
}

#[derive(Default)]
struct FakeAwsState {
    gateway_secret: String,
    sessions: BTreeMap<String, AssumedRoleSession>,
    buckets: BTreeMap<String, BTreeMap<String, Bytes>>,
    secrets: BTreeMap<String, String>,
    tables: BTreeMap<String, Vec<Value>>,
    received_requests: Vec<ReceivedRequest>,
}

/// A running stand-in.
#[derive(Clone)]
pub struct FakeAws {
    state: Arc<Mutex<FakeAwsState>>,
    pub address: SocketAddr,
}

/// An AWS error: status, code, message.
struct FakeAwsError(StatusCode, &'static str, String);

/// Who signed, once the signature is known to be right.
struct VerifiedSigner {
    access_key_id: String,
    service: String,
}

/// What a request asks for, in IAM's words.
struct RequestedAction {
    action: String,
    resource: String,
}

impl FakeAws {
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let state = FakeAwsState { gateway_secret: random_hex(20), ..FakeAwsState::default() };
        let aws = Self { state: Arc::new(Mutex::new(state)), address: listener.local_addr()? };
        let serving = aws.clone();
        tokio::spawn(async move {
            while let Ok((stream, _source)) = listener.accept().await {
                let aws = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let aws = aws.clone();
                        async move { Ok::<_, Infallible>(aws.serve_request(request).await) }
                    });
                    if let Err(error) =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
                    {
                        tracing::debug!(%error, "stand-in connection ended");
                    }
                });
            }
        });
        Ok(aws)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The secret of [`GATEWAY_KEY`], made at start.
    pub fn gateway_secret(&self) -> String {
        self.with_state(|state| state.gateway_secret.clone())
    }

    pub fn received_requests(&self) -> Vec<ReceivedRequest> {
        self.with_state(|state| state.received_requests.clone())
    }

    pub fn put_object(&self, bucket: &str, key: &str, body: &str) {
        self.with_state(|state| {
            let objects = state.buckets.entry(bucket.to_owned()).or_default();
            objects.insert(key.to_owned(), Bytes::copy_from_slice(body.as_bytes()));
        });
    }

    pub fn put_secret(&self, name: &str, value: &str) {
        self.with_state(|state| state.secrets.insert(name.to_owned(), value.to_owned()));
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut FakeAwsState) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve_request(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let json = parts.headers.contains_key("x-amz-target");
        let answered = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => self.authorize_and_execute(&parts, &body.to_bytes()),
            Err(error) => Err(FakeAwsError(StatusCode::BAD_REQUEST, "RequestTooLarge", error.to_string())),
        };
        answered.unwrap_or_else(|fault| error_response(&fault, json))
    }

    fn authorize_and_execute(
        &self,
        parts: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Response<Full<Bytes>>, FakeAwsError> {
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        let signed = self.verify_signature(
            &SignedRequestHead { method: &parts.method, path, query, headers: &parts.headers },
            body,
        )?;
        let form = if signed.service == "sts" { parse_form(body) } else { BTreeMap::new() };
        let asked =
            requested_action(&signed.service, &parts.method, path, query, &parts.headers, body, &form)?;
        let now = OffsetDateTime::now_utc();
        self.with_state(|state| {
            let allowed = match state.sessions.get(&signed.access_key_id) {
                None => signed.access_key_id == GATEWAY_ACCESS_KEY_ID,
                Some(session) => session.session_policy.as_ref().is_none_or(|policy| policy_allows(policy, &asked.action, &asked.resource, now)),
            };
            state.received_requests.push(ReceivedRequest {
                access_key_id: signed.access_key_id.clone(),
                action: asked.action.clone(),
                resource: asked.resource.clone(),
                is_allowed: allowed,
            });
            if !allowed {
                let message = format!("not authorized to perform: {} on resource: {} because no session policy allows the action", asked.action, asked.resource);
                return Err(FakeAwsError(StatusCode::FORBIDDEN, "AccessDenied", message));
            }
            match signed.service.as_str() {
                "sts" => state.execute_sts(&asked, &form, &signed.access_key_id, now),
                "s3" => state.execute_s3(&parts.method, path, query, body),
                _ => state.execute_json(&asked, &serde_json::from_slice(body).unwrap_or_default()),
            }
        })
    }

    fn verify_signature(
        &self,
        head: &SignedRequestHead<'_>,
        body: &Bytes,
    ) -> Result<VerifiedSigner, FakeAwsError> {
        let denied = |code: &'static str, message: String| FakeAwsError(StatusCode::FORBIDDEN, code, message);
        let claimed = inbound::parse_claimed_signature(head)
            .map_err(|refusal| denied("IncompleteSignature", refusal.message))?;
        let now = OffsetDateTime::now_utc();
        claimed.check_signing_time(now).map_err(|refusal| denied("RequestTimeTooSkewed", refusal.message))?;
        let secret = self.with_state(|state| {
            if claimed.access_key_id == GATEWAY_ACCESS_KEY_ID && claimed.session_token.is_empty() {
                return Some(state.gateway_secret.clone());
            }
            let session = state.sessions.get(&claimed.access_key_id)?;
            (session.session_token == claimed.session_token && now < session.expires_at)
                .then(|| session.secret_access_key.clone())
        });
        let secret = secret.ok_or_else(|| {
            denied("InvalidClientTokenId", "The security token included in the request is invalid".to_owned())
        })?;
        let hash = match &claimed.payload_mode {
            PayloadMode::BodyHash => sha256_hex(body),
            payload => payload.canonical_text().unwrap_or_default().to_owned(),
        };
        if matches!(&claimed.payload_mode, PayloadMode::Sha256(declared) if *declared != sha256_hex(body)) {
            return Err(denied(
                "XAmzContentSHA256Mismatch",
                "the body does not have the hash that was signed".to_owned(),
            ));
        }
        let key = SigningKey::derive(&secret, &claimed.scope_date, &claimed.region, &claimed.service);
        claimed
            .verify_signature(head, &hash, &key)
            .map_err(|refusal| denied("SignatureDoesNotMatch", refusal.message))?;
        Ok(VerifiedSigner { access_key_id: claimed.access_key_id, service: claimed.service })
    }
}

fn requested_action(
    service: &str,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
    form: &BTreeMap<String, String>,
) -> Result<RequestedAction, FakeAwsError> {
    let unknown = || {
        FakeAwsError(
            StatusCode::BAD_REQUEST,
            "UnknownOperationException",
            "the stand-in does not know this operation".to_owned(),
        )
    };
    if service == "sts" {
        let action = form.get("Action").ok_or_else(unknown)?;
        return Ok(RequestedAction {
            action: format!("sts:{action}"),
            resource: form.get("RoleArn").cloned().unwrap_or_else(|| "*".to_owned()),
        });
    }
    if service == "s3" {
        let (bucket, key) = bucket_and_key(path);
        let action = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
            ("GET", true, _) => "ListAllMyBuckets",
            ("PUT", false, true) => "CreateBucket",
            ("DELETE", false, true) => "DeleteBucket",
            ("GET" | "HEAD", false, true) if !query.contains("location") => "ListBucket",
            ("GET" | "HEAD", false, false) => "GetObject",
            ("PUT", false, false) => "PutObject",
            ("DELETE", false, false) => "DeleteObject",
            _ => return Err(unknown()),
        };
        let resource = match (bucket.is_empty(), key.is_empty()) {
            (true, _) => "*".to_owned(),
            (false, true) => format!("arn:aws:s3:::{bucket}"),
            (false, false) => format!("arn:aws:s3:::{bucket}/{key}"),
        };
        return Ok(RequestedAction { action: format!("s3:{action}"), resource });
    }
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).ok_or_else(unknown)?;
    let (_prefix, operation) = target.rsplit_once('.').ok_or_else(unknown)?;
    let parameters: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).map(str::to_owned);
    let region = "us-east-1";
    let resource = match service {
        "dynamodb" => {
            text("TableName").map(|table| format!("arn:aws:dynamodb:{region}:{ACCOUNT_ID}:table/{table}"))
        }
        "secretsmanager" => text("SecretId").or_else(|| text("Name")).map(|name| secret_arn(&name)),
        _ => return Err(unknown()),
    };
    Ok(RequestedAction {
        action: format!("{service}:{operation}"),
        resource: resource.unwrap_or_else(|| "*".to_owned()),
    })
}

impl FakeAwsState {
    fn execute_sts(
        &mut self,
        asked: &RequestedAction,
        form: &BTreeMap<String, String>,
        access_key_id: &str,
        now: OffsetDateTime,
    ) -> Result<Response<Full<Bytes>>, FakeAwsError> {
        if asked.action == "sts:GetCallerIdentity" {
            let arn = self.sessions.get(access_key_id).map_or_else(
                || format!("arn:aws:iam::{ACCOUNT_ID}:user/durward-gateway"),
                |session| {
                    format!(
                        "arn:aws:sts::{ACCOUNT_ID}:assumed-role/{}/{}",
                        session.role_name, session.source_identity
                    )
                },
            );
            return Ok(xml_response(format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{access_key_id}</UserId><Account>{ACCOUNT_ID}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>standin</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
            )));
        }
        if asked.action != "sts:AssumeRole" || access_key_id != GATEWAY_ACCESS_KEY_ID {
            return Err(FakeAwsError(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "only the gateway may assume a role".to_owned(),
            ));
        }
        let bad =
            |what: &str| FakeAwsError(StatusCode::BAD_REQUEST, "MalformedPolicyDocument", what.to_owned());
        let policy = match form.get("Policy") {
            Some(text) if text.len() > 2048 => return Err(bad("the policy is longer than 2048 characters")),
            Some(text) => Some(serde_json::from_str(text).map_err(|_error| bad("the policy is not JSON"))?),
            None => None,
        };
        let session = AssumedRoleSession {
            secret_access_key: random_hex(20),
            session_token: format!("IQoJstandin{}", random_hex(60)),
            session_policy: policy,
            source_identity: form.get("SourceIdentity").cloned().unwrap_or_default(),
            role_name: asked.resource.rsplit('/').next().unwrap_or_default().to_owned(),
            expires_at: now + Duration::seconds(900),
        };
        let id = format!("ASIA{}", random_hex(8).to_ascii_uppercase());
        let answer = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser><Arn>{0}</Arn><AssumedRoleId>{id}:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{1}</SecretAccessKey><SessionToken>{2}</SessionToken><Expiration>{3}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>standin</RequestId></ResponseMetadata></AssumeRoleResponse>",
            asked.resource,
            session.secret_access_key,
            session.session_token,
            session.expires_at.format(&Rfc3339).unwrap_or_default()
        );
        self.sessions.insert(id, session);
        Ok(xml_response(answer))
    }

    fn execute_s3(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &Bytes,
    ) -> Result<Response<Full<Bytes>>, FakeAwsError> {
        let (bucket, key) = bucket_and_key(path);
        let missing = |code: &'static str| {
            FakeAwsError(StatusCode::NOT_FOUND, code, "The specified bucket or key does not exist".to_owned())
        };
        if bucket.is_empty() {
            let names: Vec<String> = self.buckets.keys().map(|name| format!("<Bucket><Name>{name}</Name><CreationDate>2026-11-21T00:00:00.000Z</CreationDate></Bucket>")).collect();
            let names = names.concat();
            return Ok(xml_response(format!(
                "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>standin</ID></Owner><Buckets>{names}</Buckets></ListAllMyBucketsResult>"
            )));
        }
        if *method == Method::PUT && key.is_empty() {
            self.buckets.entry(bucket).or_default();
            return Ok(plain_response(StatusCode::OK, Bytes::new()));
        }
        let objects = self.buckets.get_mut(&bucket).ok_or_else(|| missing("NoSuchBucket"))?;
        match (method.as_str(), key.is_empty()) {
            ("DELETE", true) => {
                self.buckets.remove(&bucket);
                Ok(plain_response(StatusCode::NO_CONTENT, Bytes::new()))
            }
            ("DELETE", false) => {
                objects.remove(&key);
                Ok(plain_response(StatusCode::NO_CONTENT, Bytes::new()))
            }
            ("PUT", _) => {
                let etag = format!("\"{}\"", sha256_hex(body).get(..32).unwrap_or_default());
                objects.insert(key, body.clone());
                let mut response = plain_response(StatusCode::OK, Bytes::new());
                if let Ok(value) = http::HeaderValue::from_str(&etag) {
                    response.headers_mut().insert("etag", value);
                }
                Ok(response)
            }
            (_, true) => {
                let prefix =
                    query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
                let prefix = String::from_utf8_lossy(&percent_decode(prefix)).into_owned();
                let keys: Vec<String> = objects.iter().filter(|(name, _body)| name.starts_with(&prefix)).map(|(name, body)| format!("<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><StorageClass>STANDARD</StorageClass></Contents>", body.len())).collect();
                Ok(xml_response(format!(
                    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
                    keys.len(),
                    keys.concat()
                )))
            }
            (_, false) => {
                let body = objects.get(&key).ok_or_else(|| missing("NoSuchKey"))?;
                Ok(plain_response(StatusCode::OK, body.clone()))
            }
        }
    }

    fn execute_json(
        &mut self,
        asked: &RequestedAction,
        parameters: &Value,
    ) -> Result<Response<Full<Bytes>>, FakeAwsError> {
        let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let missing = |code: &'static str| {
            FakeAwsError(StatusCode::BAD_REQUEST, code, "Requested resource not found".to_owned())
        };
        let answer = match asked.action.as_str() {
            "secretsmanager:GetSecretValue" => {
                let value = self
                    .secrets
                    .get(&text("SecretId"))
                    .ok_or_else(|| missing("ResourceNotFoundException"))?;
                json!({"ARN": asked.resource, "Name": text("SecretId"), "SecretString": value, "VersionId": "1", "VersionStages": ["AWSCURRENT"]})
            }
            "secretsmanager:CreateSecret" => {
                self.secrets.insert(text("Name"), text("SecretString"));
                json!({"ARN": asked.resource, "Name": text("Name")})
            }
            "secretsmanager:ListSecrets" => {
                let list: Vec<Value> =
                    self.secrets.keys().map(|name| json!({"Name": name, "ARN": secret_arn(name)})).collect();
                json!({"SecretList": list})
            }
            "dynamodb:ListTables" => json!({"TableNames": self.tables.keys().collect::<Vec<_>>()}),
            "dynamodb:CreateTable" => {
                self.tables.entry(text("TableName")).or_default();
                json!({"TableDescription": {"TableName": text("TableName"), "TableStatus": "ACTIVE"}})
            }
            "dynamodb:DeleteTable" => {
                self.tables.remove(&text("TableName")).ok_or_else(|| missing("ResourceNotFoundException"))?;
                json!({"TableDescription": {"TableName": text("TableName"), "TableStatus": "DELETING"}})
            }
            "dynamodb:PutItem" => {
                let table = self
                    .tables
                    .get_mut(&text("TableName"))
                    .ok_or_else(|| missing("ResourceNotFoundException"))?;
                table.push(parameters.get("Item").cloned().unwrap_or_default());
                json!({})
            }
            "dynamodb:GetItem" => {
                let table = self
                    .tables
                    .get(&text("TableName"))
                    .ok_or_else(|| missing("ResourceNotFoundException"))?;
                let key = parameters.get("Key").and_then(Value::as_object).cloned().unwrap_or_default();
                let found = table
                    .iter()
                    .rev()
                    .find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)));
                found.map_or_else(|| json!({}), |item| json!({"Item": item}))
            }
            _ => return Err(missing("UnknownOperationException")),
        };
        let mut response = plain_response(StatusCode::OK, answer.to_string().into());
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/x-amz-json-1.0"));
        Ok(response)
    }
}

fn bucket_and_key(path: &str) -> (String, String) {
    let decoded = String::from_utf8_lossy(&percent_decode(path)).into_owned();
    let path = decoded.strip_prefix('/').unwrap_or(&decoded);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (bucket.to_owned(), key.to_owned())
}

/// Secret ARNs end in six random characters; here they are always the same six.
fn secret_arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:us-east-1:{ACCOUNT_ID}:secret:{name}-AbCdEf")
}

fn parse_form(body: &Bytes) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body).replace('+', " ");
    let decode = |part: &str| String::from_utf8_lossy(&percent_decode(part)).into_owned();
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    // Without randomness the text is empty, and no session is worth anything: this is a stand-in, not a service.
    if rand::fill(&mut random).is_err() {
        random.clear();
    }
    durward_core::encode_hex(&random)
}

fn plain_response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert("x-amz-request-id", http::HeaderValue::from_static("standin"));
    response
}

fn xml_response(body: String) -> Response<Full<Bytes>> {
    let mut response = plain_response(StatusCode::OK, body.into());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/xml"));
    response
}

fn error_response(fault: &FakeAwsError, as_json: bool) -> Response<Full<Bytes>> {
    let FakeAwsError(status, code, message) = fault;
    let (kind, body) = if as_json {
        ("application/x-amz-json-1.1", json!({"__type": code, "message": message}).to_string())
    } else {
        (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>standin</RequestId></ErrorResponse>"
            ),
        )
    };
    let mut response = plain_response(if as_json { StatusCode::BAD_REQUEST } else { *status }, body.into());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    response
}
