use super::*;
use crate::fakes::{FakeTransport, Hands};
use http::StatusCode;
use reqsign_core::StaticEnv;
use std::collections::HashMap;

/// An identity by the chain in a made-up environment, its transports, and its clock.
struct World {
    identity: BaseIdentity,
    transport: Arc<FakeTransport>,
    metadata: Arc<FakeTransport>,
    hands: Hands,
}

fn world(
    variables: &[(&str, &str)],
    home: Option<&std::path::Path>,
    transport: Arc<FakeTransport>,
    metadata: Arc<FakeTransport>,
) -> World {
    let envs: HashMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let env = StaticEnv { home_dir: home.map(std::path::Path::to_path_buf), envs };
    let hands = Hands::default();
    let chain = Chain::new(transport.clone(), metadata.clone(), env);
    let identity = BaseIdentity::of(Source::Chain(chain)).with_clock(hands.clock());
    World { identity, transport, metadata, hands }
}

fn nobody() -> Arc<FakeTransport> {
    FakeTransport::unreachable()
}

fn container_answer(number: usize) -> String {
    format!(
        r#"{{"AccessKeyId":"ASIA{number}","SecretAccessKey":"container-secret","Token":"container-token",
        "Expiration":"2026-11-21T07:00:00Z"}}"#
    )
}

#[tokio::test]
async fn the_environment_comes_first() {
    let variables = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "env-secret")];
    let world = world(&variables, None, nobody(), nobody());
    let found = world.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("AKIAENV", "environment"));
    assert!(found.session_token.is_none() && found.expires.is_none());
    assert!(world.identity.warned.load(Ordering::Relaxed), "a long-lived key is warned of");
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
    let world = world(&variables, None, nobody(), nobody());
    assert_eq!(world.identity.credential().await.unwrap().access_key_id, "ASIAONE");
    assert!(!world.identity.warned.load(Ordering::Relaxed), "a session credential is not long-lived");
    write("ASIATWO");
    world.hands.advance(299);
    assert_eq!(world.identity.credential().await.unwrap().access_key_id, "ASIAONE");
    world.hands.advance(1);
    assert_eq!(world.identity.credential().await.unwrap().access_key_id, "ASIATWO");
}

#[tokio::test]
async fn a_container_credential_is_kept_until_five_minutes_before_its_expiry() {
    let metadata = FakeTransport::new(|number, _| Ok((StatusCode::OK, container_answer(number))));
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"),
    ];
    let world = world(&variables, None, nobody(), metadata);
    let found = world.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIA0", "container endpoint"));
    assert_eq!(found.session_token.as_ref().map(Secret::expose), Some("container-token"));
    assert_eq!(world.metadata.sent.lock().unwrap()[0].headers()["authorization"], "pod-token");
    world.hands.advance(54 * 60);
    assert_eq!(world.identity.credential().await.unwrap().access_key_id, "ASIA0");
    world.hands.advance(60);
    assert_eq!(world.identity.credential().await.unwrap().access_key_id, "ASIA1");
    assert_eq!(world.transport.calls(), 0, "link-local requests never leave by the ordinary transport");
}

#[tokio::test]
async fn concurrent_asks_share_one_lookup() {
    let metadata = FakeTransport::new(|number, _| Ok((StatusCode::OK, container_answer(number))));
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let world = Arc::new(world(&variables, None, nobody(), metadata));
    let asks: Vec<_> = (0..8)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.identity.credential().await.unwrap().access_key_id.clone() })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), "ASIA0");
    }
    assert_eq!(world.metadata.calls(), 1);
}

#[tokio::test]
async fn a_web_identity_asks_the_regional_sts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "header.claims.signature\n").unwrap();
    let transport = FakeTransport::new(|_, _| {
        let xml = crate::fakes::ISSUED_XML.replace("AssumeRole", "AssumeRoleWithWebIdentity");
        Ok((StatusCode::OK, xml.replace("2026-11-21T06:15:00Z", "2026-11-21T07:00:00Z")))
    });
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/gateway"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
    ];
    let world = world(&variables, None, transport, nobody());
    let found = world.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAEXAMPLE", "web identity"));
    assert_eq!(world.transport.sent.lock().unwrap()[0].uri(), "https://sts.eu-west-1.amazonaws.com/");
    let form = world.transport.form(0);
    assert_eq!(
        (form["RoleSessionName"].as_str(), form["RoleArn"].as_str()),
        ("durward", "arn:aws:iam::1:role/gateway")
    );
}

#[tokio::test]
async fn a_broken_web_identity_does_not_become_the_node() {
    let metadata = FakeTransport::new(|number, _| Ok((StatusCode::OK, container_answer(number))));
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/gateway"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1"),
    ];
    let world = world(&variables, None, nobody(), metadata);
    let error = world.identity.credential().await.unwrap_err();
    assert!(matches!(&error, IdentityError::Source { source_name: "web identity", .. }), "{error}");
    assert_eq!(world.metadata.calls(), 0);
}

#[tokio::test]
async fn the_instance_role_is_read_with_a_metadata_token() {
    let metadata = FakeTransport::new(|number, request| {
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
    let world = world(&[], None, nobody(), metadata);
    let found = world.identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAEC2", "instance metadata"));
    assert_eq!(found.expires, Some(time::macros::datetime!(2026-11-21 12:00 UTC)));
}

#[tokio::test]
async fn a_process_gives_a_credential_and_its_failure_stays_quiet() {
    let directory = tempfile::tempdir().unwrap();
    let (script, config) = (directory.path().join("give"), directory.path().join("config"));
    std::fs::write(&config, format!("[default]\ncredential_process = sh {}\n", script.display())).unwrap();
    let give = r#"{"Version":1,"AccessKeyId":"ASIAPROC","SecretAccessKey":"s","SessionToken":"t",
        "Expiration":"2026-11-21T12:00:00Z"}"#;
    let variables = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];

    std::fs::write(&script, format!("echo '{give}'\n")).unwrap();
    let found = world(&variables, None, nobody(), nobody()).identity.credential().await.unwrap();
    assert_eq!((found.access_key_id.as_str(), found.source), ("ASIAPROC", "credential process"));

    for broken in ["echo leaked-secret >&2\nexit 3\n", "echo leaked-secret\n"] {
        std::fs::write(&script, broken).unwrap();
        let error = world(&variables, None, nobody(), nobody()).identity.credential().await.unwrap_err();
        assert!(matches!(&error, IdentityError::Source { source_name: "credential process", .. }), "{error}");
        assert!(!format!("{error:?}").contains("leaked-secret"), "{error:?}");
    }
}

#[tokio::test]
async fn plain_http_goes_to_metadata_addresses_only() {
    let metadata = FakeTransport::new(|number, _| Ok((StatusCode::OK, container_answer(number))));
    for address in ["http://192.0.2.1/creds", "http://metadata.example/creds", "http://[2001:db8::1]/creds"] {
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let world = world(&variables, None, nobody(), metadata.clone());
        assert!(world.identity.credential().await.is_err(), "{address}");
    }
    assert_eq!(metadata.calls(), 0);
    for address in
        ["http://localhost:8/creds", "http://127.0.0.1/creds", "http://[fd00:ec2::23]/v1/credentials"]
    {
        let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)];
        let world = world(&variables, None, nobody(), metadata.clone());
        assert!(world.identity.credential().await.is_ok(), "{address}");
    }
}

#[tokio::test]
async fn nothing_found_says_where_it_looked() {
    let world = world(&[], None, nobody(), nobody());
    let error = world.identity.credential().await.unwrap_err().to_string();
    assert!(error.contains("environment") && error.contains("instance metadata"), "{error}");
}

#[tokio::test]
async fn an_expired_credential_is_no_identity() {
    let metadata = FakeTransport::new(|number, _| Ok((StatusCode::OK, container_answer(number))));
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let world = world(&variables, None, nobody(), metadata);
    world.hands.advance(2 * 3600);
    let error = world.identity.credential().await.unwrap_err();
    assert_eq!(error, IdentityError::Expired { source_name: "container endpoint" });
}

#[tokio::test]
async fn the_last_look_says_what_came_of_it_and_since_when() {
    let there = Arc::new(AtomicBool::new(false));
    let answers = there.clone();
    let metadata = FakeTransport::new(move |number, _| {
        if answers.load(Ordering::Relaxed) {
            Ok((StatusCode::OK, container_answer(number)))
        } else {
            Ok((StatusCode::INTERNAL_SERVER_ERROR, String::new()))
        }
    });
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1")];
    let world = world(&variables, None, nobody(), metadata);
    assert_eq!(world.identity.last_look(), None, "nobody has looked");
    world.identity.credential().await.unwrap_err();
    let first = world.identity.last_look().unwrap();
    assert!(first.outcome.is_err() && first.since == first.at, "{first:?}");
    world.hands.advance(60);
    world.identity.credential().await.unwrap_err();
    let second = world.identity.last_look().unwrap();
    assert_eq!((second.since, second.at - first.at), (first.since, time::Duration::MINUTE));
    there.store(true, Ordering::Relaxed);
    world.identity.credential().await.unwrap();
    let found = world.identity.last_look().unwrap();
    assert_eq!((&found.outcome, found.long_lived), (&Ok("container endpoint"), false));
    assert_eq!(found.since, found.at);
}
