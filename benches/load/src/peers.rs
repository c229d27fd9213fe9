//! The stage: origin, issuer, gateway, Envoy and nginx on free loopback ports, each a process that ends with its owner.
//!
//! Envoy signs and checks nothing; nginx only passes on; the gateway has everything on. What a process used is read from
//! `/proc`, so the numbers exist on Linux only.

use crate::requests::{Credential, Load, REGION};
use durward_core::Secret;
use durward_standin::issuer::Issuer;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Ticks a second in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
const START: Duration = Duration::from_secs(30);

/// What to measure, and where to put its files.
pub struct Programs {
    pub durward: PathBuf,
    pub envoy: Option<PathBuf>,
    pub nginx: Option<PathBuf>,
    pub scratch: PathBuf,
    /// The core that proxies run on; this program and the origin run where they were started.
    pub proxy_core: Option<usize>,
}

/// One path from the load to the origin.
pub struct Peer {
    pub name: &'static str,
    dynamodb: SocketAddr,
    s3: SocketAddr,
    /// None where there is nothing between load and origin.
    process: Option<Process>,
}

impl Peer {
    pub fn address(&self, load: Load) -> SocketAddr {
        if load.service() == "s3" { self.s3 } else { self.dynamodb }
    }

    pub fn cpu_seconds(&self) -> Result<Option<f64>, String> {
        self.process.as_ref().map(|process| cpu_seconds(&process.read("stat")?)).transpose()
    }

    pub fn resident_mib(&self) -> Result<Option<f64>, String> {
        self.process.as_ref().map(|process| resident_mib(&process.read("status")?)).transpose()
    }
}

/// Everything that runs during a measurement.
pub struct Stage {
    /// Direct, then the proxies.
    pub peers: Vec<Peer>,
    pub credential: Credential,
    gateway: SocketAddr,
    gateway_log: PathBuf,
    _origin: Process,
    _issuer: Issuer,
}

impl Stage {
    pub async fn set(programs: &Programs) -> Result<Self, String> {
        let scratch = &programs.scratch;
        fs::create_dir_all(scratch).map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        let origin = free_address()?;
        let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut serve = Command::new(this);
        serve.args(["origin", &origin.port().to_string()]);
        let origin_process = Process::start("origin", serve, scratch, origin).await?;
        let issuer = Issuer::start((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .map_err(|error| format!("the issuer did not start: {error}"))?;
        let mut peers = vec![Peer { name: "direct", dynamodb: origin, s3: origin, process: None }];
        if let Some(nginx) = &programs.nginx {
            let address = free_address()?;
            let command = nginx_command(programs, nginx, address, origin)?;
            let process = Some(Process::start("nginx", command, scratch, address).await?);
            peers.push(Peer { name: "nginx", dynamodb: address, s3: address, process });
        }
        if let Some(envoy) = &programs.envoy {
            let (dynamodb, s3) = (free_address()?, free_address()?);
            let command = envoy_command(programs, envoy, dynamodb, s3, origin)?;
            let process = Some(Process::start("envoy", command, scratch, s3).await?);
            peers.push(Peer { name: "envoy signing", dynamodb, s3, process });
        }
        let gateway = free_address()?;
        let command = gateway_command(programs, gateway, origin, issuer.url())?;
        let process = Process::start("durward", command, scratch, gateway).await?;
        let gateway_log = process.log.clone();
        peers.push(Peer { name: "durward", dynamodb: gateway, s3: gateway, process: Some(process) });
        let token = issuer.issue("bench", &["agents"], "durward", Duration::from_hours(12));
        let credential = sign_in(gateway, &token)
            .await
            .map_err(|error| format!("{error}\nthe gateway's log ends: {}", tail(&gateway_log)))?;
        Ok(Self { peers, credential, gateway, gateway_log, _origin: origin_process, _issuer: issuer })
    }

    /// The `Host` that requests are signed for.
    pub fn host(&self) -> String {
        self.gateway.to_string()
    }

    /// For the error message when a run fails.
    pub fn last_words(&self) -> String {
        format!("the gateway's log ({}) ends:\n{}", self.gateway_log.display(), tail(&self.gateway_log))
    }
}

/// A child with its log, ready when it listens; killed when dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    async fn start(
        name: &str,
        mut command: Command,
        scratch: &Path,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let log = scratch.join(format!("{name}.log"));
        let describe = |error| format!("cannot write {}: {error}", log.display());
        let out = File::create(&log).map_err(describe)?;
        let errors = out.try_clone().map_err(describe)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut process = Self { child, log };
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = process.child.try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > START {
                let how =
                    ended.map_or_else(|| "within 30 seconds".to_owned(), |status| format!("({status})"));
                return Err(format!("{name} did not listen on {address} {how}:\n{}", tail(&process.log)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(process)
    }

    fn read(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, if these fail.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(text.get(text.len().saturating_sub(3000)..).unwrap_or_default()).into_owned()
}

/// User and system time of `/proc/<pid>/stat`, whose second field may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Result<f64, String> {
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    let ticks = |index: usize| fields.as_ref()?.get(index)?.parse::<f64>().ok();
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS),
        _ => Err("/proc/<pid>/stat does not hold utime and stime".to_owned()),
    }
}

fn resident_mib(status: &str) -> Result<f64, String> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| "/proc/<pid>/status holds no VmRSS".to_owned())
}

fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no loopback port is free: {error}"))
}

/// A command on the proxies' core.
fn pinned(programs: &Programs, program: &Path) -> Command {
    match programs.proxy_core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn nginx_command(
    programs: &Programs,
    nginx: &Path,
    address: SocketAddr,
    origin: SocketAddr,
) -> Result<Command, String> {
    let here = programs.scratch.display();
    let path = programs.scratch.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {here}/nginx-{kind};\n"))
        .concat();
    write(
        &path,
        &format!(
            "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/nginx.error.log error;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n    access_log off;\n{temporary}\
             \x20   keepalive_requests 100000000;\n\
             \x20   upstream origin {{ server {origin}; keepalive 128; keepalive_requests 100000000; }}\n\
             \x20   server {{\n        listen {address};\n        location / {{\n            proxy_pass http://origin;\n\
             \x20           proxy_http_version 1.1;\n            proxy_set_header Connection \"\";\n\
             \x20           proxy_max_temp_file_size 0;\n        }}\n    }}\n}}\n"
        ),
    )?;
    let mut command = pinned(programs, nginx);
    command.arg("-c").arg(path).arg("-e").arg(programs.scratch.join("nginx.error.log"));
    Ok(command)
}

fn envoy_command(
    programs: &Programs,
    envoy: &Path,
    dynamodb: SocketAddr,
    s3: SocketAddr,
    origin: SocketAddr,
) -> Result<Command, String> {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let typed = |name: &str, kind: &str, mut config: Value| {
        config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{kind}").into();
        json!({"name": name, "typed_config": config})
    };
    let listener = |service: &str, address: SocketAddr| {
        let signing = json!({
            "service_name": service,
            "region": REGION,
            "credential_provider": {"inline_credential": {
                "access_key_id": "ASIABENCHBENCHBENCH0",
                "secret_access_key": "benchbenchbenchbenchbenchbenchbenchbench",
                "session_token": "IQoJbench".repeat(80),
            }},
        });
        let manager = json!({
            "stat_prefix": service,
            "route_config": {"virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]}
            ]},
            "http_filters": [
                typed("signing", "http.aws_request_signing.v3.AwsRequestSigning", signing),
                typed("router", "http.router.v3.Router", json!({})),
            ],
        });
        let manager = typed("http", "network.http_connection_manager.v3.HttpConnectionManager", manager);
        json!({"name": service, "address": socket(address), "filter_chains": [{"filters": [manager]}]})
    };
    let config = json!({"static_resources": {
        "listeners": [listener("dynamodb", dynamodb), listener("s3", s3)],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": "origin",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(origin)}}]}],
            },
        }],
    }});
    let path = programs.scratch.join("envoy.json");
    write(&path, &config.to_string())?;
    let mut command = pinned(programs, envoy);
    command.arg("--config-path").arg(path).args([
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]);
    Ok(command)
}

/// The gateway as a deployment would have it: policies with forbids, a role lent for one operation, a durable journal.
fn gateway_command(
    programs: &Programs,
    address: SocketAddr,
    origin: SocketAddr,
    issuer: &str,
) -> Result<Command, String> {
    let scratch = &programs.scratch;
    let policies = scratch.join("policies");
    let data = scratch.join("data");
    for stale in [&policies, &data] {
        if stale.exists() {
            fs::remove_dir_all(stale)
                .map_err(|error| format!("cannot remove {}: {error}", stale.display()))?;
        }
    }
    fs::create_dir_all(&policies).map_err(|error| format!("cannot make {}: {error}", policies.display()))?;
    write(&policies.join("bench.cedar"), POLICIES)?;
    let config = scratch.join("durward.toml");
    write(
        &config,
        &format!(
            "data_dir = \"data\"\n[listen]\naws = \"{address}\"\n[policy]\ndir = \"policies\"\n\
             [[identity.oidc]]\nname = \"bench\"\nissuer = \"{issuer}\"\naudience = [\"durward\"]\n\
             [aws]\nupstream = \"http://{origin}\"\n\
             [[aws.connection]]\nname = \"bench\"\nrole_arn = \"arn:aws:iam::123456789012:role/bench\"\nscope = \"operation\"\n"
        ),
    )?;
    let mut command = pinned(programs, &programs.durward);
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
    Ok(command)
}

const POLICIES: &str = include_str!("../policies.cedar");

/// Signs in at the container-credentials endpoint.
async fn sign_in(gateway: SocketAddr, token: &str) -> Result<Credential, String> {
    let broken = |error: std::io::Error| format!("sign-in at {gateway} broke off: {error}");
    let mut stream = TcpStream::connect(gateway).await.map_err(broken)?;
    let request = format!(
        "GET /.durward/container-credentials/bench HTTP/1.1\r\nhost: {gateway}\r\nauthorization: {token}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(broken)?;
    let refused = || format!("the gateway did not sign us in: {answer}");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(refused)?;
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

/// The median of one small append made durable, in microseconds: what the gateway's journal pays at one connection.
pub fn fdatasync_micros(scratch: &Path) -> Result<f64, String> {
    let path = scratch.join("fdatasync");
    let describe = |error| format!("cannot write {}: {error}", path.display());
    let mut file = File::create(&path).map_err(describe)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[b'.'; 400]).map_err(describe)?;
        file.sync_data().map_err(describe)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_after_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert!((cpu_seconds(stat).unwrap() - 3.0).abs() < 1e-9);
        assert!(cpu_seconds("7 (a").is_err());
    }

    #[test]
    fn reads_resident_memory() {
        assert!((resident_mib("Name:\tx\nVmRSS:\t   20480 kB\n").unwrap() - 20.0).abs() < 1e-9);
    }
}
