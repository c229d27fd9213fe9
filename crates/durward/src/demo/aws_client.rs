//! The sample caller: it signs in with its OIDC token and signs requests as an SDK does.

use super::DemoError;
use super::environment::CONNECTION_NAME;
use crate::command_error::CommandError;
use crate::url_origin::origin_of_url;
use bytes::Bytes;
use durward_aws::sigv4::inbound::format_timestamp;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, sha256_hex};
use durward_core::{ExchangeId, Origin, Secret};
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::UpstreamClient;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use serde_json::Value;
use std::fmt::Display;
use time::OffsetDateTime;

const REGION: &str = "us-east-1";
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// A caller with a gateway credential, and its HTTP client for the gateway.
pub struct DemoAwsClient {
    pub http_client: UpstreamClient,
    pub origin: Origin,
    pub(super) access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
}

/// Signs in through the container-credentials endpoint with an OIDC token.
pub async fn sign_in_client(url: &str, token: &str) -> Result<DemoAwsClient, DemoError> {
    let origin = origin_of_url(url).map_err(CommandError::Url)?;
    let http_client = UpstreamClient::new(vec![origin.clone()]).map_err(CommandError::HttpClient)?;
    let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{CONNECTION_NAME}"))
        .header("host", origin.authority())
        .header("authorization", token)
        .body(Bytes::new())
        .map_err(invalid_request)?;
    let response =
        http_client.send_buffered(&origin, request, MAX_RESPONSE_BYTES).await.map_err(request_failed)?;
    if response.status() != 200 {
        return Err(DemoError::SignInRefused(format_response(&response)));
    }
    let body: Value = serde_json::from_slice(response.body()).map_err(request_failed)?;
    let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok(DemoAwsClient {
        http_client,
        origin,
        access_key_id: field("AccessKeyId"),
        secret_access_key: Secret::new(field("SecretAccessKey")),
        session_token: Secret::new(field("Token")),
    })
}

impl DemoAwsClient {
    /// Builds one request, signed as an SDK signs it.
    pub fn sign_request(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static [u8],
    ) -> Result<Request<Bytes>, DemoError> {
        let signing_time = OffsetDateTime::now_utc();
        let timestamp = format_timestamp(signing_time);
        let key = SigningKey::derive(
            self.secret_access_key.expose(),
            timestamp.get(..8).unwrap_or_default(),
            REGION,
            service,
        );
        let signer = SigningParams {
            access_key_id: &self.access_key_id,
            session_token: Some(&self.session_token),
            signing_key: &key,
            region: REGION,
            service,
            signing_time,
        };
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|value| headers.insert(HeaderName::from_static(name), value))
                .map_err(invalid_request)
        };
        set("host", &self.origin.authority())?;
        if let Some(target) = target {
            set("x-amz-target", target)?;
            set("content-type", "application/x-amz-json-1.1")?;
        }
        sign_request(&signer, &method, path, "", &mut headers, &sha256_hex(body)).map_err(invalid_request)?;
        let mut request = Request::new(Bytes::from_static(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(invalid_request)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends one request and waits for its response, also while it is held.
    pub(super) async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static str,
    ) -> Result<Response<Bytes>, DemoError> {
        let mut request = self.sign_request(method, service, path, target, body.as_bytes())?;
        // Two equal requests within a second have the same signature. SDKs tell them apart by this header.
        let id = HeaderValue::try_from(ExchangeId::new().to_string()).map_err(invalid_request)?;
        request.headers_mut().insert("amz-sdk-invocation-id", id);
        self.http_client
            .send_buffered(&self.origin, request, MAX_RESPONSE_BYTES)
            .await
            .map_err(request_failed)
    }
}

fn invalid_request(error: impl Display) -> DemoError {
    DemoError::InvalidRequest(error.to_string())
}

fn request_failed(error: impl Display) -> DemoError {
    DemoError::RequestFailed(error.to_string())
}

/// A response on one line: code and message of an XML error, otherwise the body without control characters.
pub(super) fn format_response(response: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(response.body());
    let element = |name: &str| {
        let (_before, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _after)| value.to_owned())
    };
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.into_owned(),
    };
    let flat: String =
        text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    format!("{} {}", response.status().as_u16(), flat.trim()).trim_end().to_owned()
}
