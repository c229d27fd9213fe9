//! What the demo needs around it: its directory, the stand-ins, and the gateway that runs from a real `durward.toml`.
//!
//! Everything is below one new directory that only its owner may enter, and on loopback.

use crate::config::{self, Config};
use crate::serve::{self, RunningGateway};
use durward_core::{Secret, env_vars};
use durward_credential::GatewayIdentity;
use durward_fake_aws::aws::{ACCOUNT_ID, FakeAws, GATEWAY_ACCESS_KEY_ID};
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const SAMPLE_POLICIES: [(&str, &str); 6] = [
    ("10-connect.cedar", include_str!("../../../../policies/10-connect.cedar")),
    ("20-reads.cedar", include_str!("../../../../policies/20-reads.cedar")),
    ("30-guards.cedar", include_str!("../../../../policies/30-guards.cedar")),
    ("40-approvals.cedar", include_str!("../../../../policies/40-approvals.cedar")),
    ("50-reveal.cedar", include_str!("../../../../policies/50-reveal.cedar")),
    ("60-mcp.cedar", include_str!("../../../../policies/60-mcp.cedar")),
];
/// Of the tokens of callers.
pub(super) const CALLER_AUDIENCE: &str = "durward";
/// Of the tokens by which people use the admin API.
pub(super) const ADMIN_API_AUDIENCE: &str = "durward-people";
pub(super) const CONNECTION_NAME: &str = "demo";
pub(super) const SECRET_VALUE: &str = "{\"user\":\"app\",\"password\":\"correct-horse-battery\"}";
/// The bucket that the configuration labels critical, and what is in it.
pub(super) const BACKUP_BUCKET: &str = "demo-backups";
pub(super) const BACKUP_KEYS: [&str; 3] = ["2026-11-20.tar", "2026-11-19.tar", "2026-11-18.tar"];

/// The stand-ins and the gateway between them.
pub(super) struct DemoEnvironment {
    pub dir: PathBuf,
    pub fake_aws: FakeAws,
    pub issuer: FakeOidcIssuer,
    pub gateway: RunningGateway,
    /// Of the AWS door.
    pub aws_url: String,
    pub console_url: String,
}

impl DemoEnvironment {
    pub async fn start(dir: &Path) -> Result<Self, String> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let aws = FakeAws::start(loopback)
            .await
            .map_err(|error| format!("the stand-in AWS cannot start: {error}"))?;
        let issuer = FakeOidcIssuer::start(loopback)
            .await
            .map_err(|error| format!("the issuer cannot start: {error}"))?;
        aws.put_object("demo-data", "reports/q3.csv", "region,revenue\neu,42\n");
        aws.put_object("demo-data", "reports/salaries.csv", "not for the agent's credential\n");
        for name in BACKUP_KEYS {
            aws.put_object(BACKUP_BUCKET, name, "all there is\n");
        }
        aws.put_secret("prod/db", SECRET_VALUE);
        let running = start_gateway(dir, &aws, &issuer, free_addresses).await?;
        let door = format!("http://{}", running.aws_address.ok_or("the AWS door is closed")?);
        let console = format!("http://{}", running.console_address.ok_or("the console is closed")?);
        Ok(Self {
            dir: dir.to_owned(),
            fake_aws: aws,
            issuer,
            gateway: running,
            aws_url: door,
            console_url: console,
        })
    }

    /// A file with a token, for whoever may read the demo's directory.
    pub fn write_token_file(&self, name: &str, token: &str) -> Result<PathBuf, String> {
        let path = self.dir.join(name);
        write_private_file(&path, token)?;
        Ok(path)
    }
}

/// A new directory for a demo.
pub fn create_demo_directory() -> Result<PathBuf, String> {
    let name = format!("durward-demo-{}", std::process::id());
    for number in 0..16 {
        let name = if number == 0 { name.clone() } else { format!("{name}-{number}") };
        let dir = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            // Of another demo with this process id, or not ours at all.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{}: cannot be made: {error}", dir.display())),
        }
    }
    Err(format!("{}: too many old demos are there: remove durward-demo-*", std::env::temp_dir().display()))
}

/// Where the demo logs: what it prints is for people.
pub fn open_log_file(dir: &Path) -> Result<File, String> {
    open_private_file(&dir.join("durward.log"))
}

pub(crate) fn gateway_identity(aws: &FakeAws) -> GatewayIdentity {
    GatewayIdentity::from_static_credential(GATEWAY_ACCESS_KEY_ID, Secret::new(aws.gateway_secret()), None)
}

/// Starts the gateway at addresses that `choose` finds free. Another program may take them before it listens: then it
/// chooses again.
async fn start_gateway(
    dir: &Path,
    aws: &FakeAws,
    issuer: &FakeOidcIssuer,
    mut choose: impl FnMut() -> Result<[SocketAddr; 2], String>,
) -> Result<RunningGateway, String> {
    let config = write_config(dir, aws, issuer, choose()?)?;
    if let Ok(running) = serve::start_gateway(config, Some(gateway_identity(aws))).await {
        return Ok(running);
    }
    let config = write_config(dir, aws, issuer, choose()?)?;
    serve::start_gateway(config, Some(gateway_identity(aws))).await
}

/// Where the AWS door and the console can be: at their usual addresses, or at free ones.
fn free_addresses() -> Result<[SocketAddr; 2], String> {
    let bound = |usual: &str| {
        TcpListener::bind(usual)
            .or_else(|_taken| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .map_err(|error| format!("no address is free for the demo: {error}"))
    };
    // Both are held until both are known, so that they differ.
    let (aws, console) =
        (bound(env_vars::DEFAULT_AWS_LISTEN_ADDRESS)?, bound(env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS)?);
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    Ok([address(&aws)?, address(&console)?])
}

/// Writes `durward.toml` and the sample policies below `dir`, and reads them as `durward serve` does. The addresses are
/// those of the AWS door and of the console.
pub(crate) fn write_config(
    dir: &Path,
    aws: &FakeAws,
    issuer: &FakeOidcIssuer,
    [door, console]: [SocketAddr; 2],
) -> Result<Config, String> {
    let policies = dir.join("policies");
    std::fs::create_dir_all(&policies).map_err(|error| format!("{}: {error}", policies.display()))?;
    for (name, text) in SAMPLE_POLICIES {
        write_private_file(&policies.join(name), text)?;
    }
    let (issuer, upstream) = (issuer.url(), aws.url());
    let text = format!(
        r#"# What `durward demo` runs with, on this machine alone. docs/configuration.md explains every key.
data_dir = "data"

[listen]
aws = "{door}"
console = "{console}"

[policy]
dir = "policies"

# The stand-in issuer. It vouches for everybody: trust it nowhere else.
[[identity.oidc]]
name = "demo"
issuer = "{issuer}"
audience = ["{CALLER_AUDIENCE}"]                       # tokens of agents
console_client_id = "durward-console"        # people in a browser
cli_client_id = "durward-cli"                # people who use `durward login`
console_audience = ["{ADMIN_API_AUDIENCE}"]        # people with a token in a file

[console]
revoke_groups = ["platform-oncall"]          # who may end sessions; everybody may look on

[approval]
hold = "10m"                                 # how long a call waits for people

[[approval.risky_tag]]
key = "critical"
value = "true"
weight = 20

[aws]
emulator_url = "{upstream}"      # the stand-in AWS
tags = "labels"                              # it has no tags: the labels are all there are

[[aws.connection]]
name = "{CONNECTION_NAME}"
role_arn = "arn:aws:iam::{ACCOUNT_ID}:role/agents"

[[aws.label]]
arn = "arn:aws:s3:::{BACKUP_BUCKET}"
tags = {{ critical = "true" }}
"#
    );
    let file = dir.join("durward.toml");
    write_private_file(&file, &text)?;
    config::load_config(&file)
}

fn open_private_file(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.map_err(|error| format!("{}: cannot be written: {error}", path.display()))
}

fn write_private_file(path: &Path, text: &str) -> Result<(), String> {
    open_private_file(path)?
        .write_all(text.as_bytes())
        .map_err(|error| format!("{}: cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn chooses_again_when_an_address_is_taken_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (aws, issuer) =
            (FakeAws::start(loopback).await.unwrap(), FakeOidcIssuer::start(loopback).await.unwrap());
        let taken = TcpListener::bind(loopback).unwrap();
        let mut choices = vec![[loopback; 2], [loopback, taken.local_addr().unwrap()]];
        let choose = || choices.pop().ok_or_else(|| "chosen a third time".to_owned());
        let running = start_gateway(dir.path(), &aws, &issuer, choose).await.unwrap();
        assert_ne!(running.console_address, taken.local_addr().ok());
        running.stop().await;
    }

    #[test]
    fn free_addresses_differ_and_are_on_loopback() {
        let [door, console] = free_addresses().unwrap();
        assert!(door != console && door.ip().is_loopback() && console.ip().is_loopback());
    }

    #[test]
    fn each_demo_has_a_private_directory_of_its_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let (one, two) = (create_demo_directory().unwrap(), create_demo_directory().unwrap());
        assert_ne!(one, two);
        for dir in [one, two] {
            assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
            std::fs::remove_dir(dir).unwrap();
        }
    }
}
