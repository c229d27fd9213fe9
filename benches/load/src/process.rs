//! The processes that are measured: each with a log, ready when it listens, killed when its owner drops it.
//!
//! What a process used is read from `/proc`, so the numbers exist on Linux only.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Ticks a second in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
const START: Duration = Duration::from_secs(30);

/// A child with its log, ready when it listens; killed when dropped.
pub struct Process {
    id: u32,
    child: RefCell<Child>,
    pub log: PathBuf,
}

impl Process {
    pub async fn start(
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
        let process = Self { id: child.id(), child: RefCell::new(child), log };
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = process.child.borrow_mut().try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > START {
                let how =
                    ended.map_or_else(|| "within 30 seconds".to_owned(), |status| format!("({status})"));
                return Err(format!("{name} did not listen on {address} {how}:\n{}", tail(&process.log)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(process)
    }

    /// User and system time so far.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        cpu_seconds(&self.read("stat")?)
    }

    pub fn resident_mib(&self) -> Result<f64, String> {
        resident_mib(&self.read("status")?)
    }

    /// The open file descriptors.
    pub fn descriptors(&self) -> Result<usize, String> {
        let path = format!("/proc/{}/fd", self.id);
        let entries = fs::read_dir(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        Ok(entries.count())
    }

    /// Asks the process to stop, and waits until it has.
    pub async fn terminate(&self) -> Result<(), String> {
        let id = self.id;
        let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status();
        asked.map_err(|error| format!("cannot run kill: {error}"))?;
        let began = Instant::now();
        while began.elapsed() < START {
            let ended = self.child.borrow_mut().try_wait();
            if ended.map_err(|error| format!("cannot wait for process {id}: {error}"))?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("process {id} did not stop within 30 seconds"))
    }

    fn read(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.id);
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, if these fail.
        let child = self.child.get_mut();
        drop(child.kill());
        drop(child.wait());
    }
}

pub fn tail(log: &Path) -> String {
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

pub fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no loopback port is free: {error}"))
}

/// A command on one core, if one is named.
pub fn pinned(core: Option<usize>, program: &Path) -> Command {
    match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The same command with this limit of open files.
pub fn with_open_files(limit: usize, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

pub fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
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
