//! The gateway as a deployment would have it, with its origin and its issuer: policies with forbids, a role assumed for each
//! operation, a durable journal.

use crate::process::{Process, free_address, pinned, tail, with_open_files, write};
use crate::requests::Credential;
use durward_core::Secret;
use durward_fake_aws::oidc_issuer::FakeOidcIssuer;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The audience of agents' tokens.
const AUDIENCE: &str = "durward";
/// The audience of approvers' tokens, which the AWS front end refuses.
const CONSOLE_AUDIENCE: &str = "durward-people";

/// Where to find the gateway, and how to run it.
pub struct Setting<'a> {
    pub durward: &'a Path,
    pub scratch: &'a Path,
    /// The core that it runs on; this program and the origin run where they were started.
    pub core: Option<usize>,
    pub policies: &'a str,
    /// Whether people can vote on approval requests.
    pub console: bool,
    /// Whether it listens on every address of this machine, and not on loopback alone.
    pub is_exposed: bool,
    /// The limit of its open files, if it is not that of this program.
    pub open_files: Option<usize>,
}

pub struct Gateway {
    pub process: Rc<Process>,
    pub address: SocketAddr,
    pub console: SocketAddr,
    issuer: FakeOidcIssuer,
}

/// Starts this program again as the origin.
pub async fn origin(scratch: &Path) -> Result<(Process, SocketAddr), String> {
    fs::create_dir_all(scratch).map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
    let address = free_address()?;
    let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut serve = Command::new(this);
    serve.args(["origin", &address.port().to_string()]);
    Ok((Process::start("origin", serve, scratch, address).await?, address))
}

impl Gateway {
    pub async fn start(setting: &Setting<'_>, origin: SocketAddr) -> Result<Self, String> {
        let issuer = FakeOidcIssuer::start((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .map_err(|error| format!("the issuer did not start: {error}"))?;
        let (address, console) = (free_address()?, free_address()?);
        let config = configure(setting, address, console, origin, issuer.url())?;
        let mut command = pinned(setting.core, setting.durward);
        if let Some(limit) = setting.open_files {
            command = with_open_files(limit, &command);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env("AWS_ACCESS_KEY_ID", "AKIABENCHBENCHBENCH0")
            .env("AWS_SECRET_ACCESS_KEY", "benchbenchbenchbenchbenchbenchbenchbench")
            .env("DURWARD_LOG", "warn");
        let process = Rc::new(Process::start("durward", command, setting.scratch, address).await?);
        Ok(Self { process, address, console, issuer })
    }

    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.issuer.issue_token(subject, groups, AUDIENCE, Duration::from_hours(12))
    }

    /// The token with which an approver uses the admin API.
    pub fn approver_token(&self, subject: &str, groups: &[&str]) -> String {
        self.issuer.issue_token(subject, groups, CONSOLE_AUDIENCE, Duration::from_hours(12))
    }

    /// The credential that an agent of this name signs with.
    pub async fn sign_in(&self, subject: &str) -> Result<Credential, String> {
        sign_in(self.address, &self.token(subject, &["agents"]))
            .await
            .map_err(|error| format!("{error}\n{}", self.log_tail()))
    }

    /// For the error message when a run fails.
    pub fn log_tail(&self) -> String {
        let log = &self.process.log;
        format!("the gateway's log ({}) ends:\n{}", log.display(), tail(log))
    }
}

fn configure(
    setting: &Setting<'_>,
    address: SocketAddr,
    console: SocketAddr,
    origin: SocketAddr,
    issuer: &str,
) -> Result<PathBuf, String> {
    let policies = setting.scratch.join("policies");
    let data = setting.scratch.join("data");
    for stale in [&policies, &data] {
        if stale.exists() {
            fs::remove_dir_all(stale)
                .map_err(|error| format!("cannot remove {}: {error}", stale.display()))?;
        }
    }
    fs::create_dir_all(&policies).map_err(|error| format!("cannot make {}: {error}", policies.display()))?;
    write(&policies.join("bench.cedar"), setting.policies)?;
    let config = setting.scratch.join("durward.toml");
    let console = if setting.console {
        format!("console = \"{console}\"\n[approval]\nhold = \"30m\"\n")
    } else {
        String::new()
    };
    let listen = if setting.is_exposed {
        format!("aws = \"0.0.0.0:{}\"\nproxy_terminates_tls = true\n", address.port())
    } else {
        format!("aws = \"{address}\"\n")
    };
    write(
        &config,
        &format!(
            "data_dir = \"data\"\n[listen]\n{listen}{console}[policy]\ndir = \"policies\"\n\
             [[identity.oidc]]\nname = \"bench\"\nissuer = \"{issuer}\"\naudience = [\"{AUDIENCE}\"]\nconsole_audience = [\"{CONSOLE_AUDIENCE}\"]\n\
             [aws]\nemulator_url = \"http://{origin}\"\n\
             [[aws.connection]]\nname = \"bench\"\nrole_arn = \"arn:aws:iam::123456789012:role/bench\"\nscope = \"operation\"\n"
        ),
    )?;
    Ok(config)
}

/// Signs in at the container-credentials endpoint.
async fn sign_in(gateway: SocketAddr, token: &str) -> Result<Credential, String> {
    let broken = |error: std::io::Error| format!("sign-in at {gateway} broke off: {error}");
    let mut stream = TcpStream::connect(gateway).await.map_err(broken)?;
    let request = format!(
        "GET /.durward/container-credentials/bench HTTP/1.1\r\nhost: {gateway}\r\nauthorization: {token}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.map_err(broken)?;
    let refused = || format!("the gateway did not sign us in: {response}");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(refused)?;
    let body: Value = serde_json::from_str(body).map_err(|_error| refused())?;
    let field = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(refused);
    if !head.starts_with("HTTP/1.1 200") {
        return Err(refused());
    }
    Ok(Credential {
        access_key_id: field("AccessKeyId")?,
        secret_access_key: field("SecretAccessKey")?,
        session_token: Secret::new(field("Token")?),
    })
}
