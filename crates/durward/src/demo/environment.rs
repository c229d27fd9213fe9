//! The surroundings of the demo: its directory, the fakes, and a gateway that runs from a real `durward.toml`.
//!
//! All files are in one new directory that only its owner can enter. All listeners are on loopback.

use super::DemoError;
use crate::command_error::CommandError;
use crate::config::{self, Config, ConfigError};
use crate::serve::{self, RunningGateway, StartError};
use durward_core::{Origin, Secret, env_vars};
use durward_credential::GatewayIdentity;
use durward_fake_aws::aws::{ACCOUNT_ID, FakeAws, GATEWAY_ACCESS_KEY_ID};
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Without those for MCP: they name a server, and the demo has none.
const SAMPLE_POLICIES: [(&str, &str); 5] = [
    ("10-connect.cedar", include_str!("../../../../policies/10-connect.cedar")),
    ("20-reads.cedar", include_str!("../../../../policies/20-reads.cedar")),
    ("30-guards.cedar", include_str!("../../../../policies/30-guards.cedar")),
    ("40-approvals.cedar", include_str!("../../../../policies/40-approvals.cedar")),
    ("50-reveal.cedar", include_str!("../../../../policies/50-reveal.cedar")),
];
/// Audience of the callers' tokens.
pub(super) const CALLER_AUDIENCE: &str = "durward";
/// Audience of the tokens with which users call the admin API.
pub(super) const ADMIN_API_AUDIENCE: &str = "durward-people";
pub(super) const CONNECTION_NAME: &str = "demo";
pub(super) const SECRET_VALUE: &str = "{\"user\":\"app\",\"password\":\"correct-horse-battery\"}";
/// The bucket that the configuration labels critical, and its objects.
pub(super) const BACKUP_BUCKET: &str = "demo-backups";
pub(super) const BACKUP_KEYS: [&str; 3] = ["2026-11-20.tar", "2026-11-19.tar", "2026-11-18.tar"];

/// The fakes and the gateway between them.
pub(super) struct DemoEnvironment {
    pub dir: PathBuf,
    pub fake_aws: FakeAws,
    pub issuer: FakeOidcIssuer,
    pub gateway: RunningGateway,
    /// The origin of the AWS front end.
    pub aws_origin: Origin,
    pub console_url: String,
}

impl DemoEnvironment {
    pub async fn start(dir: &Path) -> Result<Self, DemoError> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let fake_failed = |part| move |error| DemoError::Fake { part, error };
        let aws = FakeAws::start(loopback).await.map_err(fake_failed("fake AWS"))?;
        let issuer = FakeOidcIssuer::start(loopback).await.map_err(fake_failed("fake issuer"))?;
        aws.put_object("demo-data", "reports/q3.csv", "region,revenue\neu,42\n");
        aws.put_object("demo-data", "reports/salaries.csv", "not for the agent's credential\n");
        for name in BACKUP_KEYS {
            aws.put_object(BACKUP_BUCKET, name, "all there is\n");
        }
        aws.put_secret("prod/db", SECRET_VALUE);
        let gateway = start_gateway(dir, &aws, &issuer, free_addresses).await?;
        let aws_address = gateway.aws_address.ok_or(DemoError::NotListening("AWS front end"))?;
        let console_address = gateway.console_address.ok_or(DemoError::NotListening("console"))?;
        Ok(Self {
            dir: dir.to_owned(),
            fake_aws: aws,
            issuer,
            gateway,
            aws_origin: format!("http://{aws_address}").parse().map_err(CommandError::Url)?,
            console_url: format!("http://{console_address}"),
        })
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.dir.join("data").join("journal")
    }

    /// Writes a token into a file that only its owner can read.
    pub fn write_token_file(&self, name: &str, token: &str) -> Result<PathBuf, DemoError> {
        let path = self.dir.join(name);
        write_private_file(&path, token)?;
        Ok(path)
    }
}

/// Creates a directory for one demo.
pub fn create_demo_directory() -> Result<PathBuf, DemoError> {
    let name = format!("durward-demo-{}", std::process::id());
    for number in 0..16 {
        let name = if number == 0 { name.clone() } else { format!("{name}-{number}") };
        let dir = std::env::temp_dir().join(name);
        // `create` fails if the path exists, also as a symbolic link: another user of /tmp cannot choose where tokens are written.
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            // Left by an earlier demo whose process had this id, or made by another user to be found here.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(DemoError::File { path: dir, error }),
        }
    }
    Err(DemoError::TooManyDirectories(std::env::temp_dir()))
}

/// Opens the log file of a demo. Its terminal is for the walk-through.
pub fn open_log_file(dir: &Path) -> Result<File, DemoError> {
    open_private_file(&dir.join("durward.log"))
}

/// The AWS identity of the gateway that the fake AWS accepts.
pub fn gateway_identity(aws: &FakeAws) -> GatewayIdentity {
    GatewayIdentity::from_static_credential(GATEWAY_ACCESS_KEY_ID, Secret::new(aws.gateway_secret()), None)
}

/// Starts the gateway at addresses that `choose` finds free. Another program may take one of them first; then new ones are
/// chosen, once.
async fn start_gateway(
    dir: &Path,
    aws: &FakeAws,
    issuer: &FakeOidcIssuer,
    mut choose: impl FnMut() -> Result<[SocketAddr; 2], DemoError>,
) -> Result<RunningGateway, DemoError> {
    let config = write_config(dir, aws, issuer, choose()?)?;
    match serve::start_gateway(config, Some(gateway_identity(aws))).await {
        Err(StartError::Listen { .. }) => {}
        result => return Ok(result?),
    }
    let config = write_config(dir, aws, issuer, choose()?)?;
    Ok(serve::start_gateway(config, Some(gateway_identity(aws))).await?)
}

/// Addresses for the AWS front end and the console: the default ones, or free ones if those are taken.
fn free_addresses() -> Result<[SocketAddr; 2], DemoError> {
    let bind = |default: &str| {
        TcpListener::bind(default)
            .or_else(|_taken| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .map_err(DemoError::NoFreeAddress)
    };
    // Both stay bound until both are known, so that they differ.
    let (aws, console) =
        (bind(env_vars::DEFAULT_AWS_LISTEN_ADDRESS)?, bind(env_vars::DEFAULT_CONSOLE_LISTEN_ADDRESS)?);
    let address = |listener: &TcpListener| listener.local_addr().map_err(DemoError::NoFreeAddress);
    Ok([address(&aws)?, address(&console)?])
}

/// Writes `durward.toml` and the sample policies below `dir`, and loads them as `durward serve` does. The addresses are those
/// of the AWS front end and of the console.
fn write_config(
    dir: &Path,
    aws: &FakeAws,
    issuer: &FakeOidcIssuer,
    [aws_address, console_address]: [SocketAddr; 2],
) -> Result<Config, DemoError> {
    let policies = dir.join("policies");
    std::fs::create_dir_all(&policies).map_err(DemoError::file(&policies))?;
    for (name, text) in SAMPLE_POLICIES {
        write_private_file(&policies.join(name), text)?;
    }
    let (issuer, emulator) = (issuer.url(), aws.url());
    let text = format!(
        r#"# The configuration of `durward demo`, for this machine alone. docs/configuration.md explains every key.
data_dir = "data"

[listen]
aws = "{aws_address}"
console = "{console_address}"

[policy]
dir = "policies"

# The fake issuer. It signs in every user that a browser asks for: trust it nowhere else.
[[identity.oidc]]
name = "demo"
issuer = "{issuer}"
audience = ["{CALLER_AUDIENCE}"]                       # tokens of callers
console_client_id = "durward-console"        # users in a browser
cli_client_id = "durward-cli"                # users of `durward login`
console_audience = ["{ADMIN_API_AUDIENCE}"]        # users with a token in a file

[console]
allowed_groups = ["platform-oncall", "developers"]   # who may use the console; others see nothing
revoke_groups = ["platform-oncall"]          # who of them may revoke sessions

[approval]
hold = "10m"                                 # how long a request waits for approval

[[approval.risky_tag]]
key = "critical"
value = "true"
weight = 20

[aws]
emulator_url = "{emulator}"      # the fake AWS
tags = "labels"                              # the fake AWS has no tags, so only the labels count

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
    config::load_config(&file).map_err(|error: ConfigError| StartError::from(error).into())
}

fn open_private_file(path: &Path) -> Result<File, DemoError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.map_err(DemoError::file(path))
}

fn write_private_file(path: &Path, text: &str) -> Result<(), DemoError> {
    open_private_file(path)?.write_all(text.as_bytes()).map_err(DemoError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn chooses_again_when_an_address_was_taken_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (aws, issuer) =
            (FakeAws::start(loopback).await.unwrap(), FakeOidcIssuer::start(loopback).await.unwrap());
        let taken = TcpListener::bind(loopback).unwrap();
        let mut choices = vec![[loopback; 2], [loopback, taken.local_addr().unwrap()]];
        let choose = || Ok(choices.pop().expect("a third choice"));
        let gateway = start_gateway(dir.path(), &aws, &issuer, choose).await.unwrap();
        assert_ne!(gateway.console_address, taken.local_addr().ok());
        gateway.stop().await;
    }

    #[test]
    fn free_addresses_differ_and_are_on_loopback() {
        let [aws, console] = free_addresses().unwrap();
        assert!(aws != console && aws.ip().is_loopback() && console.ip().is_loopback());
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
