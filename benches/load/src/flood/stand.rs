//! A gateway with its honest callers, and what must be true of its record in the end.

use super::Options;
use super::honest::{Ending, HonestCallers, Request, read_response};
use super::report::Row;
use super::watch::{Phase, watch};
use crate::gateway::{Gateway, Setting};
use crate::origin::{COUNTED_ORDER, EXECUTED_PATH, counted_order};
use crate::requests::Credential;
use durward_journal::{JournalRecord, read_journal};
use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub const HONEST_CALLERS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(3);
const BEFORE: Duration = Duration::from_secs(10);
/// What connections that are being closed may take, and the retries of a disk that was full.
const SETTLE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(10);

pub struct Stand {
    pub gateway: Gateway,
    pub attacker: Credential,
    durward: PathBuf,
    honest: HonestCallers,
    journal: PathBuf,
    /// Begins the names of the orders that the honest callers read.
    series: String,
}

impl Stand {
    pub async fn start(
        options: &Options,
        scratch: &Path,
        origin: SocketAddr,
        open_files: Option<usize>,
        series: usize,
    ) -> Result<Self, String> {
        fs::create_dir_all(scratch).map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
        let setting = Setting {
            durward: &options.durward,
            scratch,
            core: options.core,
            policies: include_str!("../../flood.cedar"),
            console: false,
            is_exposed: true,
            open_files,
        };
        let gateway = Gateway::start(&setting, origin).await?;
        let attacker = gateway.sign_in("attacker").await?;
        let mut callers = Vec::new();
        for number in 0..HONEST_CALLERS {
            callers.push(gateway.sign_in(&format!("honest-{number}")).await?);
        }
        let series = format!("{series}-");
        let honest = HonestCallers::start(gateway.address, callers, &series);
        let (durward, journal) = (options.durward.clone(), scratch.join("data/journal"));
        Ok(Self { gateway, attacker, durward, honest, journal, series })
    }

    pub async fn watch(&self, time: Duration) -> Result<Phase, String> {
        watch(&self.gateway, &self.journal, time).await
    }

    pub async fn watch_before(&self) -> Result<Phase, String> {
        tokio::time::sleep(WARM_UP).await;
        self.watch(BEFORE).await
    }

    pub async fn watch_after(&self) -> Result<Phase, String> {
        tokio::time::sleep(SETTLE).await;
        self.watch(AFTER).await
    }

    /// What the honest callers sent in a phase.
    pub fn requests(&self, phase: &Phase) -> Vec<Request> {
        self.honest.between(phase.from, phase.to)
    }

    /// Deletes the segments of the journal. They keep their names in the directory that is returned.
    pub fn delete_segments(&self) -> Result<PathBuf, String> {
        let kept = self.journal.with_extension("kept");
        let describe = |error: std::io::Error| format!("cannot delete the journal: {error}");
        fs::create_dir_all(&kept).map_err(describe)?;
        for entry in fs::read_dir(&self.journal).map_err(describe)? {
            let path = entry.map_err(describe)?.path();
            if let Some(name) =
                path.file_name().filter(|_| path.extension().is_some_and(|end| end == "journal"))
            {
                fs::hard_link(&path, kept.join(name)).map_err(describe)?;
                fs::remove_file(&path).map_err(describe)?;
            }
        }
        Ok(kept)
    }

    /// Stops everything, and holds what the origin executed and what callers were told against the journal. `kept` is the journal
    /// if its own directory has lost it.
    pub async fn finish(self, row: &mut Row, origin: SocketAddr, kept: Option<&Path>) -> Result<(), String> {
        let Self { gateway, durward, honest, journal, series, .. } = self;
        let requests = honest.finish()?;
        gateway.process.terminate().await?;
        let journal = kept.unwrap_or(&journal);
        let verified = Command::new(durward)
            .args(["journal", "verify", "--dir"])
            .arg(journal)
            .output()
            .map_err(|error| format!("cannot run durward: {error}"))?;
        row.require(verified.status.success(), || {
            format!("the journal is not whole: {}", String::from_utf8_lossy(&verified.stdout))
        });
        let recorded = recorded_orders(journal, &series)?;
        let executed = executed_orders(origin, &series).await?;
        let unrecorded = executed.iter().filter(|order| !recorded.contains(*order)).count();
        row.require(unrecorded == 0, || format!("{unrecorded} requests were executed without a record"));
        let served = requests.iter().filter(|request| request.ending == Ending::Served).count();
        row.require(executed.len() >= served, || {
            format!("{served} requests were served, but {} executed", executed.len())
        });
        row.require_all_served(requests.len() - served);
        row.note(format!(
            "{} requests of honest callers: {served} served, {} executed, {} recorded before they were sent",
            requests.len(),
            executed.len(),
            recorded.len()
        ));
        Ok(())
    }
}

/// The orders of all intents.
fn recorded_orders(journal: &Path, series: &str) -> Result<HashSet<String>, String> {
    let mut orders = HashSet::new();
    for entry in read_journal(journal) {
        let record = entry.map_err(|error| error.to_string())?.decode_record();
        if let JournalRecord::Intent { operation, .. } = record.map_err(|error| error.to_string())? {
            let parameters = operation.parameters.to_string();
            orders.extend(
                counted_order(parameters.as_bytes())
                    .filter(|order| is_of_series(order, series))
                    .map(str::to_owned),
            );
        }
    }
    Ok(orders)
}

/// The orders that reached the origin.
async fn executed_orders(origin: SocketAddr, series: &str) -> Result<Vec<String>, String> {
    let broken = |error: std::io::Error| format!("the origin does not say what it executed: {error}");
    let mut stream = TcpStream::connect(origin).await.map_err(broken)?;
    let request = format!("GET {EXECUTED_PATH} HTTP/1.1\r\nhost: {origin}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let listed = String::from_utf8(read_response(&mut stream).await?.body);
    let listed = listed.map_err(|error| error.to_string())?;
    Ok(listed.lines().filter(|order| is_of_series(order, series)).map(str::to_owned).collect())
}

fn is_of_series(order: &str, series: &str) -> bool {
    order.strip_prefix(COUNTED_ORDER).is_some_and(|order| order.starts_with(series))
}
