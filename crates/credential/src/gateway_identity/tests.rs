use super::*;
use crate::fakes::{FakeHttpClient, TestClock};
use http::StatusCode;
use reqsign_core::StaticEnv;
use std::collections::HashMap;

/// An identity of the provider chain in a made-up environment, its HTTP clients, and its clock.
struct TestIdentity {
    identity: GatewayIdentity,
    service_client: Arc<FakeHttpClient>,
    metadata_client: Arc<FakeHttpClient>,
    clock: TestClock,
}

fn test_identity(
    variables: &[(&str, &str)],
    home: Option<&std::path::Path>,
    service_client: Arc<FakeHttpClient>,
    metadata_client: Arc<FakeHttpClient>,
) -> TestIdentity {
    let envs: HashMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let env = StaticEnv { home_dir: home.map(std::path::Path::to_path_buf), envs };
    let clock = TestClock::default();
    let chain = CredentialProviderChain::new(service_client.clone(), metadata_client.clone(), env);
    let identity =
        GatewayIdentity::with_source(CredentialSource::ProviderChain(chain)).with_clock(clock.as_clock());
    TestIdentity { identity, service_client, metadata_client, clock }
}

fn unreachable_client() -> Arc<FakeHttpClient> {
    FakeHttpClient::unreachable()
}

fn container_response(number: usize) -> String {
    format!(
        r#"{{"AccessKeyId":"ASIA{number}","SecretAccessKey":"container-secret","Token":"container-token",
        "Expiration":"2026-11-21T07:00:00Z"}}"#
    )
}

#[tokio::test]
async fn the_environment_comes_first() {
    let variables = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "env-secret")];
    let test = test_identity(&variables, None, unreachable_client(), unreachable_client());
    let found = test.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("AKIAENV", "environment"));
    assert!(found.session_token.is_none() && found.expires_at.is_none());
    assert!(
        test.identity.has_warned_of_long_lived_key.load(Ordering::Relaxed),
        "a long-lived key causes a warning"
    );
}

#[tokio::test]
async fn a_key_without_expiry_is_looked_up_again_after_five_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let write = |key: &str| {
        let text =
            format!("[agents]\naws_access_key_id={key}\naws_secret_access_key=s\naws_session_token=t\n");
        std::fs::write(&file, text).unwrap();
    };
    write("ASIAONE");
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "agents")];
    let test = test_identity(&variables, None, unreachable_client(), unreachable_client());
    assert_eq!(test.identity.credential().await.unwrap().access_key_id, "ASIAONE");
    assert!(
        !test.identity.has_warned_of_long_lived_key.load(Ordering::Relaxed),
        "a session credential is not long-lived"
    );
    write("ASIATWO");
    test.clock.advance(299);
    assert_eq!(test.identity.credential().await.unwrap().access_key_id, "ASIAONE");
    test.clock.advance(1);
    assert_eq!(test.identity.credential().await.unwrap().access_key_id, "ASIATWO");
}

#[tokio::test]
async fn a_container_credential_is_kept_until_five_minutes_before_its_expiry() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"),
    ];
    let test = test_identity(&variables, None, unreachable_client(), metadata);
    let found = test.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIA0", "container endpoint"));
    assert_eq!(found.session_token.as_ref().map(Secret::expose), Some("container-token"));
    assert_eq!(test.metadata_client.sent_requests.lock().unwrap()[0].headers()["authorization"], "pod-token");
    test.clock.advance(54 * 60);
    assert_eq!(test.identity.credential().await.unwrap().access_key_id, "ASIA0");
    test.clock.advance(60);
    assert_eq!(test.identity.credential().await.unwrap().access_key_id, "ASIA1");
    assert_eq!(test.service_client.call_count(), 0, "link-local requests never use the service client");
}

#[tokio::test]
async fn concurrent_requests_share_one_lookup() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let test = Arc::new(test_identity(&variables, None, unreachable_client(), metadata));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let test = test.clone();
            tokio::spawn(async move { test.identity.credential().await.unwrap().access_key_id.clone() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "ASIA0");
    }
    assert_eq!(test.metadata_client.call_count(), 1);
}

#[tokio::test]
async fn a_web_identity_calls_the_regional_sts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "header.claims.signature\n").unwrap();
    let transport = FakeHttpClient::new(|_, _| {
        let xml = crate::fakes::ASSUME_ROLE_RESPONSE_XML.replace("AssumeRole", "AssumeRoleWithWebIdentity");
        Ok((StatusCode::OK, xml.replace("2026-11-21T06:15:00Z", "2026-11-21T07:00:00Z")))
    });
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/gateway"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
    ];
    let test = test_identity(&variables, None, transport, unreachable_client());
    let found = test.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAEXAMPLE", "web identity"));
    assert_eq!(
        test.service_client.sent_requests.lock().unwrap()[0].uri(),
        "https://sts.eu-west-1.amazonaws.com/"
    );
    let form = test.service_client.form_fields(0);
    assert_eq!(
        (form["RoleSessionName"].as_str(), form["RoleArn"].as_str()),
        ("durward", "arn:aws:iam::1:role/gateway")
    );
}

#[tokio::test]
async fn a_broken_web_identity_does_not_become_the_node() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/gateway"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1"),
    ];
    let test = test_identity(&variables, None, unreachable_client(), metadata);
    let error = test.identity.credential().await.unwrap_err();
    assert!(
        matches!(&error, GatewayIdentityError::SourceFailed { source_name: "web identity", .. }),
        "{error}"
    );
    assert_eq!(test.metadata_client.call_count(), 0);
}

#[tokio::test]
async fn the_instance_role_is_read_with_a_metadata_token() {
    let metadata = FakeHttpClient::new(|number, request| {
        let has_token =
            request.headers().get("x-aws-ec2-metadata-token").is_some_and(|token| token == "imds-token");
        let text = match (number, request.method().as_str(), has_token) {
            (0, "PUT", false) => "imds-token".to_owned(),
            (1, "GET", true) => "gateway-role".to_owned(),
            (2, "GET", true) => {
                r#"{"Code":"Success","AccessKeyId":"ASIAEC2","SecretAccessKey":"s","Token":"t",
                "Expiration":"2026-11-21T12:00:00Z"}"#
                    .to_owned()
            }
            _ => return Ok((StatusCode::UNAUTHORIZED, String::new())),
        };
        Ok((StatusCode::OK, text))
    });
    let test = test_identity(&[], None, unreachable_client(), metadata);
    let found = test.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAEC2", "instance metadata"));
    assert_eq!(found.expires_at, Some(time::macros::datetime!(2026-11-21 12:00 UTC)));
}

#[tokio::test]
async fn a_process_returns_a_credential_and_its_output_is_in_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let (script, config) = (directory.path().join("print"), directory.path().join("config"));
    std::fs::write(&config, format!("[default]\ncredential_process = sh {}\n", script.display())).unwrap();
    let output = r#"{"Version":1,"AccessKeyId":"ASIAPROC","SecretAccessKey":"s","SessionToken":"t",
        "Expiration":"2026-11-21T12:00:00Z"}"#;
    let variables = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];

    std::fs::write(&script, format!("echo '{output}'\n")).unwrap();
    let found = test_identity(&variables, None, unreachable_client(), unreachable_client())
        .identity
        .credential()
        .await
        .unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAPROC", "credential process"));

    let flood = "head -c 2000000 /dev/zero | tr '\\0' x\n";
    for broken in [flood, "echo leaked-secret >&2\nexit 3\n", "echo leaked-secret\n"] {
        std::fs::write(&script, broken).unwrap();
        let error = test_identity(&variables, None, unreachable_client(), unreachable_client())
            .identity
            .credential()
            .await
            .unwrap_err();
        assert!(
            matches!(&error, GatewayIdentityError::SourceFailed { source_name: "credential process", .. }),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("leaked-secret"), "{error:?}");
    }
}

#[tokio::test]
async fn plain_http_goes_to_metadata_addresses_only() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    for address in ["http://192.0.2.1/creds", "http://metadata.example/creds", "http://[2001:db8::1]/creds"] {
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let test = test_identity(&variables, None, unreachable_client(), metadata.clone());
        assert!(test.identity.credential().await.is_err(), "{address}");
    }
    assert_eq!(metadata.call_count(), 0);
    for address in
        ["http://localhost:8/creds", "http://127.0.0.1/creds", "http://[fd00:ec2::23]/v1/credentials"]
    {
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let test = test_identity(&variables, None, unreachable_client(), metadata.clone());
        assert!(test.identity.credential().await.is_ok(), "{address}");
    }
}

#[tokio::test]
async fn a_missing_credential_error_lists_the_sources_tried() {
    let test = test_identity(&[], None, unreachable_client(), unreachable_client());
    let error = test.identity.credential().await.unwrap_err().to_string();
    assert!(error.contains("environment") && error.contains("instance metadata"), "{error}");
}

#[tokio::test]
async fn an_expired_credential_is_no_identity() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let test = test_identity(&variables, None, unreachable_client(), metadata);
    test.clock.advance(2 * 3600);
    let error = test.identity.credential().await.unwrap_err();
    assert_eq!(error, GatewayIdentityError::Expired { source_name: "container endpoint" });
}

#[tokio::test]
async fn the_status_holds_the_last_outcome_and_since_when() {
    let is_available = Arc::new(AtomicBool::new(false));
    let responds = is_available.clone();
    let metadata = FakeHttpClient::new(move |number, _| {
        if responds.load(Ordering::Relaxed) {
            Ok((StatusCode::OK, container_response(number)))
        } else {
            Ok((StatusCode::INTERNAL_SERVER_ERROR, String::new()))
        }
    });
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let test = test_identity(&variables, None, unreachable_client(), metadata);
    assert_eq!(test.identity.status(), None, "no lookup yet");
    test.identity.credential().await.unwrap_err();
    let first = test.identity.status().unwrap();
    assert!(first.outcome.is_err() && first.since == first.checked_at, "{first:?}");
    test.clock.advance(60);
    test.identity.credential().await.unwrap_err();
    let second = test.identity.status().unwrap();
    assert_eq!((second.since, second.checked_at - first.checked_at), (first.since, time::Duration::MINUTE));
    is_available.store(true, Ordering::Relaxed);
    test.identity.credential().await.unwrap();
    let found = test.identity.status().unwrap();
    assert_eq!((&found.outcome, found.is_long_lived), (&Ok("container endpoint"), false));
    assert_eq!(found.since, found.checked_at);
}

#[tokio::test]
async fn a_credential_that_sts_calls_expired_is_looked_up_again_once() {
    let metadata = FakeHttpClient::new(|number, _| Ok((StatusCode::OK, container_response(number))));
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let TestIdentity { identity, metadata_client, clock, .. } =
        test_identity(&variables, None, unreachable_client(), metadata);
    let sts = FakeHttpClient::new(|_, _| {
        Ok((StatusCode::FORBIDDEN, crate::fakes::error_response_xml("ExpiredToken", "expired")))
    });
    let endpoint: crate::StsEndpoint = Arc::new(|_region| Ok(http::Uri::from_static("https://sts.example/")));
    let issuer =
        crate::CredentialIssuer::new(Arc::new(identity), sts.clone(), endpoint).with_clock(clock.as_clock());
    let request = crate::CredentialRequest {
        connection: &crate::ConnectionConfig::new("prod", "arn:aws:iam::1:role/agents", "eu-west-1"),
        caller: &crate::fakes::test_caller("alice"),
        session: durward_core::SessionId::new(),
        exchange: durward_core::ExchangeId::new(),
        operation: &crate::fakes::operation_on("s3:GetObject", "arn:aws:s3:::b/k"),
    };
    issuer.issue_credential(&request).await.unwrap_err();
    assert_eq!((sts.call_count(), metadata_client.call_count()), (2, 2));
    let signers: Vec<String> = (0..2)
        .map(|at| {
            sts.sent_requests.lock().unwrap()[at].headers()["authorization"].to_str().unwrap().to_owned()
        })
        .collect();
    assert!(
        signers[0].contains("Credential=ASIA0/") && signers[1].contains("Credential=ASIA1/"),
        "{signers:?}"
    );
}
