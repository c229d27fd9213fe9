//! A console with everything behind it, and a browser that keeps cookies.

use crate::{
    AwsIdentity, CommandLine, Connection, Console, Handles, IdentityState, Outward, People, Settings,
    SignInProvider,
};
use bytes::Bytes;
use durward_approval::{Approvals, Ask, Clock, Limits, NewAsk, OnTimeout, Requirement, Store};
use durward_catalog::Catalog;
use durward_core::{
    AccessLevel, Caller, CallerKind, Demand, Door, ExchangeId, Operation, Resource, Secret, SessionId, Traits,
};
use durward_identity::{Fetch, Fetched, ProviderConfig, Revocations};
use durward_notification::{Channel, Channels};
use durward_policy::Policies;
use durward_standin::issuer::Issuer;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::net::TcpStream;

pub const CLIENT: &str = "durward-console";
pub const CLI: &str = "durward-cli";
/// The audience of tokens with which people use the admin API.
pub const FOR_PEOPLE: &str = "durward-people";
pub const ORIGIN: &str = "http://127.0.0.1:8600";

/// The way to the issuer.
struct Way;

async fn call(request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let authority = request.uri().authority().ok_or("no authority")?.to_string();
    let stream = TcpStream::connect(&authority).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(header::HOST, authority.parse().unwrap());
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let response = sender
        .send_request(Request::from_parts(parts, Full::new(body)))
        .await
        .map_err(|error| error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

impl Outward for Way {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + '_>> {
        Box::pin(call(request))
    }
}

impl Fetch for Way {
    fn get<'a>(&'a self, url: &'a str) -> Pin<Box<dyn Future<Output = Result<Fetched, String>> + Send + 'a>> {
        Box::pin(async move {
            let response = call(Request::get(url).body(Bytes::new()).unwrap()).await?;
            Ok(Fetched {
                status: response.status().as_u16(),
                cache_control: None,
                body: response.into_body(),
            })
        })
    }
}

/// The gateway's identity at AWS, of which the tests say how it is.
#[derive(Clone)]
pub struct Identity(pub Arc<Mutex<IdentityState>>);

impl Identity {
    fn found() -> Self {
        let source = "environment".to_owned();
        Self(Arc::new(Mutex::new(IdentityState::Found { source, long_lived: false })))
    }
}

impl AwsIdentity for Identity {
    fn state(&self) -> Pin<Box<dyn Future<Output = IdentityState> + Send + '_>> {
        let state = self.0.lock().unwrap().clone();
        Box::pin(std::future::ready(state))
    }
}

pub struct Stage {
    pub console: Console,
    pub approvals: Arc<Approvals>,
    pub issuer: Issuer,
    pub dir: tempfile::TempDir,
    pub revocations: Revocations,
    pub store: Store,
    pub identity: Identity,
    settings: Settings,
    /// Seconds that the console's clock is ahead.
    ahead: Arc<AtomicI64>,
}

/// One channel, of which the tests say how it is.
fn channels(store: &Store) -> Channels {
    let url = Secret::new("https://hooks.example.com/secret");
    let channel = Channel::slack("oncall-chat", Vec::new(), &url).unwrap();
    Channels::new(store.clone(), &[channel])
}

const POLICY: &str = "@id(\"connect\")\npermit (principal, action == Action::\"connect\", resource);\n";

impl Stage {
    pub async fn set() -> Self {
        Self::set_with(|_settings| {}).await
    }

    pub async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let hand = ahead.clone();
        let clock: Clock = Arc::new(move || {
            OffsetDateTime::now_utc() + time::Duration::seconds(hand.load(Ordering::Relaxed))
        });
        let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
        let limits = Limits { break_glass_group: Some("fire".to_owned()), ..Limits::default() };
        let max_window = limits.max_window;
        let approvals = Arc::new(Approvals::open(store.clone(), limits, clock.clone()).await.unwrap());
        let revocations = Revocations::open(store.clone()).await.unwrap();
        let policy_dir = dir.path().join("policies");
        std::fs::create_dir(&policy_dir).unwrap();
        std::fs::write(policy_dir.join("a.cedar"), POLICY).unwrap();
        std::fs::create_dir(dir.path().join("journal")).unwrap();
        let policies = Arc::new(Policies::open(&policy_dir, Catalog::embedded()).unwrap());
        let provider = |audience: &str| ProviderConfig {
            kind: CallerKind::Human,
            ..ProviderConfig::new("corp", issuer.url(), vec![audience.to_owned()])
        };
        let mut settings = Settings {
            url: ORIGIN.to_owned(),
            sign_in: vec![SignInProvider {
                provider: provider(CLIENT),
                client_id: CLIENT.to_owned(),
                client_secret: None,
                scopes: vec!["profile".to_owned()],
            }],
            people: vec![People {
                provider: ProviderConfig {
                    audience: [CLIENT, CLI, FOR_PEOPLE].map(str::to_owned).into(),
                    ..provider(CLIENT)
                },
                clients: vec![CLIENT.to_owned(), CLI.to_owned()],
                audience: vec![FOR_PEOPLE.to_owned()],
                doors: vec!["durward".to_owned()],
                command_line: Some(CommandLine {
                    client_id: CLI.to_owned(),
                    scopes: vec!["groups".to_owned()],
                }),
            }],
            groups: Vec::new(),
            revoke_groups: Vec::new(),
            break_glass_group: Some("fire".to_owned()),
            max_window,
            connections: vec![Connection {
                name: "prod".to_owned(),
                kind: "AWS role",
                target: "arn:aws:iam::123456789012:role/agents".to_owned(),
                note: String::new(),
            }],
            policy_dir,
            journal_dir: dir.path().join("journal"),
            version: "test",
        };
        change(&mut settings);
        let identity = Identity::found();
        let handles = Handles {
            approvals: approvals.clone(),
            revocations: revocations.clone(),
            store: store.clone(),
            channels: channels(&store),
            policies,
            vocabulary: Catalog::embedded(),
            fetch: Arc::new(Way),
            outward: Arc::new(Way),
            aws_identity: Some(Arc::new(identity.clone())),
            now: clock,
        };
        let console = Console::new(handles, settings.clone()).unwrap();
        Self { console, approvals, issuer, dir, revocations, store, identity, settings, ahead }
    }

    /// The same gateway, started again.
    pub async fn restarted(self) -> Self {
        let Self { issuer, dir, settings, ahead, store, identity, .. } = self;
        store.close().await;
        let hand = ahead.clone();
        let clock: Clock = Arc::new(move || {
            OffsetDateTime::now_utc() + time::Duration::seconds(hand.load(Ordering::Relaxed))
        });
        let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
        let approvals = Approvals::open(store.clone(), Limits::default(), clock.clone()).await.unwrap();
        let approvals = Arc::new(approvals);
        let revocations = Revocations::open(store.clone()).await.unwrap();
        let handles = Handles {
            approvals: approvals.clone(),
            revocations: revocations.clone(),
            store: store.clone(),
            channels: channels(&store),
            policies: Arc::new(Policies::open(&settings.policy_dir, Catalog::embedded()).unwrap()),
            vocabulary: Catalog::embedded(),
            fetch: Arc::new(Way),
            outward: Arc::new(Way),
            aws_identity: Some(Arc::new(identity.clone())),
            now: clock,
        };
        let console = Console::new(handles, settings.clone()).unwrap();
        Self { console, approvals, issuer, dir, revocations, store, identity, settings, ahead }
    }

    /// Closes the state: nothing can be read or written from then on.
    pub async fn break_store(&self) {
        self.store.close().await;
    }

    pub async fn issuer_call(request: Request<Bytes>) -> Response<Bytes> {
        call(request).await.unwrap()
    }

    pub fn pass(&self, time: Duration) {
        self.ahead.fetch_add(time.as_secs().cast_signed(), Ordering::Relaxed);
    }

    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        let response = self.console.respond(request.map(Full::new)).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub fn browser(&self) -> Browser<'_> {
        Browser { stage: self, cookies: BTreeMap::new(), origin: Some(ORIGIN), site: Some("same-origin") }
    }

    /// A browser in which this person is signed in.
    pub async fn person(&self, subject: &str, groups: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.sign_in(subject, groups, "/").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        browser
    }

    /// A token as a terminal sends it.
    pub fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.issuer.issue(subject, groups, FOR_PEOPLE, Duration::from_hours(3))
    }

    pub async fn api(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &str,
    ) -> (StatusCode, serde_json::Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8600");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.send(request.body(Bytes::from(body.to_owned())).unwrap()).await;
        let document = serde_json::from_str(&answer.body);
        (answer.status, document.unwrap_or_else(|error| panic!("{error}: {}", answer.body)))
    }

    pub async fn ask(&self) -> Ask {
        self.ask_of(new_ask()).await
    }

    pub async fn ask_of(&self, new: NewAsk) -> Ask {
        self.approvals.ask(new).await.unwrap()
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }
}

pub struct Browser<'s> {
    stage: &'s Stage,
    pub cookies: BTreeMap<String, String>,
    /// What it says of the page that sends a form.
    pub origin: Option<&'static str>,
    pub site: Option<&'static str>,
}

impl Browser<'_> {
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub async fn send(&mut self, method: Method, path: &str, form: &str) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", "127.0.0.1:8600")
            .header("cookie", cookies.join("; "));
        if method == Method::POST {
            request = request.header("content-type", "application/x-www-form-urlencoded");
            if let Some(origin) = self.origin {
                request = request.header("origin", origin);
            }
            if let Some(site) = self.site {
                request = request.header("sec-fetch-site", site);
            }
        }
        let answer = self.stage.send(request.body(Bytes::from(form.to_owned())).unwrap()).await;
        for line in answer.headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, value) = line.split_once(';').unwrap().0.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Goes to the issuer and comes back; what the callback's address is.
    pub async fn back_from_issuer(&mut self, subject: &str, groups: &str, to: &str) -> String {
        let begun = self.get(&format!("/signin/start?provider=corp&to={to}")).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.body);
        let there = format!("{}&sub={subject}&groups={groups}", begun.location());
        let back = call(Request::get(there).body(Bytes::new()).unwrap()).await.unwrap();
        let back = back.headers()[header::LOCATION].to_str().unwrap();
        back.strip_prefix(ORIGIN).unwrap().to_owned()
    }

    pub async fn sign_in(&mut self, subject: &str, groups: &str, to: &str) -> Answer {
        let back = self.back_from_issuer(subject, groups, to).await;
        self.get(&back).await
    }

    /// The token of the session, from any page's form.
    pub async fn csrf(&mut self) -> String {
        let page = self.get("/").await.body;
        let (_before, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    pub async fn answer(&mut self, ask: &Ask, form: &str) -> Answer {
        let csrf = self.csrf().await;
        self.send(Method::POST, &format!("/asks/{}/answer", ask.id), &format!("csrf={csrf}&{form}")).await
    }
}

/// `corp/agent-7` acting for `boss` wants to delete a bucket; two of `oncall` must agree.
pub fn new_ask() -> NewAsk {
    let operation = Operation {
        door: Door::Aws,
        service: "s3".to_owned(),
        name: "DeleteBucket".to_owned(),
        demands: vec![Demand {
            access_level: AccessLevel::Write,
            action: "s3:DeleteBucket".to_owned(),
            resource: Resource::Arn("arn:aws:s3:::payroll".to_owned()),
        }],
        parameters: json!({"Bucket": "payroll"}),
        sensitive: Vec::new(),
        region: Some("eu-west-1".to_owned()),
        account: Some("123456789012".to_owned()),
        traits: Traits { irreversible: true, ..Traits::default() },
        uninspected: Vec::new(),
        body_sha256: None,
    };
    let around = durward_core::Surroundings { novel: true, tags: None, unnamed: false, risky_tags: &[] };
    let risk = durward_core::assess(&operation, around);
    NewAsk {
        caller: Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: "agent-7".to_owned(),
            kind: CallerKind::Workload,
            groups: vec!["agents".to_owned()],
            act: vec!["boss".to_owned()],
        },
        session: SessionId::new(),
        connection: "prod".to_owned(),
        exchange: ExchangeId::new(),
        digest: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &operation.canonical())
            .as_ref()
            .try_into()
            .unwrap(),
        operation,
        requirements: vec![Requirement {
            policy: "no-deletion".to_owned(),
            group: "oncall".to_owned(),
            quorum: 2,
            timeout: Duration::from_mins(10),
            on_timeout: OnTimeout::Reject,
        }],
        risk,
        tags: durward_core::ResourceTags::new(),
        reason: "s3:DeleteBucket needs an approval by policy `no-deletion`".to_owned(),
        policy_set: "0123456789abcdef".to_owned(),
        source_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        user_agent: Some("Boto3/1.40".to_owned()),
    }
}
