//! Ten thousand requests that wait for approval: their memory, and their effect on other traffic.
//!
//! Every tenth is an operation of its own, the others repeat it, as many callers as their caps ask for. The traffic beside
//! them is GetItem on 16 connections, before, while they wait, while they are all denied, and after.

use crate::client::{self, Slice};
use crate::gateway::{Gateway, Setting, origin};
use crate::holder::Holder;
use crate::requests::{Corpus, Credential, Load};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Requests for the same operation.
const ATTEMPTS: usize = 10;
/// Pending approval requests that a caller may have (crates/approval).
const APPROVAL_REQUESTS_PER_CALLER: usize = 20;
const CONNECTIONS: usize = 16;
/// Requests that are signed at once; signing is not measured.
const BATCH: usize = 4_000;
/// Longer than the interval between interim responses.
const ROW: Duration = Duration::from_secs(12);
/// How long it may take until all wait, or all have a response.
const PHASE_TIMEOUT: Duration = Duration::from_secs(300);
/// Denials on their way at once.
const DENIERS: usize = 8;

pub struct Options {
    pub durward: PathBuf,
    pub scratch: PathBuf,
    pub core: Option<usize>,
    /// How many requests are held.
    pub count: usize,
}

/// One line of the table.
struct Row {
    title: String,
    resident_mib: f64,
    slice: Slice,
}

struct Bench {
    gateway: Gateway,
    agent: Credential,
    /// The token of the approver who denies.
    approver: String,
}

pub async fn measure(options: &Options) -> Result<(), String> {
    let (_origin, origin) = origin(&options.scratch).await?;
    let setting = Setting {
        durward: &options.durward,
        scratch: &options.scratch,
        core: options.core,
        policies: include_str!("../held.cedar"),
        console: true,
        is_exposed: false,
        open_files: None,
    };
    let gateway = Gateway::start(&setting, origin).await?;
    let (agent, approver) = (gateway.sign_in("bench").await?, gateway.approver_token("on-call", &["oncall"]));
    let bench = Bench { gateway, agent, approver };
    let text = bench.rows(options).await.map_err(|error| format!("{error}\n{}", bench.gateway.log_tail()))?;
    print!("{text}");
    Ok(())
}

impl Bench {
    async fn rows(&self, options: &Options) -> Result<String, String> {
        let count = options.count;
        let host = self.gateway.address.to_string();
        let mut traffic = Corpus::new(&self.agent, host.clone());
        self.slice(&mut traffic).await?;
        let before = self.row("nothing held", &mut traffic).await?;
        let requests = self.requests(&host, count).await?;
        let operations = count.div_ceil(ATTEMPTS);

        let began = Instant::now();
        let holder = Holder::start(self.gateway.address, requests, "; denied by ");
        self.until_all_wait(&holder, count).await?;
        let opened = began.elapsed();
        let full = self.gateway.process.resident_mib()?;

        let continues = holder.counts.continues.load(Ordering::Relaxed);
        let cpu = self.gateway.process.cpu_seconds()?;
        tokio::time::sleep(ROW).await;
        let alone = (self.gateway.process.cpu_seconds()? - cpu) / ROW.as_secs_f64();
        let continues = holder.counts.continues.load(Ordering::Relaxed) - continues;

        let held = self.row(&format!("{count} held"), &mut traffic).await?;
        if holder.counts.completed.load(Ordering::Relaxed) > 0 || holder.is_finished() {
            return Err(holder
                .finish()
                .err()
                .unwrap_or_else(|| "held requests were completed too early".into()));
        }
        let began = Instant::now();
        let (denying, denied) =
            tokio::join!(self.row_while(&holder, &mut traffic), self.deny_all(operations));
        let denied = denied?.duration_since(began);
        let denying = denying?;
        let completed = holder.finish()?.duration_since(began);
        let after = self.row("all denied", &mut traffic).await?;

        let per_held = (full - before.resident_mib) * 1024.0 / count as f64;
        let mut text = format!(
            "{count} held requests: {operations} operations (DeleteItem) of {} callers, {ATTEMPTS} requests each.\n\
             The other traffic: GetItem (300 B, response 1 KiB), {CONNECTIONS} connections. RSS is the gateway's.\n\n\
             \x20 {:<16} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            operations.div_ceil(APPROVAL_REQUESTS_PER_CALLER),
            "",
            "RSS MiB",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "rps"
        );
        for row in [&before, &held, &denying, &after] {
            let Row { title, resident_mib, slice } = row;
            let [p50, p99, p999] = [500, 990, 999].map(|permille| slice.permille(permille));
            writeln!(
                text,
                "  {title:<16} {resident_mib:>9.1} {p50:>9.0} {p99:>9.0} {p999:>9.0} {:>9.0}",
                slice.rate()
            )
            .map_err(|error| error.to_string())?;
        }
        let slower = held.slice.permille(990) / before.slice.permille(990);
        let total = per_held * 10_000.0 / 1024.0;
        write!(
            text,
            "\nAll waited {:.1} s after the first was sent (RSS then {full:.1} MiB); holding alone took {:.1} % of a core, with {:.0} \
             interim responses a second.\nAll had a response {:.2} s after the first denial; the last of {operations} denials was given at {:.2} s.\n\n\
             Goals\n\
             \x20 H1 memory of 10,000 held requests   {total:>7.1} MiB ({per_held:.1} KiB each; must 320, aim 200): {}\n\
             \x20 H2 p99 of the traffic beside them   {slower:>7.2} x   (must 1.50, aim 1.10): {}\n",
            opened.as_secs_f64(),
            100.0 * alone,
            continues as f64 / ROW.as_secs_f64(),
            completed.as_secs_f64(),
            denied.as_secs_f64(),
            met(total <= 320.0),
            met(slower <= 1.5),
        )
        .map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// The requests that will be held, signed by as many callers as it takes.
    async fn requests(&self, host: &str, count: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut requests = Vec::with_capacity(count);
        let mut item = 0;
        let mut caller = 0;
        while requests.len() < count {
            let credential = self.gateway.sign_in(&format!("agent-{caller}")).await?;
            let mut corpus = Corpus::new(&credential, host.to_owned());
            for _ in 0..APPROVAL_REQUESTS_PER_CALLER {
                let attempts = ATTEMPTS.min(count - requests.len());
                requests.extend(corpus.sign_delete(item, attempts)?);
                item += 1;
            }
            caller += 1;
        }
        // Repeats are far apart: the first of each opens the approval request, the others join it.
        let mut order: Vec<_> = requests.into_iter().enumerate().collect();
        order.sort_by_key(|(index, _)| index % ATTEMPTS);
        Ok(order.into_iter().map(|(_, request)| request).collect())
    }

    async fn slice(&self, traffic: &mut Corpus) -> Result<Slice, String> {
        let requests = traffic.sign(Load::GetItem, BATCH)?;
        client::send_all(self.gateway.address, CONNECTIONS, &requests, Load::GetItem.response_bytes()).await
    }

    async fn row(&self, title: &str, traffic: &mut Corpus) -> Result<Row, String> {
        let mut slice = Slice::default();
        while slice.elapsed < ROW {
            slice = slice.and(self.slice(traffic).await?);
        }
        Ok(Row { title: title.to_owned(), resident_mib: self.gateway.process.resident_mib()?, slice })
    }

    /// Traffic until all held requests have a response.
    async fn row_while(&self, holder: &Holder, traffic: &mut Corpus) -> Result<Row, String> {
        let began = Instant::now();
        let mut slice = Slice::default();
        let mut resident_mib = 0_f64;
        while !holder.is_finished() {
            if began.elapsed() > PHASE_TIMEOUT {
                return Err("not all held requests got a response in time".to_owned());
            }
            slice = slice.and(self.slice(traffic).await?);
            resident_mib = resident_mib.max(self.gateway.process.resident_mib()?);
        }
        Ok(Row { title: "being denied".to_owned(), resident_mib, slice })
    }

    async fn until_all_wait(&self, holder: &Holder, count: usize) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let attempts: u64 =
                self.pending().await?.iter().filter_map(|request| request["attempts"].as_u64()).sum();
            if usize::try_from(attempts).is_ok_and(|attempts| attempts >= count) {
                return Ok(());
            }
            if holder.is_finished() || began.elapsed() > PHASE_TIMEOUT {
                let sent = holder.counts.sent.load(Ordering::Relaxed);
                return Err(format!("{attempts} of {count} requests wait for approval, {sent} were sent"));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn pending(&self) -> Result<Vec<Value>, String> {
        let listed =
            call(self.gateway.console, &self.approver, "GET", "/api/v1/approval-requests?limit=1000", "")
                .await?;
        listed["approval_requests"]
            .as_array()
            .cloned()
            .ok_or_else(|| "the console lists no approval requests".to_owned())
    }

    /// Denies every approval request; returns the time of the last denial.
    async fn deny_all(&self, count: usize) -> Result<Instant, String> {
        let requests = self.pending().await?;
        let mut ids: Vec<String> =
            requests.iter().filter_map(|request| Some(request["id"].as_str()?.to_owned())).collect();
        if ids.len() != count {
            return Err(format!("{} approval requests are pending, not {count}", ids.len()));
        }
        let mut tasks = JoinSet::new();
        let share = ids.len().div_ceil(DENIERS);
        while !ids.is_empty() {
            let mine = ids.split_off(ids.len().saturating_sub(share));
            let (console, approver) = (self.gateway.console, self.approver.clone());
            tasks.spawn(async move {
                for id in mine {
                    let path = format!("/api/v1/approval-requests/{id}/votes");
                    call(
                        console,
                        &approver,
                        "POST",
                        &path,
                        r#"{"vote":"deny","reason":"the bench says no"}"#,
                    )
                    .await?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(Instant::now())
    }
}

fn met(goal: bool) -> &'static str {
    if goal { "met" } else { "MISSED" }
}

/// One request to the admin API.
async fn call(
    console: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Value, String> {
    let broken = |error: std::io::Error| format!("the call to the console broke off: {error}");
    let mut stream = TcpStream::connect(console).await.map_err(broken)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {console}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.map_err(broken)?;
    let refused = || format!("{method} {path} at the console: {response}");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(refused)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(refused());
    }
    serde_json::from_str(body).map_err(|_error| refused())
}
