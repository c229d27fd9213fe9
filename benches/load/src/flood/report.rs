//! The table of what honest callers saw, and what did not hold.

use super::crowd::Counts;
use super::honest::{Ending, Request};
use super::stand::{HONEST_CALLERS, Stand};
use super::watch::Phase;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The p99 of honest callers during and after an attack, in times of that before.
const MAX_SLOWDOWN: f64 = 3.0;
/// Descriptors that may stay open after an attack: connections to the origin that are still pooled.
const SPARE_DESCRIPTORS: usize = 16;
/// What the gateway says when it cannot record a request. Where it cannot record the refusal either, it says the second.
const NOT_RECORDED: [&str; 2] =
    ["could not be recorded, so it was not made", "the journal cannot record this request"];

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    measured: usize,
    notes: Vec<String>,
}

impl Report {
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// A number that no attack has had.
    pub fn next_series(&self) -> usize {
        self.measured + 1
    }

    /// Adds a row, or notes that it is measured again.
    pub fn add(&mut self, row: Row, is_last: bool) {
        self.measured += 1;
        for broken in row.broken.iter().chain(&row.slow) {
            eprintln!("  BROKEN: {broken}");
        }
        if is_last {
            self.rows.push(row);
        } else {
            self.note(format!("{}: measured again, because {}.", row.title, row.slow.join("; ")));
        }
    }

    pub fn render(&self) -> String {
        let mut lines = vec![
            format!(
                "{HONEST_CALLERS} honest callers, each GetItem after GetItem with a pause of 4 ms. p50 and p99 in ms: before / during / \
                 after; x: p99 during to p99 before; failed: honest requests during and after; RSS in MiB: before / highest during \
                 (bound); files: before / highest during / after; journal in KiB/s: before / during."
            ),
            String::new(),
            "| attack | p50 | p99 | x | failed | RSS | files | health | journal | holds |".to_owned(),
            "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
        ];
        lines.extend(self.rows.iter().map(Row::render));
        lines.push(String::new());
        for row in &self.rows {
            lines.extend(row.notes.iter().map(|note| format!("- {}: {note}.", row.title)));
            let broken = row.broken.iter().chain(&row.slow);
            lines.extend(broken.map(|broken| format!("- {}: **BROKEN**: {broken}.", row.title)));
        }
        lines.extend(self.notes.iter().map(|note| format!("- {note}")));
        lines.join("\n") + "\n"
    }

    pub fn outcome(&self) -> Result<(), String> {
        let broken: Vec<&str> =
            self.rows.iter().filter(|row| !row.holds()).map(|row| row.title.as_str()).collect();
        if broken.is_empty() {
            Ok(())
        } else {
            Err(format!("the gateway did not hold: {}", broken.join("; ")))
        }
    }
}

/// A phase and the honest requests in it.
struct Observed {
    phase: Phase,
    requests: Vec<Request>,
}

impl Observed {
    fn served(&self) -> usize {
        self.requests.iter().filter(|request| request.ending == Ending::Served).count()
    }

    fn failed(&self) -> usize {
        self.requests.len() - self.served()
    }

    /// Milliseconds, of the requests that were served.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let served = self.requests.iter().filter(|request| request.ending == Ending::Served);
        let mut times: Vec<f64> = served.map(|request| request.micros / 1e3).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len().saturating_sub(1) * percent / 100).copied()
    }

    /// How often each failure was seen, without what differs from one to the next.
    fn failures(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in &self.requests {
            let text = match &request.ending {
                Ending::Served => continue,
                Ending::Refused(text) | Ending::Broken(text) => text,
            };
            let kind = text.split("exchange").next().unwrap_or_default();
            *counts.entry(kind.chars().take(220).collect()).or_default() += 1;
        }
        counts
    }
}

pub struct Row {
    title: String,
    before: Observed,
    during: Observed,
    after: Observed,
    /// Whether the attack must leave every honest request served.
    expects_service: bool,
    /// Highest memory that the attack may take the gateway to.
    memory_bound_mib: f64,
    log: PathBuf,
    notes: Vec<String>,
    broken: Vec<String>,
    /// What was served too late.
    slow: Vec<String>,
}

impl Row {
    pub fn new(title: &str, stand: &Stand, before: Phase, during: Phase, after: Phase) -> Self {
        let observe = |phase: Phase| Observed { requests: stand.requests(&phase), phase };
        let mut row = Self {
            title: title.to_owned(),
            before: observe(before),
            during: observe(during),
            after: observe(after),
            expects_service: false,
            memory_bound_mib: 0.0,
            log: stand.gateway.process.log.clone(),
            notes: Vec::new(),
            broken: Vec::new(),
            slow: Vec::new(),
        };
        let failed = row.before.failures();
        row.require(failed.is_empty(), || format!("honest callers failed before the attack: {failed:?}"));
        let unhealthy: Vec<String> = [&row.before, &row.during, &row.after]
            .into_iter()
            .flat_map(|observed| observed.phase.failed_health_checks.clone())
            .collect();
        row.require(unhealthy.is_empty(), || {
            format!(
                "{} health checks failed, the first: {}",
                unhealthy.len(),
                unhealthy.first().map_or("", String::as_str)
            )
        });
        let (before, after) = (row.before.phase.descriptors, row.after.phase.descriptors);
        row.require(after <= before + SPARE_DESCRIPTORS, || {
            format!("{after} files are open after the attack, {before} were before")
        });
        row
    }

    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    pub fn note_crowd(&mut self, counts: &Counts) {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let first = counts.first_response.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seen = first.map_or_else(String::new, |first| {
            let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
            format!(", the first `{}`", line.chars().take(160).collect::<String>())
        });
        self.note(format!(
            "attackers opened {} connections, {} were ended by the gateway, the longest lasted {:.1} s; {} responses{seen}",
            load(&counts.opened),
            load(&counts.ended),
            counts.longest_seconds(),
            load(&counts.responses)
        ));
    }

    fn holds(&self) -> bool {
        self.broken.is_empty() && self.slow.is_empty()
    }

    /// Whether all holds but the time that honest requests took.
    pub fn is_only_slow(&self) -> bool {
        self.broken.is_empty() && !self.slow.is_empty()
    }

    /// Every honest request is served.
    pub fn require_service(&mut self) {
        self.expects_service = true;
        let failed = self.during.failures();
        self.require(failed.is_empty(), || format!("honest callers failed during the attack: {failed:?}"));
        self.require_service_after();
    }

    /// Honest requests are served about as fast as before.
    pub fn require_speed(&mut self) {
        for (when, observed) in [("during", &self.during), ("after", &self.after)] {
            if self.slowdown(observed).is_none_or(|times| times > MAX_SLOWDOWN) {
                self.slow.push(format!(
                    "the p99 {when} the attack is more than {MAX_SLOWDOWN} times that of before"
                ));
            }
        }
    }

    /// Counts the requests of all time, also those between the phases.
    pub fn require_all_served(&mut self, failed: usize) {
        self.require(!self.expects_service || failed == 0, || {
            format!("{failed} honest requests failed in all")
        });
    }

    pub fn require_service_after(&mut self) {
        let failed = self.after.failures();
        self.require(failed.is_empty(), || format!("honest callers failed after the attack: {failed:?}"));
    }

    pub fn require_no_service_after(&mut self) {
        let served = self.after.served();
        self.require(served == 0, || format!("{served} requests were served without a journal"));
        self.require_only_clear_refusals("after", |row| &row.after);
    }

    /// Whoever was not served was told why.
    pub fn require_clear_refusals(&mut self) {
        self.require_only_clear_refusals("during", |row| &row.during);
    }

    fn require_only_clear_refusals(&mut self, when: &str, observed: impl Fn(&Self) -> &Observed) {
        let (served, failed) = (observed(self).served(), observed(self).failed());
        let failures = observed(self).failures();
        self.require(failed > 0, || format!("no honest request was refused {when} it"));
        let is_clear = |text: &str| NOT_RECORDED.iter().any(|clear| text.contains(clear));
        let unclear: Vec<&String> = failures.keys().filter(|text| !is_clear(text)).collect();
        self.require(unclear.is_empty(), || format!("honest callers saw {when} it: {unclear:?}"));
        self.note(format!(
            "{when} it {served} honest requests were served and {failed} refused: {failures:?}"
        ));
    }

    pub fn require_memory(&mut self, more_mib: f64, reason: &str) {
        self.memory_bound_mib = self.before.phase.resident_mib + more_mib;
        let (highest, bound) = (self.during.phase.resident_mib, self.memory_bound_mib);
        self.require(highest <= bound, || format!("{highest:.0} MiB of memory, the bound is {bound:.0}"));
        self.note(format!("the bound of memory is that of before, {reason}, and 32 MiB to spare"));
    }

    /// The journal grows by the requests of the honest callers, as before, and by no more than this.
    pub fn require_journal_rate(&mut self, more_kib_per_second: f64) {
        let of_request = self.before.phase.journal_bytes as f64 / self.before.requests.len().max(1) as f64;
        let of_honest = of_request * self.during.requests.len() as f64 / 1024.0 / self.during.phase.seconds();
        let during = self.during.phase.journal_kib_per_second();
        self.require(during <= of_honest + more_kib_per_second, || {
            format!("the journal grows by {during:.0} KiB/s, of which {of_honest:.0} are of honest callers")
        });
    }

    pub fn require_end_of_connections(&mut self, counts: &Counts, longest: Duration) {
        let lasted = counts.longest_seconds();
        self.require(lasted <= longest.as_secs_f64(), || {
            format!(
                "a connection of the attackers lasted {lasted:.1} s, at most {} are right",
                longest.as_secs()
            )
        });
    }

    pub fn require_log(&mut self, text: &str) {
        let log = fs::read(&self.log).unwrap_or_default();
        self.require(String::from_utf8_lossy(&log).contains(text), || {
            format!("the log does not say `{text}`")
        });
    }

    fn slowdown(&self, observed: &Observed) -> Option<f64> {
        Some(observed.percentile(99)? / self.before.percentile(99)?)
    }

    fn render(&self) -> String {
        let all = [&self.before, &self.during, &self.after];
        let shown =
            |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
        let percentiles =
            |percent: usize| all.map(|observed| shown(observed.percentile(percent))).join(" / ");
        let checks: usize = all.iter().map(|observed| observed.phase.health_checks).sum();
        let unhealthy: usize = all.iter().map(|observed| observed.phase.failed_health_checks.len()).sum();
        format!(
            "| {} | {} | {} | {} | {} of {}, {} of {} | {:.0} / {:.0} ({:.0}) | {} / {} / {} | {} of {checks} | {:.0} / {:.0} | {} |",
            self.title,
            percentiles(50),
            percentiles(99),
            shown(self.slowdown(&self.during)),
            self.during.failed(),
            self.during.requests.len(),
            self.after.failed(),
            self.after.requests.len(),
            self.before.phase.resident_mib,
            self.during.phase.resident_mib,
            self.memory_bound_mib,
            self.before.phase.descriptors,
            self.during.phase.descriptors,
            self.after.phase.descriptors,
            checks - unhealthy,
            self.before.phase.journal_kib_per_second(),
            self.during.phase.journal_kib_per_second(),
            if self.holds() { "yes" } else { "**no**" },
        )
    }
}
