//! Samples of all rounds and the table of their medians, with ratios to the direct path and to Envoy, and our goals.

use crate::requests::Load;
use std::collections::BTreeMap;

/// One load at one number of connections.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub load: Load,
    pub connections: usize,
    /// In one slice of one round.
    pub requests: usize,
}

impl Scenario {
    pub const ALL: [Self; 7] = [
        Self { load: Load::GetItem, connections: 1, requests: 3000 },
        Self { load: Load::GetItem, connections: 16, requests: 12_000 },
        Self { load: Load::GetItem, connections: 64, requests: 12_000 },
        Self { load: Load::SmallObject, connections: 1, requests: 3000 },
        Self { load: Load::SmallObject, connections: 16, requests: 12_000 },
        Self { load: Load::SmallObject, connections: 64, requests: 12_000 },
        Self { load: Load::LargeObject, connections: 4, requests: 120 },
    ];

    /// Requests that warm a path.
    pub fn warm_up(&self) -> usize {
        self.requests / 10
    }

    pub fn title(&self) -> String {
        let load = match self.load {
            Load::GetItem => "DynamoDB GetItem (300 B, response 1 KiB)",
            Load::SmallObject => "S3 GetObject, 1 KiB",
            Load::LargeObject => "S3 GetObject, 10 MiB",
        };
        format!("{load}, {} connection{}", self.connections, if self.connections == 1 { "" } else { "s" })
    }

    fn index(&self) -> usize {
        Self::ALL
            .iter()
            .position(|other| other.load == self.load && other.connections == self.connections)
            .unwrap_or_default()
    }
}

/// One path in one slice. Latencies are in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub rps: f64,
    pub p50: f64,
    pub p99: f64,
    pub cpu_per_10k: Option<f64>,
    pub resident_mib: Option<f64>,
}

pub struct Table {
    /// Microseconds, one figure a round.
    fdatasync: Vec<f64>,
    started: Vec<(&'static str, f64)>,
    /// By scenario, then by path in the order of the environment.
    samples: BTreeMap<usize, Vec<(&'static str, Vec<Sample>)>>,
}

impl Table {
    pub fn new() -> Self {
        Self { fdatasync: Vec::new(), started: Vec::new(), samples: BTreeMap::new() }
    }

    /// What one small durable append took in a round, in microseconds.
    pub fn note_fdatasync(&mut self, micros: f64) {
        self.fdatasync.push(micros);
    }

    /// A path, and the memory of its process before any load.
    pub fn note_start(&mut self, path: &'static str, resident_mib: Option<f64>) {
        self.started.extend(resident_mib.map(|resident| (path, resident)));
        for (index, _) in Scenario::ALL.iter().enumerate() {
            self.samples.entry(index).or_default().push((path, Vec::new()));
        }
    }

    pub fn add(&mut self, scenario: &Scenario, path: &'static str, sample: Sample) {
        let rows = self.samples.entry(scenario.index()).or_default();
        if let Some((_, samples)) = rows.iter_mut().find(|(name, _)| *name == path) {
            samples.push(sample);
        }
    }

    fn median(&self, scenario: usize, path: &str) -> Option<Sample> {
        let (_, samples) = self.samples.get(&scenario)?.iter().find(|(name, _)| *name == path)?;
        if samples.is_empty() {
            return None;
        }
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let optional = |figure: fn(&Sample) -> Option<f64>| {
            let figures: Vec<f64> = samples.iter().filter_map(figure).collect();
            (!figures.is_empty()).then(|| median(figures))
        };
        Some(Sample {
            rps: of(|sample| sample.rps),
            p50: of(|sample| sample.p50),
            p99: of(|sample| sample.p99),
            cpu_per_10k: optional(|sample| sample.cpu_per_10k),
            resident_mib: samples.iter().filter_map(|sample| sample.resident_mib).reduce(f64::max),
        })
    }

    pub fn render(&self, rounds: usize) -> String {
        let mut lines = vec![
            format!(
                "Medians of {rounds} interleaved rounds. +p50, +p99: microseconds added to the direct path."
            ),
            "CPU s: seconds of the proxy per 10,000 requests. RSS: highest seen so far, MiB.".to_owned(),
            format!("One fdatasync of 400 B here: {:.0} us.", median(self.fdatasync.clone())),
        ];
        for (index, scenario) in Scenario::ALL.iter().enumerate() {
            self.render_scenario(&mut lines, index, scenario);
        }
        let started: Vec<String> =
            self.started.iter().map(|(path, resident)| format!("{path} {resident:.1}")).collect();
        lines.push(format!("\nMemory before load, MiB: {}", started.join(", ")));
        self.render_goals(&mut lines);
        lines.join("\n") + "\n"
    }

    fn render_scenario(&self, lines: &mut Vec<String>, index: usize, scenario: &Scenario) {
        lines.push(format!("\n{}", scenario.title()));
        lines.push(format!(
            "  {:<14} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}",
            "path", "rps", "MiB/s", "x direct", "x envoy", "p50 us", "p99 us", "+p50", "+p99", "CPU s", "RSS"
        ));
        let direct = self.median(index, "direct");
        let envoy = self.median(index, "envoy signing");
        for (path, _) in self.samples.get(&index).into_iter().flatten() {
            let Some(sample) = self.median(index, path) else { continue };
            let against = |other: Option<Sample>| shown(other.map(|other| sample.rps / other.rps), 2);
            let base = direct.filter(|_| *path != "direct");
            let added =
                |figure: fn(&Sample) -> f64| shown(base.map(|base| figure(&sample) - figure(&base)), 0);
            let throughput = sample.rps * scenario.load.response_bytes() as f64 / f64::from(1 << 20);
            lines.push(format!(
                "  {path:<14} {:>9.0} {throughput:>9.1} {:>8} {:>8} {:>9.0} {:>9.0} {:>9} {:>9} {:>7} {:>7}",
                sample.rps,
                against(direct),
                against(envoy),
                sample.p50,
                sample.p99,
                added(|sample| sample.p50),
                added(|sample| sample.p99),
                shown(sample.cpu_per_10k, 2),
                shown(sample.resident_mib, 1),
            ));
        }
    }

    fn render_goals(&self, lines: &mut Vec<String>) {
        let at = |index: usize, path: &str| self.median(index, path);
        let ratio = |index: usize, figure: fn(&Sample) -> Option<f64>| {
            Some(figure(&at(index, "durward")?)? / figure(&at(index, "envoy signing")?)?)
        };
        let rps: fn(&Sample) -> Option<f64> = |sample| Some(sample.rps);
        let cpu: fn(&Sample) -> Option<f64> = |sample| sample.cpu_per_10k;
        let added = at(0, "durward").zip(at(0, "direct")).map(|(ours, direct)| ours.p50 - direct.p50);
        let durable = 1.5 * median(self.fdatasync.clone());
        let (must, aim) = (120.0 + durable, 60.0 + durable);
        lines.push("\nGoals; ratios are to Envoy signing".to_owned());
        let mut goal = |what: &str, figure: Option<f64>, digits: usize, wanted: &str| {
            lines.push(format!("  {what:<36} {:>7} {wanted}", shown(figure, digits)));
        };
        goal("P1 GetItem rps, 16 connections", ratio(1, rps), 2, "x (must 2.0, aim 3.0)");
        goal("P1 GetItem rps, 64 connections", ratio(2, rps), 2, "x (must 2.0, aim 3.0)");
        goal("P2 GetItem CPU, 16 connections", ratio(1, cpu), 2, "x (must 0.50, aim 0.33)");
        goal("P2 GetItem CPU, 64 connections", ratio(2, cpu), 2, "x (must 0.50, aim 0.33)");
        let with_sync = format!("us (must {must:.0}, aim {aim:.0}: 1.5 fdatasync included)");
        goal("P3 GetItem p50 added, 1 connection", added, 0, &with_sync);
        goal("P4 S3 GET of 10 MiB, rps", ratio(6, rps), 2, "x (must 1.5, aim 1.8)");
    }
}

fn shown(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = figures.get(middle).copied().unwrap_or_default();
    if figures.len() % 2 == 1 {
        return upper;
    }
    let lower = middle.checked_sub(1).and_then(|index| figures.get(index)).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rps: f64, p50: f64) -> Sample {
        Sample { rps, p50, p99: 2.0 * p50, cpu_per_10k: Some(1.0), resident_mib: Some(5.0) }
    }

    #[test]
    fn medians_and_ratios_are_of_the_rounds() {
        let mut table = Table::new();
        for path in ["direct", "envoy signing", "durward"] {
            table.note_start(path, None);
        }
        let scenario = Scenario::ALL[1];
        for rps in [100.0, 900.0, 300.0] {
            table.add(&scenario, "direct", sample(10.0 * rps, 30.0));
            table.add(&scenario, "envoy signing", sample(rps, 200.0));
            table.add(&scenario, "durward", sample(2.0 * rps, 130.0));
        }
        let text = table.render(3);
        let row = text.lines().find(|line| line.starts_with("  durward")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[1..], ["600", "0.6", "0.20", "2.00", "130", "260", "100", "200", "1.00", "5.0"]);
        let goal = text.lines().find(|line| line.contains("P1 GetItem rps, 16")).unwrap();
        assert!(goal.contains(" 2.00 x (must 2.0"), "{goal}");
    }

    #[test]
    fn an_even_number_of_rounds_takes_the_middle_of_two() {
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
    }
}
