//! The demo's caller: it signs in with its OIDC token and signs its requests as an SDK would.

use super::environment::CONNECTION_NAME;
use crate::serve;
use bytes::Bytes;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, sha256_hex};
use durward_core::{ExchangeId, Secret};
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::{UpstreamClient, UpstreamOrigin};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use time::OffsetDateTime;

/// A caller with a gateway credential, and how it reaches the gateway.
pub(crate) struct DemoAwsClient {
    pub http_client: UpstreamClient,
    pub origin: UpstreamOrigin,
    pub(super) access_key_id: String,
    secret_access_key: Secret,
    session_token: Secret,
}

pub(crate) async fn sign_in_client(url: &str, token: &str) -> Result<DemoAwsClient, String> {
    let origin = serve::parse_origin(url)?;
    let transport = UpstreamClient::new(vec![origin.clone()])?;
    let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{CONNECTION_NAME}"))
        .header("host", origin.authority())
        .header("authorization", token)
        .body(Bytes::new())
        .map_err(|error| error.to_string())?;
    let response =
        transport.send_buffered(&origin, request, 1 << 20).await.map_err(|error| error.to_string())?;
    if response.status() != 200 {
        return Err(format!("the sign-in was refused: {}", format_response(&response)));
    }
    let answer: serde_json::Value =
        serde_json::from_slice(response.body()).map_err(|error| error.to_string())?;
    let field =
        |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok(DemoAwsClient {
        http_client: transport,
        origin,
        access_key_id: field("AccessKeyId"),
        secret_access_key: Secret::new(field("SecretAccessKey")),
        session_token: Secret::new(field("Token")),
    })
}

impl DemoAwsClient {
    /// One request, signed as an SDK would.
    pub fn sign_request(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static [u8],
    ) -> Result<Request<Bytes>, String> {
        let at = OffsetDateTime::now_utc();
        let date = durward_aws::sigv4::inbound::format_timestamp(at);
        let key = SigningKey::derive(
            self.secret_access_key.expose(),
            date.get(..8).unwrap_or_default(),
            "us-east-1",
            service,
        );
        let signer = SigningParams {
            access_key_id: &self.access_key_id,
            session_token: Some(&self.session_token),
            signing_key: &key,
            region: "us-east-1",
            service,
            signing_time: at,
        };
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|value| headers.insert(HeaderName::from_static(name), value))
                .map_err(|error| error.to_string())
        };
        set("host", &self.origin.authority())?;
        if let Some(target) = target {
            set("x-amz-target", target)?;
            set("content-type", "application/x-amz-json-1.1")?;
        }
        sign_request(&signer, &method, path, "", &mut headers, &sha256_hex(body))
            .map_err(|error| error.to_string())?;
        let mut request = Request::new(Bytes::from_static(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_error| format!("`{path}` is not a path"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends one request as a call of its own, and waits as long as it is held.
    pub(super) async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static str,
    ) -> Result<Response<Bytes>, String> {
        let mut request = self.sign_request(method, service, path, target, body.as_bytes())?;
        // Two equal calls within a second have the same signature: SDKs tell them apart by this.
        let id = HeaderValue::try_from(ExchangeId::new().to_string()).map_err(|error| error.to_string())?;
        request.headers_mut().insert("amz-sdk-invocation-id", id);
        self.http_client
            .send_buffered(&self.origin, request, 1 << 20)
            .await
            .map_err(|error| error.to_string())
    }
}

/// An answer on one line: of an XML error its code and message, else the body without control characters.
pub(super) fn format_response(response: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(response.body());
    let element = |name: &str| {
        let (_before, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _after)| value.to_owned())
    };
    let said = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.into_owned(),
    };
    let flat: String =
        said.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    format!("{} {}", response.status().as_u16(), flat.trim()).trim_end().to_owned()
}
