//! `durward demo`: the whole product on one machine, with no account and no network. A stand-in AWS, an issuer, the
//! gateway with the sample policies, and a caller that is allowed, masked, blocked and recorded.

use crate::config::{
    Approval, Aws as AwsConfig, Config, Connection, Identity, Kind, Listen, Mcp, Notify, Oidc, Policy, Scope, TagSource,
};
use crate::{journal_commands, serve};
use bytes::Bytes;
use durward_aws::sigv4::outbound::{Signer, sign};
use durward_aws::sigv4::{SigningKey, sha256_hex};
use durward_core::{Secret, env};
use durward_credential::BaseIdentity;
use durward_gateway::aws_door::CONTAINER_PATH;
use durward_gateway::transport::{Origin, Transport};
use durward_standin::aws::{ACCOUNT, Aws, GATEWAY_KEY};
use durward_standin::issuer::Issuer;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

const POLICIES: [(&str, &str); 6] = [
    ("10-connect.cedar", include_str!("../../../policies/10-connect.cedar")),
    ("20-reads.cedar", include_str!("../../../policies/20-reads.cedar")),
    ("30-guards.cedar", include_str!("../../../policies/30-guards.cedar")),
    ("40-approvals.cedar", include_str!("../../../policies/40-approvals.cedar")),
    ("50-reveal.cedar", include_str!("../../../policies/50-reveal.cedar")),
    ("60-mcp.cedar", include_str!("../../../policies/60-mcp.cedar")),
];
const AUDIENCE: &str = "durward";
const CONNECTION: &str = "demo";
const SECRET_VALUE: &str = "{\"user\":\"app\",\"password\":\"correct-horse-battery\"}";

/// A caller with a gateway credential, and how it reaches the gateway.
pub(crate) struct Caller {
    pub transport: Transport,
    pub origin: Origin,
    access_key_id: String,
    secret: Secret,
    session_token: Secret,
}

/// Runs the walk-through; 0 when every step showed what it promises.
pub async fn demo(once: bool) -> Result<u8, String> {
    let dir = std::env::temp_dir().join(format!("durward-demo-{}", std::process::id()));
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let aws =
        Aws::start(loopback).await.map_err(|error| format!("the stand-in AWS cannot start: {error}"))?;
    let issuer =
        Issuer::start(loopback).await.map_err(|error| format!("the issuer cannot start: {error}"))?;
    aws.put_object("demo-data", "reports/q3.csv", "region,revenue\neu,42\n");
    aws.put_object("demo-data", "reports/salaries.csv", "not for the agent's credential\n");
    aws.put_secret("prod/db", SECRET_VALUE);
    let config = write_config(&dir, &aws, &issuer)?;
    let running = match serve::start(config(env::AWS_LISTEN), Some(gateway_identity(&aws))).await {
        Ok(running) => running,
        Err(_taken) => serve::start(config("127.0.0.1:0"), Some(gateway_identity(&aws))).await?,
    };
    let url = format!("http://{}", running.aws.ok_or("the AWS door is closed")?);
    say("Durward demo: a stand-in AWS, an OIDC issuer and the gateway, all on this machine")?;
    say(&format!("  gateway {url}   stand-in AWS {}   issuer {}", aws.url(), issuer.url()))?;

    let token = issuer.issue("build-agent", &["agents"], AUDIENCE, Duration::from_hours(8));
    let token_file = dir.join("token");
    write_private(&token_file, &token)?;
    let mut good = true;
    let caller = sign_in(&url, &token).await?;
    step(1, "sign in", "build-agent (group agents) shows its OIDC token and gets a gateway credential")?;
    detail(&format!("key {}: AWS does not know it", caller.access_key_id))?;

    step(2, "allowed", "s3:GetObject demo-data/reports/q3.csv")?;
    let read = caller.call(Method::GET, "s3", "/demo-data/reports/q3.csv", None, "").await?;
    good &= check(read.status() == 200 && read.body().starts_with(b"region,"), &shown(&read))?;

    step(3, "masked", "secretsmanager:GetSecretValue prod/db")?;
    let body = "{\"SecretId\":\"prod/db\"}";
    let secret =
        caller.call(Method::POST, "secretsmanager", "/", Some("secretsmanager.GetSecretValue"), body).await?;
    let text = String::from_utf8_lossy(secret.body());
    good &= check(
        secret.status() == 200 && text.contains("masked") && !text.contains("battery"),
        &shown(&secret),
    )?;

    step(4, "blocked", "s3:DeleteBucket demo-data never reaches AWS")?;
    let before = aws.arrivals().len();
    let deleted = caller.call(Method::DELETE, "s3", "/demo-data", None, "").await?;
    good &= check(deleted.status() == 403 && aws.arrivals().len() == before, &shown(&deleted))?;

    step(5, "lent", "what AWS saw for step 2, and what the caller never had")?;
    let seen = aws.arrivals().into_iter().find(|arrival| arrival.action == "s3:GetObject");
    match &seen {
        Some(arrival) => {
            good &= check(
                arrival.access_key_id.starts_with("ASIA") && arrival.access_key_id != caller.access_key_id,
                &format!(
                    "key {} with a session policy for {} on {} for at most a minute",
                    arrival.access_key_id, arrival.action, arrival.resource
                ),
            )?;
        }
        None => good &= check(false, "AWS saw no s3:GetObject")?,
    }

    running.flush().await?;
    step(6, "recorded", "every exchange, hash-linked; `durward journal verify`")?;
    let journal = dir.join("data").join("journal");
    let mut out = std::io::stdout();
    let verified = journal_commands::verify(&journal, &mut out).map_err(|error| error.to_string())?;
    journal_commands::sessions_ls(&journal, false, &mut out).map_err(|error| error.to_string())?;
    good &= check(verified == 0, "the chain holds")?;

    if once {
        running.stop().await;
        std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        say(if good { "\nEvery step showed what it promises." } else { "\nA step went wrong." })?;
        return Ok(u8::from(!good));
    }
    say("\nThe demo stays up. Point your own AWS CLI or SDK at it:")?;
    say(&format!(
        "  export AWS_ENDPOINT_URL={url} AWS_REGION=us-east-1 AWS_ROLE_ARN=arn:aws:iam::{ACCOUNT}:role/agents AWS_WEB_IDENTITY_TOKEN_FILE={}",
        token_file.display()
    ))?;
    say("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE")?;
    say(
        "  aws s3 ls s3://demo-data/reports/ ; aws secretsmanager get-secret-value --secret-id prod/db ; aws s3 rb s3://demo-data",
    )?;
    say(&format!("  durward sessions ls --dir {}      (Ctrl-C ends the demo)", journal.display()))?;
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())?;
    running.stop().await;
    std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(0)
}

pub(crate) fn gateway_identity(aws: &Aws) -> BaseIdentity {
    BaseIdentity::fixed(GATEWAY_KEY, Secret::new(aws.gateway_secret()), None)
}

/// Writes the sample policies below `dir` and returns a maker of configurations for an address.
pub(crate) fn write_config(
    dir: &Path,
    aws: &Aws,
    issuer: &Issuer,
) -> Result<impl Fn(&str) -> Config + use<>, String> {
    let policies = dir.join("policies");
    std::fs::create_dir_all(&policies).map_err(|error| format!("{}: {error}", policies.display()))?;
    for (name, text) in POLICIES {
        write_private(&policies.join(name), text)?;
    }
    let (dir, upstream, issuer) = (dir.to_owned(), aws.url(), issuer.url().to_owned());
    Ok(move |listen: &str| Config {
        data_dir: Some(dir.join("data")),
        listen: Listen { aws: listen.parse().ok(), ..Listen::default() },
        policy: Policy { dir: dir.join("policies") },
        identity: Identity {
            oidc: vec![Oidc {
                name: "demo".to_owned(),
                issuer: issuer.clone(),
                audience: vec![AUDIENCE.to_owned()],
                groups_claim: "groups".to_owned(),
                kind: Kind::Workload,
                console_client_id: None,
                console_client_secret_file: None,
                console_scopes: Vec::new(),
                cli_client_id: None,
                cli_scopes: None,
                console_audience: Vec::new(),
            }],
        },
        aws: AwsConfig {
            upstream: Some(upstream.clone()),
            upstream_ca: None,
            connection: vec![Connection {
                name: CONNECTION.to_owned(),
                role_arn: format!("arn:aws:iam::{ACCOUNT}:role/agents"),
                external_id: None,
                tags_role_arn: None,
                scope: Scope::Operation,
                region: "us-east-1".to_owned(),
            }],
            tags: TagSource::Labels,
            label: Vec::new(),
        },
        mcp: Mcp::default(),
        notify: Notify::default(),
        approval: Approval::default(),
        console: None,
    })
}

pub(crate) async fn sign_in(url: &str, token: &str) -> Result<Caller, String> {
    let origin = serve::origin(url)?;
    let transport = Transport::new(vec![origin.clone()])?;
    let request = Request::get(format!("{CONTAINER_PATH}{CONNECTION}"))
        .header("host", origin.authority())
        .header("authorization", token)
        .body(Bytes::new())
        .map_err(|error| error.to_string())?;
    let response = transport.call(&origin, request, 1 << 20).await.map_err(|error| error.to_string())?;
    if response.status() != 200 {
        return Err(format!("the sign-in was refused: {}", shown(&response)));
    }
    let answer: serde_json::Value =
        serde_json::from_slice(response.body()).map_err(|error| error.to_string())?;
    let field =
        |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok(Caller {
        transport,
        origin,
        access_key_id: field("AccessKeyId"),
        secret: Secret::new(field("SecretAccessKey")),
        session_token: Secret::new(field("Token")),
    })
}

impl Caller {
    /// One request, signed as an SDK would.
    pub fn signed(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static [u8],
    ) -> Result<Request<Bytes>, String> {
        let at = OffsetDateTime::now_utc();
        let date = durward_aws::sigv4::inbound::format_timestamp(at);
        let key =
            SigningKey::derive(self.secret.expose(), date.get(..8).unwrap_or_default(), "us-east-1", service);
        let signer = Signer {
            access_key_id: &self.access_key_id,
            session_token: Some(&self.session_token),
            key: &key,
            region: "us-east-1",
            service,
            at,
        };
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|value| headers.insert(HeaderName::from_static(name), value))
                .map_err(|error| error.to_string())
        };
        set("host", &self.origin.authority())?;
        if let Some(target) = target {
            set("x-amz-target", target)?;
            set("content-type", "application/x-amz-json-1.1")?;
        }
        sign(&signer, &method, path, "", &mut headers, &sha256_hex(body))
            .map_err(|error| error.to_string())?;
        let mut request = Request::new(Bytes::from_static(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_error| format!("`{path}` is not a path"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        target: Option<&str>,
        body: &'static str,
    ) -> Result<Response<Bytes>, String> {
        let request = self.signed(method, service, path, target, body.as_bytes())?;
        self.transport.call(&self.origin, request, 1 << 20).await.map_err(|error| error.to_string())
    }
}

/// An answer on one line: of an XML error its code and message, else the body without control characters.
fn shown(response: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(response.body());
    let element = |name: &str| {
        let (_before, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _after)| value.to_owned())
    };
    let said = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.into_owned(),
    };
    let flat: String =
        said.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    format!("{} {}", response.status().as_u16(), flat.trim())
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: cannot be written: {error}", path.display()))
}

fn say(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("cannot write: {error}"))
}

fn step(number: u8, word: &str, text: &str) -> Result<(), String> {
    say(&format!("\n{number}. {word:<9} {text}"))
}

fn detail(text: &str) -> Result<(), String> {
    say(&format!("   {text}"))
}

fn check(held: bool, text: &str) -> Result<bool, String> {
    detail(&format!("{} {text}", if held { "ok  " } else { "WRONG" }))?;
    Ok(held)
}
