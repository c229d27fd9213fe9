//! STS AssumeRole over the query protocol (STS API reference, version 2011-06-15), signed by the gateway's own identity.

use crate::answer::{self, Issued};
use crate::error::printable;
use crate::transport::send_within;
use crate::{BaseCredential, LendError, Transport};
use bytes::Bytes;
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_aws::sigv4::{SigningKey, percent_encode, sha256_hex};
use durward_core::Secret;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use std::time::Duration;
use time::OffsetDateTime;

/// How long STS may take. It answers within 200 ms as a rule.
const STS_TIME: Duration = Duration::from_secs(10);

/// The inputs of one AssumeRole call.
#[derive(Debug)]
pub(crate) struct AssumeRole<'a> {
    pub role_arn: &'a str,
    pub session_name: String,
    pub source_identity: String,
    pub external_id: Option<&'a str>,
    pub seconds: u64,
    pub tags: Vec<(&'static str, String)>,
    pub policy: Option<&'a str>,
}

impl AssumeRole<'_> {
    fn form(&self) -> String {
        let mut form = String::from("Action=AssumeRole&Version=2011-06-15");
        let mut put = |name: &str, value: &str| {
            form.push('&');
            form.push_str(name);
            form.push('=');
            form.push_str(&percent_encode(value.as_bytes()));
        };
        put("RoleArn", self.role_arn);
        put("RoleSessionName", &self.session_name);
        put("SourceIdentity", &self.source_identity);
        put("DurationSeconds", &self.seconds.to_string());
        if let Some(external_id) = self.external_id {
            put("ExternalId", external_id);
        }
        for (index, (key, value)) in self.tags.iter().enumerate() {
            put(&format!("Tags.member.{}.Key", index + 1), key);
            put(&format!("Tags.member.{}.Value", index + 1), value);
        }
        if let Some(policy) = self.policy {
            put("Policy", policy);
        }
        form
    }

    /// Makes the call once.
    pub async fn call(
        &self,
        transport: &dyn Transport,
        endpoint: &Uri,
        region: &str,
        base: &BaseCredential,
        now: OffsetDateTime,
    ) -> Result<Issued, LendError> {
        let request = signed(endpoint, region, self.form(), base, now)?;
        let mut secrets = vec![base.secret.expose()];
        secrets.extend(base.session_token.as_ref().map(Secret::expose));
        let response = send_within(transport, request, STS_TIME)
            .await
            .map_err(|error| LendError::Unavailable(printable(&error, &secrets)))?;
        if response.status() == StatusCode::OK {
            return answer::read_credentials(response.body()).map_err(LendError::Answer);
        }
        Err(failure(response.status(), response.body(), &secrets))
    }
}

fn failure(status: StatusCode, body: &[u8], secrets: &[&str]) -> LendError {
    let Some((code, message)) = answer::read_error(body) else {
        return LendError::Unavailable(format!("status {} without an error document", status.as_u16()));
    };
    let message = printable(&message, secrets);
    match code.as_str() {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestThrottled" => LendError::Throttled { code, message },
        _ if status == StatusCode::TOO_MANY_REQUESTS => LendError::Throttled { code, message },
        _ if status.is_server_error() => LendError::Unavailable(format!("{code}: {message}")),
        _ => LendError::Refused { code, message },
    }
}

fn signed(
    endpoint: &Uri,
    region: &str,
    form: String,
    base: &BaseCredential,
    now: OffsetDateTime,
) -> Result<Request<Bytes>, LendError> {
    let bad = |what: &str| LendError::Request(what.to_owned());
    let authority = endpoint.authority().ok_or_else(|| bad("the STS endpoint has no host"))?;
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(authority.as_str())
        .map_err(|_error| bad("the STS endpoint has no plain host"))?;
    headers.insert(header::HOST, host);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
    );
    let now = now.to_offset(time::UtcOffset::UTC);
    let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let key = SigningKey::derive(base.secret.expose(), &day, region, "sts");
    let signer = Signer {
        access_key_id: &base.access_key_id,
        session_token: base.session_token.as_ref(),
        key: &key,
        region,
        service: "sts",
        at: now,
    };
    let path = match endpoint.path() {
        "" => "/",
        path => path,
    };
    let query = endpoint.query().unwrap_or_default();
    sign(&signer, &Method::POST, path, query, &mut headers, &sha256_hex(form.as_bytes()))
        .map_err(|error| LendError::Request(printable(&error.to_string(), &[base.secret.expose()])))?;
    let mut request = Request::new(Bytes::from(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.clone();
    *request.headers_mut() = headers;
    Ok(request)
}
