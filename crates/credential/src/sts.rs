//! STS AssumeRole over the query protocol (STS API Reference, version 2011-06-15), signed with the gateway's own credential.
//!
//! Promise: no text of a response becomes part of an error if it repeats a secret of the request.

use crate::error::IssueError;
use crate::error_text::sanitize_error_text;
use crate::gateway_identity::BaseCredential;
use crate::sts_response::{self, MAX_STS_RESPONSE_BYTES, StsCredentials};
use bytes::Bytes;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, percent_encode, sha256_hex};
use durward_core::limits::STS_TIMEOUT;
use durward_core::{HttpClient, HttpLimits, Secret};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use time::OffsetDateTime;

const STS_LIMITS: HttpLimits =
    HttpLimits { timeout: STS_TIMEOUT, max_response_bytes: MAX_STS_RESPONSE_BYTES };

/// The inputs of one AssumeRole call.
#[derive(Debug)]
pub(crate) struct AssumeRoleRequest<'a> {
    pub role_arn: &'a str,
    pub role_session_name: String,
    pub source_identity: String,
    pub external_id: Option<&'a str>,
    pub duration_seconds: u64,
    pub tags: Vec<(&'static str, String)>,
    pub policy_json: Option<&'a str>,
}

impl AssumeRoleRequest<'_> {
    fn form_body(&self) -> String {
        let mut form = String::from("Action=AssumeRole&Version=2011-06-15");
        let mut put = |name: &str, value: &str| {
            form.push('&');
            form.push_str(name);
            form.push('=');
            form.push_str(&percent_encode(value.as_bytes()));
        };
        put("RoleArn", self.role_arn);
        put("RoleSessionName", &self.role_session_name);
        // The trust policy of the role must permit `sts:SetSourceIdentity` and `sts:TagSession` (IAM User Guide, "Monitor and control
        // actions taken with assumed roles"). A source identity cannot be changed by the session that has it.
        put("SourceIdentity", &self.source_identity);
        put("DurationSeconds", &self.duration_seconds.to_string());
        if let Some(external_id) = self.external_id {
            put("ExternalId", external_id);
        }
        for (index, (key, value)) in self.tags.iter().enumerate() {
            put(&format!("Tags.member.{}.Key", index + 1), key);
            put(&format!("Tags.member.{}.Value", index + 1), value);
        }
        if let Some(policy) = self.policy_json {
            put("Policy", policy);
        }
        form
    }

    /// Sends the call once.
    pub async fn send(
        &self,
        http_client: &dyn HttpClient,
        endpoint: &Uri,
        region: &str,
        base: &BaseCredential,
        now: OffsetDateTime,
    ) -> Result<StsCredentials, IssueError> {
        let request = build_signed_request(endpoint, region, self.form_body(), base, now)?;
        let mut secrets = vec![base.secret_access_key.expose()];
        secrets.extend(base.session_token.as_ref().map(Secret::expose));
        let response = http_client
            .send(request, STS_LIMITS)
            .await
            .map_err(|error| IssueError::Unavailable(sanitize_error_text(&error.to_string(), &secrets)))?;
        // The client follows no redirect: a 3xx is an error here, and the signed call goes to no other host.
        if response.status() == StatusCode::OK {
            return Ok(sts_response::parse_assume_role_response(response.body())?);
        }
        Err(error_from_response(response.status(), response.body(), &secrets))
    }
}

fn error_from_response(status: StatusCode, body: &[u8], secrets: &[&str]) -> IssueError {
    let Some((code, message)) = sts_response::parse_error_response(body) else {
        return IssueError::Unavailable(format!("status {} without an error document", status.as_u16()));
    };
    let message = sanitize_error_text(&message, secrets);
    // The throttling codes that the AWS SDKs retry (AWS SDKs and Tools Reference Guide, "Retry behavior").
    match code.as_str() {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestThrottled" => IssueError::Throttled { code, message },
        _ if status == StatusCode::TOO_MANY_REQUESTS => IssueError::Throttled { code, message },
        // Not `Refused`: a failure of STS may be retried.
        _ if status.is_server_error() => IssueError::Unavailable(format!("{code}: {message}")),
        _ => IssueError::Refused { code, message },
    }
}

fn build_signed_request(
    endpoint: &Uri,
    region: &str,
    form: String,
    base: &BaseCredential,
    now: OffsetDateTime,
) -> Result<Request<Bytes>, IssueError> {
    let invalid = |reason: &str| IssueError::InvalidRequest(reason.to_owned());
    let authority = endpoint.authority().ok_or_else(|| invalid("the STS endpoint has no host"))?;
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(authority.as_str())
        .map_err(|_error| invalid("the STS endpoint has no plain host"))?;
    headers.insert(header::HOST, host);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
    );
    let now = now.to_offset(time::UtcOffset::UTC);
    let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let key = SigningKey::derive(base.secret_access_key.expose(), &day, region, "sts");
    let signer = SigningParams {
        access_key_id: &base.access_key_id,
        session_token: base.session_token.as_ref(),
        signing_key: &key,
        region,
        service: "sts",
        signing_time: now,
    };
    let path = match endpoint.path() {
        "" => "/",
        path => path,
    };
    let query = endpoint.query().unwrap_or_default();
    sign_request(&signer, &Method::POST, path, query, &mut headers, &sha256_hex(form.as_bytes())).map_err(
        |error| {
            IssueError::InvalidRequest(sanitize_error_text(
                &error.to_string(),
                &[base.secret_access_key.expose()],
            ))
        },
    )?;
    let mut request = Request::new(Bytes::from(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.clone();
    *request.headers_mut() = headers;
    Ok(request)
}
