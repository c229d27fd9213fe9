//! The standard credential provider chain: one source after another, each read by reqsign, in the order of reqsign.
//!
//! Promise: a source that is configured and fails ends the search. reqsign's own chain is not used because it continues with the
//! next source. The gateway would silently get another identity: a pod whose web identity is broken would act as its node.

use super::{BaseCredential, GatewayIdentityError};
use crate::error_text::sanitize_error_text;
use bytes::Bytes;
use durward_core::{HttpClient, HttpLimits, Secret};
use http::{Request, Response, StatusCode, Uri};
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider, EnvCredentialProvider,
    IMDSv2CredentialProvider, ProcessCredentialProvider, ProfileCredentialProvider, SSOCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, ProvideCredentialDyn,
};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Metadata endpoints respond from the same machine. Off AWS there is none, and the start of the gateway must not wait for it.
const METADATA_LIMITS: HttpLimits =
    HttpLimits { timeout: Duration::from_secs(2), max_response_bytes: MAX_CREDENTIAL_BYTES as usize };
const SERVICE_LIMITS: HttpLimits =
    HttpLimits { timeout: Duration::from_secs(10), max_response_bytes: MAX_CREDENTIAL_BYTES as usize };
/// A `credential_process` may wait for a person.
const CREDENTIAL_PROCESS_TIMEOUT: Duration = Duration::from_mins(1);
/// One file, process output or response.
const MAX_CREDENTIAL_BYTES: u64 = 1 << 20;
/// The last source. Off EC2 it fails, which means "not found" and not a broken source.
const INSTANCE_METADATA: &str = "instance metadata";

type BoxedCredentialProvider = Box<dyn ProvideCredentialDyn<Credential = Credential>>;

pub(super) struct CredentialProviderChain {
    context: Context,
    providers: Vec<(&'static str, BoxedCredentialProvider)>,
}

impl CredentialProviderChain {
    pub fn new(
        service_client: Arc<dyn HttpClient>,
        metadata_client: Arc<dyn HttpClient>,
        env: impl Env,
    ) -> Self {
        let mut web_identity = AssumeRoleWithWebIdentityCredentialProvider::new();
        // AWS recommends the regional endpoints of STS (IAM User Guide, "Manage AWS STS in an AWS Region").
        if env.var("AWS_REGION").is_some_and(|region| !region.is_empty()) {
            web_identity = web_identity.with_regional_sts_endpoint();
        }
        if env.var("AWS_ROLE_SESSION_NAME").is_none() {
            web_identity = web_identity.with_role_session_name("durward".to_owned());
        }
        let sources: Vec<(&'static str, BoxedCredentialProvider)> = vec![
            ("environment", Box::new(EnvCredentialProvider::new())),
            ("shared files", Box::new(ProfileCredentialProvider::new())),
            ("SSO", Box::new(SSOCredentialProvider::new())),
            ("web identity", Box::new(web_identity)),
            ("credential process", Box::new(ProcessCredentialProvider::new())),
            ("container endpoint", Box::new(ECSCredentialProvider::new())),
            (INSTANCE_METADATA, Box::new(IMDSv2CredentialProvider::new())),
        ];
        let context = Context::new()
            .with_env(env)
            .with_file_read(BoundedFileReader)
            .with_command_execute(CredentialProcessRunner)
            .with_http_send(CredentialHttpSender { service_client, metadata_client });
        Self { context, providers: sources }
    }

    /// The credential of the first source that is configured.
    pub async fn find_credential(&self) -> Result<BaseCredential, GatewayIdentityError> {
        let mut last = String::from("instance metadata is switched off");
        for (name, provider) in &self.providers {
            match provider.provide_credential_dyn(&self.context).await {
                Ok(Some(credential)) => return convert_credential(name, credential),
                Ok(None) => {}
                Err(error) if *name == INSTANCE_METADATA => last = describe_error(&error),
                Err(error) => {
                    return Err(GatewayIdentityError::SourceFailed {
                        source_name: name,
                        detail: describe_error(&error),
                    });
                }
            }
        }
        let tried: Vec<&str> = self.providers.iter().map(|(name, _)| *name).collect();
        Err(GatewayIdentityError::NotFound { tried: tried.join(", "), last })
    }
}

fn convert_credential(
    source: &'static str,
    credential: Credential,
) -> Result<BaseCredential, GatewayIdentityError> {
    let Credential { access_key_id, secret_access_key, session_token, expires_in } = credential;
    let broken =
        |detail: &str| GatewayIdentityError::SourceFailed { source_name: source, detail: detail.to_owned() };
    if access_key_id.is_empty() || secret_access_key.is_empty() {
        return Err(broken("the access key id or the secret is empty"));
    }
    let expires = expires_in
        .map(|at| OffsetDateTime::from_unix_timestamp(at.as_second()))
        .transpose()
        .map_err(|_error| broken("the expiry is not a valid time"))?;
    Ok(BaseCredential {
        access_key_id,
        secret_access_key: Secret::new(secret_access_key),
        session_token: session_token.filter(|token| !token.is_empty()).map(Secret::new),
        expires_at: expires,
        source,
    })
}

/// reqsign's one-line message and its direct cause. Its further context only repeats paths and addresses.
fn describe_error(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text = format!("{text}: {cause}");
    }
    sanitize_error_text(&text, &[])
}

/// The environment of the process. Variables that are not UTF-8 are left out: `std::env::vars` would panic.
#[derive(Debug)]
pub(super) struct ProcessEnvironment;

impl Env for ProcessEnvironment {
    fn var(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }

    fn vars(&self) -> HashMap<String, String> {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }
}

#[derive(Debug)]
struct BoundedFileReader;

impl FileRead for BoundedFileReader {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let failed = |reason: String| Error::config_invalid(format!("cannot read `{path}`: {reason}"));
        let file = tokio::fs::File::open(path).await.map_err(|error| failed(error.to_string()))?;
        read_bounded(file).await.map_err(|error| failed(error.to_string()))
    }
}

/// Reads to the end. A reader with more than the limit is an error: the size of a device or pipe is not known before.
async fn read_bounded(reader: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_CREDENTIAL_BYTES + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_CREDENTIAL_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_CREDENTIAL_BYTES} bytes")));
    }
    Ok(bytes)
}

#[derive(Debug)]
struct CredentialProcessRunner;

impl CommandExecute for CredentialProcessRunner {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let mut command = tokio::process::Command::new(program);
        // Its standard error stays out of our errors: it may hold a secret.
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let run = async {
            let mut child = command.spawn()?;
            let stdout = match child.stdout.take() {
                Some(stdout) => read_bounded(stdout).await?,
                None => Vec::new(),
            };
            Ok::<_, std::io::Error>((child.wait().await?, stdout))
        };
        let (status, stdout) = tokio::time::timeout(CREDENTIAL_PROCESS_TIMEOUT, run)
            .await
            .map_err(|_elapsed| Error::unexpected("the credential process did not end in time"))?
            .map_err(|error| Error::config_invalid(format!("cannot run `{program}`: {error}")))?;
        // reqsign's own error would repeat the output, which may hold a secret.
        let is_json = serde_json::from_slice::<serde_json::Value>(&stdout).is_ok();
        if status.success() && !is_json {
            return Err(Error::config_invalid("the credential process did not write JSON"));
        }
        Ok(CommandOutput { status: status.code().unwrap_or(-1), stdout, stderr: Vec::new() })
    }
}

/// Sends plain HTTP only to link-local and loopback endpoints, and only with the metadata client.
struct CredentialHttpSender {
    service_client: Arc<dyn HttpClient>,
    metadata_client: Arc<dyn HttpClient>,
}

impl fmt::Debug for CredentialHttpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialHttpSender")
    }
}

impl HttpSend for CredentialHttpSender {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let result = match request.uri().scheme_str() {
            Some("https") => self.service_client.send(request, SERVICE_LIMITS).await,
            // `AWS_CONTAINER_CREDENTIALS_FULL_URI` may be http only at these addresses (AWS SDKs and Tools Reference Guide,
            // "Container credential provider"): the response is a credential in clear.
            Some("http") if is_metadata_endpoint(request.uri()) => {
                self.metadata_client.send(request, METADATA_LIMITS).await
            }
            _ => {
                return Err(Error::config_invalid(
                    "a credential endpoint must be https, or a loopback, container or instance metadata address",
                ));
            }
        };
        let mut response =
            result.map_err(|error| Error::unexpected(sanitize_error_text(&error.to_string(), &[])))?;
        // reqsign's errors repeat the body of every response but 200, and another 2xx may hold a credential.
        if response.status() != StatusCode::OK && !response.status().is_client_error() {
            *response.body_mut() = Bytes::new();
        }
        Ok(response)
    }
}

/// Loopback, IPv4 link-local (ECS 169.254.170.2, EKS 169.254.170.23, EC2 169.254.169.254) or AWS's IPv6 block fd00:ec2::/32.
fn is_metadata_endpoint(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || matches!(address.segments(), [0xfd00, 0x0ec2, ..])
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
