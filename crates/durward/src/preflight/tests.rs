//! What `durward config check` finds, and `durward serve` before it starts.

use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

const VALID_CONFIG: &str = r#"[policy]
dir = "policies"
[console]
public_url = "https://durward.example.com"
[[identity.oidc]]
name = "corp"
issuer = "https://login.example.com"
audience = ["durward"]
console_client_id = "console"
console_client_secret_file = "console.secret"
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
[[notify.slack]]
name = "chat"
url_file = "slack.url"
[[notify.email]]
name = "mail"
server = "smtp://mail.example.com"
from = "d@example.com"
to = ["a@example.com"]
username = "durward"
password_file = "mail.password"
[[notify.webhook]]
name = "robot"
url = "https://robot.example.com/x"
secret_file = "webhook.secret"
"#;

const VALID_POLICIES: &str = "permit (principal, action == Action::\"connect\", resource);
@approval(\"oncall\") forbid (principal, action == Aws::Action::\"s3:DeleteBucket\", resource);";

/// A directory with every file that the configuration names.
fn test_config_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    fs::create_dir(&policies).unwrap();
    let files = [
        ("durward.toml", VALID_CONFIG),
        ("policies/all.cedar", VALID_POLICIES),
        ("console.secret", "s3cret"),
        ("slack.url", "https://hooks.example.com/s3cret"),
        ("mail.password", "s3cret"),
        ("webhook.secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    for (name, text) in files {
        write_private_file(&dir, name, text);
    }
    dir
}

fn write_private_file(dir: &TempDir, name: &str, text: &str) {
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn run_preflight(dir: &TempDir) -> Result<Vec<String>, String> {
    let opened = open_configuration_file(&dir.path().join("durward.toml"));
    let shorten = |text: String| text.replace(&dir.path().display().to_string(), "DIR");
    opened
        .map(|(_config, opened)| opened.warnings.into_iter().map(shorten).collect())
        .map_err(|error| shorten(error.to_string()))
}

#[test]
fn accepts_a_valid_configuration_and_creates_nothing() {
    let dir = test_config_dir();
    assert_eq!(run_preflight(&dir), Ok(Vec::new()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
}

#[test]
fn reports_every_missing_file_with_the_line_that_names_it() {
    let dir = test_config_dir();
    for name in ["console.secret", "slack.url", "mail.password", "webhook.secret"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::remove_dir_all(dir.path().join("policies")).unwrap();
    let error = run_preflight(&dir).unwrap_err();
    for wanted in [
        "DIR/durward.toml:2: [policy] dir: DIR/policies: the policy directory cannot be read: No such file",
        "DIR/durward.toml:10: [[identity.oidc]] console_client_secret_file: DIR/console.secret: cannot be read: No such",
        "DIR/durward.toml:16: [[notify.slack]] url_file: DIR/slack.url: cannot be read: No such",
        "DIR/durward.toml:23: [[notify.email]] password_file: DIR/mail.password: cannot be read: No such",
        "DIR/durward.toml:27: [[notify.webhook]] secret_file: DIR/webhook.secret: cannot be read: No such",
    ] {
        assert_eq!(error.matches(wanted).count(), 1, "{wanted}\n{error}");
    }
}

#[test]
fn reports_errors_inside_files_without_revealing_secrets() {
    for (name, text, wanted) in [
        (
            "policies/all.cedar",
            "permit (principal, action, resourc);",
            ":2: [policy] dir: the policies are not valid:\nDIR/policies/all.cedar:1:",
        ),
        (
            "console.secret",
            " \n",
            ":10: [[identity.oidc]] console_client_secret_file: DIR/console.secret: is empty",
        ),
        (
            "slack.url",
            "hooks.example.com/s3cret",
            ":16: [[notify.slack]] url_file: DIR/slack.url: the address is not a URL",
        ),
        ("webhook.secret", "s3cret", ":27: [[notify.webhook]] secret_file: DIR/webhook.secret: "),
    ] {
        let dir = test_config_dir();
        write_private_file(&dir, name, text);
        let error = run_preflight(&dir).unwrap_err();
        assert!(error.contains(wanted) && !error.contains("s3cret\""), "{wanted}\n{error}");
        assert!(!error.contains("hooks.example.com"), "{error}");
    }
}

#[test]
fn reports_unusable_addresses_certificates_and_directories() {
    let listen = "[listen]\ntls = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }\n";
    let emulator = |url: &str| {
        format!("[aws]\nemulator_url = \"{url}\"\nemulator_ca_file = \"ca.pem\"\n[[aws.connection]]")
    };
    for (from, to, wanted) in [
        (
            "[policy]",
            format!("{listen}[policy]"),
            ":2: [listen.tls] certificate_file: DIR/cert.pem: cannot be read",
        ),
        (
            "[[aws.connection]]",
            emulator("https://a b"),
            ":12: [aws] emulator_url: `https://a b` is not an http or https URL",
        ),
        (
            "[[aws.connection]]",
            emulator("https://aws.test"),
            ":13: [aws] emulator_ca_file: DIR/ca.pem: cannot be read",
        ),
        (
            "[policy]",
            "data_dir = \"slack.url\"\n[policy]".to_owned(),
            ":1: data_dir: DIR/slack.url: is not a directory",
        ),
        // Two checks find this problem; it is reported once.
        (
            "https://login",
            "login".to_owned(),
            ":7: [[identity.oidc]] issuer: `login.example.com`: must begin with",
        ),
        (
            "https://robot",
            "robot".to_owned(),
            ":26: [[notify.webhook]] url: `robot.example.com/x`: the address is not a URL",
        ),
    ] {
        let dir = test_config_dir();
        write_private_file(&dir, "durward.toml", &VALID_CONFIG.replacen(from, &to, 1));
        let error = run_preflight(&dir).unwrap_err();
        assert!(error.contains(wanted), "{wanted}\n{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// The third example, for EKS, names files that only a pod has.
#[test]
fn the_examples_would_start() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for name in ["laptop.toml", "mcp-only.toml"] {
        let opened = open_configuration_file(&examples.join(name));
        let (_config, opened) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(opened.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn warns_of_each_secret_that_other_users_can_read() {
    let dir = test_config_dir();
    for name in ["console.secret", "slack.url", "mail.password", "webhook.secret"] {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o644)).unwrap();
    }
    let warnings = run_preflight(&dir).unwrap();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(
        warnings.contains(
            &"DIR/durward.toml:27: [[notify.webhook]] secret_file: other users can use this secret (mode 644): \
              chmod 600 DIR/webhook.secret"
                .to_owned()
        ),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn a_gateway_does_not_start_with_a_rejected_configuration() {
    let dir = test_config_dir();
    write_private_file(&dir, "durward.toml", &format!("data_dir = \"data\"\n{VALID_CONFIG}"));
    fs::remove_file(dir.path().join("webhook.secret")).unwrap();
    let file = dir.path().join("durward.toml");
    let refused = crate::serve::run_until_signal(&file).await.unwrap_err().to_string();
    assert_eq!(Some(refused), open_configuration_file(&file).err().map(|error| error.to_string()));
    assert!(!dir.path().join("data").exists(), "the state was created before the check");
}

#[test]
fn reports_names_in_policies_that_the_configuration_does_not_have() {
    let dir = test_config_dir();
    let policies = "permit (principal, action == Action::\"connect\", resource == Connection::\"prod\");\n\
        forbid (principal, action == Mcp::Action::\"tools/call\", resource in Mcp::Server::\"files\");\n\
        permit (principal, action == Action::\"reveal\", resource == DataClass::\"aws-sensitve\");\n\
        forbid (principal == Caller::\"copr/eve\", action, resource);\n\
        forbid (principal, action == Aws::Action::\"s3:GetObject\", resource) unless { context.connection == \"prd\" };\n";
    write_private_file(&dir, "policies/all.cedar", policies);
    let error = run_preflight(&dir).unwrap_err();
    for expected in [
        "all.cedar:2:69: policy `all.2`: there is no MCP server \"files\"",
        "the configuration has no MCP server",
        "all.cedar:3:60: policy `all.3`: there is no data class \"aws-sensitve\"",
        "did you mean \"aws-sensitive\"?",
        "all.cedar:4:22: policy `all.4`: there is no identity provider \"copr\"",
        "did you mean \"corp\"?",
        "all.cedar:5:100: policy `all.5`: there is no AWS connection \"prd\"",
        "did you mean \"prod\"?",
    ] {
        assert!(error.contains(expected), "{expected} in\n{error}");
    }
    assert!(!error.contains("all.cedar:1:"), "{error}");
}

#[tokio::test]
async fn a_name_of_an_mcp_server_leads_into_the_network_only_where_the_configuration_says_so() {
    let dir = test_config_dir();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    // The resolver reads `127.1` as 127.0.0.1, so it stands for a name that somebody points at this machine.
    for (host, key, is_forbidden) in [
        ("127.1", "", true),
        ("127.1", "allow_private_address = false", true),
        ("127.1", "allow_private_address = true", false),
        ("127.0.0.1", "", false),
        ("localhost", "", false),
    ] {
        let server = format!("[[mcp.server]]\nname = \"files\"\nurl = \"http://{host}:{port}/mcp\"\n{key}\n");
        write_private_file(&dir, "durward.toml", &format!("{VALID_CONFIG}{server}"));
        let (_config, opened) = open_configuration_file(&dir.path().join("durward.toml")).unwrap();
        let origin = opened.mcp_servers[0].origin.clone();
        let request = http::Request::get("/mcp").header("host", origin.authority());
        let request = request.body(bytes::Bytes::new()).unwrap();
        let error = opened.upstream_client.send_buffered(&origin, request, 100).await.unwrap_err();
        let forbidden = matches!(error, durward_gateway::upstream_client::UpstreamError::ForbiddenAddress(_));
        assert_eq!(forbidden, is_forbidden, "{host} {key}: {error}");
    }
}

#[test]
fn warns_of_a_console_that_admits_nobody() {
    let dir = test_config_dir();
    let warnings = |more: &str, policies: &str| {
        let config = VALID_CONFIG.replace("[console]\n", &format!("[console]\n{more}\n"));
        write_private_file(&dir, "durward.toml", &config);
        write_private_file(&dir, "policies/all.cedar", policies);
        run_preflight(&dir).unwrap()
    };
    let no_approvals = VALID_POLICIES.lines().next().unwrap();
    let [warning] = warnings("", no_approvals).try_into().unwrap();
    assert!(warning.contains("nobody may use the console"), "{warning}");
    assert!(warnings("", VALID_POLICIES).is_empty());
    assert!(warnings("revoke_groups = [\"security\"]", no_approvals).is_empty());
    assert!(warnings("allowed_groups = [\"platform\"]", no_approvals).is_empty());
}
