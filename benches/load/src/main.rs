//! The measuring half of `cargo xtask bench` and `cargo xtask flood`, which build it and pass it the programs to measure.
//!
//! The same pre-signed requests go direct to an origin and through each proxy in turn, round after round; the table holds
//! medians over the rounds. `held` measures the gateway alone, with many requests that wait for approval. `flood`
//! attacks it while honest callers work. The origin is a second process of this program: `origin PORT` serves.

mod client;
mod flood;
mod gateway;
mod held;
mod holder;
mod origin;
mod peers;
mod process;
mod requests;
mod table;

use peers::{Peer, Programs, TestEnvironment};
use requests::Corpus;
use std::path::PathBuf;
use std::process::ExitCode;
use table::{Sample, Scenario, Table};

const USAGE: &str = "usage: durward-bench-load origin PORT
       durward-bench-load run --durward FILE --scratch DIR [--envoy FILE] [--nginx FILE] [--rounds N] [--proxy-core N] [--only TEXT]
       durward-bench-load held --durward FILE --scratch DIR [--count N] [--proxy-core N]
       durward-bench-load flood --durward FILE --scratch DIR [--proxy-core N] [--only TEXT]";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    match words {
        ["origin", port] => {
            let port = port.parse().map_err(|_error| USAGE.to_owned())?;
            runtime.block_on(origin::serve(port))
        }
        ["run", options @ ..] => {
            let options = Options::parse(options)?;
            runtime.block_on(measure(&options))
        }
        ["held", options @ ..] => {
            let options = held_options(options)?;
            runtime.block_on(held::measure(&options))
        }
        ["flood", options @ ..] => {
            let options = flood_options(options)?;
            runtime.block_on(flood::measure(&options))
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn flood_options(words: &[&str]) -> Result<flood::Options, String> {
    let (mut durward, mut scratch, mut core, mut only) = (None, None, None, String::new());
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(USAGE.to_owned()) };
        match *name {
            "--durward" => durward = Some(PathBuf::from(value)),
            "--scratch" => scratch = Some(PathBuf::from(value)),
            "--proxy-core" => core = Some(number(value)?),
            "--only" => (*value).clone_into(&mut only),
            _ => return Err(format!("unknown option `{name}`; {USAGE}")),
        }
    }
    let (durward, scratch) = (durward.ok_or(USAGE)?, scratch.ok_or(USAGE)?);
    Ok(flood::Options { durward, scratch, core, only })
}

fn held_options(words: &[&str]) -> Result<held::Options, String> {
    let (mut durward, mut scratch, mut core, mut count) = (None, None, None, 10_000);
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(USAGE.to_owned()) };
        match *name {
            "--durward" => durward = Some(PathBuf::from(value)),
            "--scratch" => scratch = Some(PathBuf::from(value)),
            "--proxy-core" => core = Some(number(value)?),
            "--count" => count = number(value)?,
            _ => return Err(format!("unknown option `{name}`; {USAGE}")),
        }
    }
    if count == 0 {
        return Err("`--count` must be at least 1".to_owned());
    }
    let (durward, scratch) = (durward.ok_or(USAGE)?, scratch.ok_or(USAGE)?);
    Ok(held::Options { durward, scratch, core, count })
}

fn number(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_error| format!("`{value}` is not a number; {USAGE}"))
}

struct Options {
    programs: Programs,
    rounds: usize,
    /// Only scenarios with this in their title.
    only: String,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let (mut durward, mut envoy, mut nginx, mut scratch) = (None, None, None, None);
        let (mut rounds, mut proxy_core, mut only) = (4, None, String::new());
        for pair in words.chunks(2) {
            let [name, value] = pair else { return Err(USAGE.to_owned()) };
            let path = Some(PathBuf::from(value));
            match *name {
                "--durward" => durward = path,
                "--envoy" => envoy = path,
                "--nginx" => nginx = path,
                "--scratch" => scratch = path,
                "--rounds" => rounds = number(value)?,
                "--proxy-core" => proxy_core = Some(number(value)?),
                "--only" => (*value).clone_into(&mut only),
                _ => return Err(format!("unknown option `{name}`; {USAGE}")),
            }
        }
        let durward = durward.ok_or(USAGE)?;
        let scratch = scratch.ok_or(USAGE)?;
        if rounds == 0 {
            return Err("`--rounds` must be at least 1".to_owned());
        }
        Ok(Self { programs: Programs { durward, envoy, nginx, scratch, proxy_core }, rounds, only })
    }
}

async fn measure(options: &Options) -> Result<(), String> {
    let environment = TestEnvironment::start(&options.programs).await?;
    let mut table = Table::new();
    for peer in &environment.peers {
        table.note_start(peer.name, peer.resident_mib()?);
    }
    let outcome = rounds(&environment, options, &mut table).await;
    if outcome.is_ok() {
        print!("{}", table.render(options.rounds));
    }
    outcome.map_err(|error| format!("{error}\n{}", environment.log_tail()))
}

async fn rounds(environment: &TestEnvironment, options: &Options, table: &mut Table) -> Result<(), String> {
    let rounds = options.rounds;
    let mut corpus = Corpus::new(&environment.credential, environment.host());
    // Round 0 warms every path and counts for nothing.
    for round in 0..=rounds {
        for scenario in Scenario::ALL.into_iter().filter(|one| one.title().contains(&options.only)) {
            let count = if round == 0 { scenario.warm_up() } else { scenario.requests };
            let requests = corpus.sign(scenario.load, count)?;
            for turn in 0..environment.peers.len() {
                // Another path goes first each round, so that none always meets the same neighbour's noise.
                let Some(peer) = environment.peers.get((turn + round) % environment.peers.len()) else {
                    continue;
                };
                let sample = one(peer, &scenario, &requests)
                    .await
                    .map_err(|error| format!("{}, {}: {error}", peer.name, scenario.title()))?;
                if round > 0 {
                    table.add(&scenario, peer.name, sample);
                }
            }
        }
        table.note_fdatasync(process::fdatasync_micros(&options.programs.scratch)?);
        eprintln!("round {round} of {rounds} done");
    }
    Ok(())
}

async fn one(peer: &Peer, scenario: &Scenario, requests: &[Vec<u8>]) -> Result<Sample, String> {
    let before = peer.cpu_seconds()?;
    let slice = client::send_all(
        peer.address(scenario.load),
        scenario.connections,
        requests,
        scenario.load.response_bytes(),
    )
    .await?;
    let cpu =
        peer.cpu_seconds()?.zip(before).map(|(after, before)| (after - before) * 1e4 / requests.len() as f64);
    Ok(Sample {
        rps: requests.len() as f64 / slice.elapsed.as_secs_f64(),
        p50: slice.percentile(50),
        p99: slice.percentile(99),
        cpu_per_10k: cpu,
        resident_mib: peer.resident_mib()?,
    })
}
