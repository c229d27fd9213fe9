//! The sample caller: it signs in with its OIDC token and signs requests as an SDK does.

use super::DemoError;
use crate::command_error::CommandError;
use bytes::Bytes;
use durward_aws::sigv4::inbound::format_timestamp;
use durward_aws::sigv4::outbound::{SigningParams, sign_request};
use durward_aws::sigv4::{SigningKey, UNSIGNED_PAYLOAD, sha256_hex};
use durward_core::{ExchangeId, Origin, Secret};
use durward_gateway::aws_frontend::CONTAINER_CREDENTIALS_PATH;
use durward_gateway::upstream_client::UpstreamClient;
use durward_identity::GatewayCredential;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use serde_json::Value;
use std::fmt::Display;
use time::OffsetDateTime;

const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// One request to an AWS API, before it is signed.
#[derive(Debug, Clone)]
pub struct SdkRequest {
    pub method: Method,
    /// The service of the credential scope, `s3`.
    pub service: &'static str,
    /// The region of the credential scope.
    pub region: &'static str,
    /// As it is on the wire, percent-encoded.
    pub path: String,
    /// Without the question mark; empty for none.
    pub query: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Bytes,
    /// The signature does not cover the body, as S3 lets it be over TLS.
    pub is_body_unsigned: bool,
}

impl SdkRequest {
    fn s3(method: Method, bucket: &str, key: &str) -> Self {
        Self {
            method,
            service: "s3",
            region: "us-east-1",
            path: format!("/{bucket}/{key}"),
            query: "",
            headers: Vec::new(),
            body: Bytes::new(),
            is_body_unsigned: false,
        }
    }

    /// `s3:GetObject`. The key is percent-encoded.
    pub fn get_object(bucket: &str, key: &str) -> Self {
        Self::s3(Method::GET, bucket, key)
    }

    /// `s3:PutObject`. The key is percent-encoded.
    pub fn put_object(bucket: &str, key: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", "text/plain")];
        Self { headers, body: body.into(), ..Self::s3(Method::PUT, bucket, key) }
    }

    /// `s3:DeleteObject`. The key is percent-encoded.
    pub fn delete_object(bucket: &str, key: &str) -> Self {
        Self::s3(Method::DELETE, bucket, key)
    }

    /// A call of one of the AWS JSON protocols, `x-amz-target: TARGET`.
    pub fn json_call(service: &'static str, target: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            service,
            region: "us-east-1",
            path: "/".to_owned(),
            query: "",
            headers: vec![("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")],
            body: body.into(),
            is_body_unsigned: false,
        }
    }
}

/// A caller with a gateway credential. It signs as AWS SDKs do and sends to the AWS front end of one gateway.
pub struct SdkClient {
    http_client: UpstreamClient,
    origin: Origin,
    pub access_key_id: String,
    secret_access_key: Secret,
    pub session_token: Secret,
}

impl SdkClient {
    /// Signs in for a connection through the container-credentials endpoint with an OIDC token, as SDKs do.
    pub async fn sign_in(origin: &Origin, token: &str, connection: &str) -> Result<Self, DemoError> {
        let http_client = UpstreamClient::new(vec![origin.clone()]).map_err(CommandError::HttpClient)?;
        let request = Request::get(format!("{CONTAINER_CREDENTIALS_PATH}{connection}"))
            .header("host", origin.authority())
            .header("authorization", token)
            .body(Bytes::new())
            .map_err(invalid_request)?;
        let response =
            http_client.send_buffered(origin, request, MAX_RESPONSE_BYTES).await.map_err(request_failed)?;
        if response.status() != 200 {
            return Err(DemoError::SignInRefused(format_response(&response)));
        }
        let body: Value = serde_json::from_slice(response.body()).map_err(request_failed)?;
        let field = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            http_client,
            origin: origin.clone(),
            access_key_id: field("AccessKeyId"),
            secret_access_key: Secret::new(field("SecretAccessKey")),
            session_token: Secret::new(field("Token")),
        })
    }

    /// A client with a credential that it did not sign in for.
    pub fn with_credential(origin: &Origin, credential: GatewayCredential) -> Result<Self, DemoError> {
        let http_client = UpstreamClient::new(vec![origin.clone()]).map_err(CommandError::HttpClient)?;
        let GatewayCredential { access_key_id, secret_access_key, session_token, .. } = credential;
        Ok(Self { http_client, origin: origin.clone(), access_key_id, secret_access_key, session_token })
    }

    /// The request with its signature, of now.
    pub fn sign(&self, sdk_request: &SdkRequest) -> Result<Request<Bytes>, DemoError> {
        self.sign_at(sdk_request, OffsetDateTime::now_utc())
    }

    /// [`Self::sign`] by a clock that says this time.
    pub fn sign_at(
        &self,
        sdk_request: &SdkRequest,
        signing_time: OffsetDateTime,
    ) -> Result<Request<Bytes>, DemoError> {
        let SdkRequest { method, service, region, path, query, headers: own_headers, body, is_body_unsigned } =
            sdk_request;
        let timestamp = format_timestamp(signing_time);
        let date = timestamp.get(..8).unwrap_or_default();
        let key = SigningKey::derive(self.secret_access_key.expose(), date, region, service);
        let signer = SigningParams {
            access_key_id: &self.access_key_id,
            session_token: Some(&self.session_token),
            signing_key: &key,
            region,
            service,
            signing_time,
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&self.origin.authority()).map_err(invalid_request)?);
        // Two equal requests within a second have the same signature. SDKs tell them apart by this header.
        let id = HeaderValue::try_from(ExchangeId::new().to_string()).map_err(invalid_request)?;
        headers.insert("amz-sdk-invocation-id", id);
        for (name, value) in own_headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let hash = if *is_body_unsigned { UNSIGNED_PAYLOAD.to_owned() } else { sha256_hex(body) };
        sign_request(&signer, method, path, query, &mut headers, &hash).map_err(invalid_request)?;
        let uri = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut request = Request::new(body.clone());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.parse().map_err(invalid_request)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Sends a request as it is and waits for its response, also while it is held.
    pub async fn send_signed(&self, request: Request<Bytes>) -> Result<Response<Bytes>, DemoError> {
        let sent = self.http_client.send_buffered(&self.origin, request, MAX_RESPONSE_BYTES);
        sent.await.map_err(request_failed)
    }

    /// Signs and sends.
    pub async fn call(&self, sdk_request: &SdkRequest) -> Result<Response<Bytes>, DemoError> {
        self.send_signed(self.sign(sdk_request)?).await
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
