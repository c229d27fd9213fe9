//! The test environment: origin, gateway, Envoy and nginx on free loopback ports, each a process that ends with its owner.
//!
//! Envoy signs and checks nothing; nginx only passes on; the gateway has everything on.

use crate::gateway::{Gateway, Setting, origin};
use crate::process::{Process, free_address, pinned, write};
use crate::requests::{Credential, Load, REGION};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

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
    process: Option<Rc<Process>>,
}

impl Peer {
    pub fn address(&self, load: Load) -> SocketAddr {
        if load.service() == "s3" { self.s3 } else { self.dynamodb }
    }

    pub fn cpu_seconds(&self) -> Result<Option<f64>, String> {
        self.process.as_ref().map(|process| process.cpu_seconds()).transpose()
    }

    pub fn resident_mib(&self) -> Result<Option<f64>, String> {
        self.process.as_ref().map(|process| process.resident_mib()).transpose()
    }
}

/// Everything that runs during a measurement.
pub struct TestEnvironment {
    /// Direct, then the proxies.
    pub peers: Vec<Peer>,
    pub credential: Credential,
    gateway: Gateway,
    _origin: Process,
}

impl TestEnvironment {
    pub async fn start(programs: &Programs) -> Result<Self, String> {
        let scratch = &programs.scratch;
        let (origin_process, origin) = origin(scratch).await?;
        let mut peers = vec![Peer { name: "direct", dynamodb: origin, s3: origin, process: None }];
        if let Some(nginx) = &programs.nginx {
            let address = free_address()?;
            let command = nginx_command(programs, nginx, address, origin)?;
            let process = Some(Rc::new(Process::start("nginx", command, scratch, address).await?));
            peers.push(Peer { name: "nginx", dynamodb: address, s3: address, process });
        }
        if let Some(envoy) = &programs.envoy {
            let (dynamodb, s3) = (free_address()?, free_address()?);
            let command = envoy_command(programs, envoy, dynamodb, s3, origin)?;
            let process = Some(Rc::new(Process::start("envoy", command, scratch, s3).await?));
            peers.push(Peer { name: "envoy signing", dynamodb, s3, process });
        }
        let setting = Setting {
            durward: &programs.durward,
            scratch,
            core: programs.proxy_core,
            policies: include_str!("../policies.cedar"),
            console: false,
            is_exposed: false,
            open_files: None,
        };
        let gateway = Gateway::start(&setting, origin).await?;
        let (address, process) = (gateway.address, Some(gateway.process.clone()));
        peers.push(Peer { name: "durward", dynamodb: address, s3: address, process });
        let credential = gateway.sign_in("bench").await?;
        Ok(Self { peers, credential, gateway, _origin: origin_process })
    }

    /// The `Host` that requests are signed for.
    pub fn host(&self) -> String {
        self.gateway.address.to_string()
    }

    /// For the error message when a run fails.
    pub fn log_tail(&self) -> String {
        self.gateway.log_tail()
    }
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
    let mut command = pinned(programs.proxy_core, nginx);
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
    let mut command = pinned(programs.proxy_core, envoy);
    command.arg("--config-path").arg(path).args([
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ]);
    Ok(command)
}
