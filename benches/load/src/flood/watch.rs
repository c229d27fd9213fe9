//! What the gateway is like over some time: its memory, its descriptors, its journal, and whether it says that it is healthy.

use super::honest::read_response;
use crate::gateway::Gateway;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const INTERVAL: Duration = Duration::from_millis(200);
/// A health check that takes longer has failed: load balancers and orchestrators wait for one second or a few.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Phase {
    pub from: Instant,
    pub to: Instant,
    pub resident_mib: f64,
    pub descriptors: usize,
    pub health_checks: usize,
    pub failed_health_checks: Vec<String>,
    pub journal_bytes: u64,
}

impl Phase {
    pub fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }

    pub fn journal_kib_per_second(&self) -> f64 {
        self.journal_bytes as f64 / 1024.0 / self.seconds()
    }
}

/// Watches the gateway for this time. The figures are the highest.
pub async fn watch(gateway: &Gateway, journal: &Path, time: Duration) -> Result<Phase, String> {
    let from = Instant::now();
    let begun_with = size_of(journal);
    let (mut resident_mib, mut descriptors) = (0_f64, 0);
    let (mut health_checks, mut failed_health_checks) = (0, Vec::new());
    let mut next_check = from;
    while from.elapsed() < time {
        resident_mib = resident_mib.max(gateway.process.resident_mib()?);
        descriptors = descriptors.max(gateway.process.descriptors()?);
        if Instant::now() >= next_check {
            next_check = Instant::now() + 3 * INTERVAL;
            health_checks += 1;
            let checked = timeout(HEALTH_TIMEOUT, check_health(gateway.address)).await;
            match checked.unwrap_or_else(|_elapsed| Err("no response within 2 s".to_owned())) {
                Ok(()) => {}
                Err(error) => failed_health_checks.push(error),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let journal_bytes = size_of(journal).saturating_sub(begun_with);
    let to = Instant::now();
    Ok(Phase { from, to, resident_mib, descriptors, health_checks, failed_health_checks, journal_bytes })
}

/// One check over a connection of its own, as a load balancer does it.
async fn check_health(gateway: SocketAddr) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("the health check broke off: {error}");
    let mut stream = TcpStream::connect(gateway).await.map_err(broken)?;
    let request = format!("GET /.durward/health HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let response = read_response(&mut stream).await?;
    if response.status == "200" { Ok(()) } else { Err(format!("health is {}", response.status)) }
}

/// The bytes of all files of a directory.
fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
