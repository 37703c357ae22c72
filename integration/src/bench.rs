//! What `make bench` prints: one kind of row, and the table and the JSON made of them.
//!
//! A [`Row`] is median and 99th percentile of its samples, and the ratio of its median to that of its
//! floor: the least that the same thing costs without this project, measured in the same run, in turns with
//! it, so that what else the machine does weighs on both. What cannot be measured is said with its reason.
//! A goal that is missed is reported and fails nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Measurements of one thing, in order of size.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Takes measurements.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn new(mut values: Vec<f64>) -> Result<Self> {
        anyhow::ensure!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// Measures `count` times.
    ///
    /// # Errors
    ///
    /// A measurement fails.
    pub fn take(count: usize, measure: impl FnMut() -> Result<f64>) -> Result<Self> {
        Self::new(std::iter::repeat_with(measure).take(count).collect::<Result<_>>()?)
    }

    /// Measures several things in turns: `count` rounds, or fewer if they take longer than `limit`.
    ///
    /// # Errors
    ///
    /// A measurement fails.
    pub fn in_turns<const N: usize>(
        count: usize,
        limit: Duration,
        mut measures: [&mut dyn FnMut() -> Result<f64>; N],
    ) -> Result<[Self; N]> {
        let start = Instant::now();
        let mut values = [const { Vec::new() }; N];
        for _ in 0..count {
            for (values, measure) in values.iter_mut().zip(&mut measures) {
                values.push(measure()?);
            }
            if start.elapsed() > limit {
                break;
            }
        }
        anyhow::ensure!(values.iter().all(|values| !values.is_empty()), "nothing was measured");
        Ok(values.map(|mut values| {
            values.sort_by(f64::total_cmp);
            Self(values)
        }))
    }

    /// The middle one.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.rank(50)
    }

    /// The one that 99 of 100 do not exceed: the largest of less than 100.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.rank(99)
    }

    /// The smallest.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.rank(0)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Nearest rank: the smallest value that `percent` of all do not exceed.
    fn rank(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The median, in the row's unit.
    AtMost(f64),
    /// The ratio to the floor.
    RatioAtMost(f64),
    /// The ratio to the floor.
    RatioAtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    section: &'static str,
    name: String,
    unit: &'static str,
    samples: usize,
    median: f64,
    p99: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
struct Floor {
    name: String,
    median: f64,
    ratio: f64,
}

impl Row {
    /// A figure without a floor: a floor itself, or a count.
    #[must_use]
    pub fn new(name: impl Into<String>, unit: &'static str, samples: &Samples) -> Self {
        Self {
            section: "",
            name: name.into(),
            unit,
            samples: samples.count(),
            median: samples.median(),
            p99: samples.p99(),
            floor: None,
            goal: None,
            met: None,
        }
    }

    /// Divides by a floor of the same unit.
    #[must_use]
    pub fn over(mut self, name: impl Into<String>, floor: &Samples) -> Self {
        let median = floor.median();
        self.floor = Some(Floor { name: name.into(), median, ratio: self.median / median });
        self
    }

    /// Divides the floor by this: where both are times and the figure is a speed.
    #[must_use]
    pub fn speed_of(mut self, name: impl Into<String>, floor: &Samples) -> Self {
        let median = floor.median();
        self.floor = Some(Floor { name: name.into(), median, ratio: median / self.median });
        self
    }

    /// Says what is to be reached; a goal of the ratio needs the floor first.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        let ratio = self.floor.as_ref().map_or(f64::NAN, |floor| floor.ratio);
        self.goal = Some(goal);
        self.met = Some(match goal {
            Goal::AtMost(limit) => self.median <= limit,
            Goal::RatioAtMost(limit) => ratio <= limit,
            Goal::RatioAtLeast(limit) => ratio >= limit,
        });
        self
    }

    fn line(&self) -> String {
        let (ratio, floor) = match &self.floor {
            Some(floor) => (format!("{:.3}", floor.ratio), floor.name.as_str()),
            None => (String::new(), ""),
        };
        let goal = match self.goal {
            Some(Goal::AtMost(limit)) => format!("≤ {}", short(limit)),
            Some(Goal::RatioAtMost(limit)) => format!("ratio ≤ {limit}"),
            Some(Goal::RatioAtLeast(limit)) => format!("ratio ≥ {limit}"),
            None => String::new(),
        };
        let met = match self.met {
            Some(true) => ": met",
            Some(false) => ": MISSED",
            None => "",
        };
        let (median, p99) = (short(self.median), short(self.p99));
        let line = format!(
            "  {:52} {median:>10} {p99:>10} {:12} {ratio:>8} {floor:26} {goal}{met}",
            self.name, self.unit
        );
        line.trim_end().to_owned()
    }
}

/// A number with some three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What was not measured, and why.
#[derive(Clone, Debug, Serialize)]
struct Missing {
    section: &'static str,
    what: String,
    why: String,
}

/// All rows, in sections.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    host: String,
    rows: Vec<Row>,
    not_measured: Vec<Missing>,
    #[serde(skip)]
    sections: Vec<&'static str>,
}

impl Report {
    /// An empty report about this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { host: host(), ..Self::default() }
    }

    /// Measures a section; a failure becomes what was not measured.
    pub fn section(&mut self, title: &'static str, measure: impl FnOnce(&mut Self) -> Result<()>) {
        crate::say(&format!("measuring: {title}"));
        self.sections.push(title);
        if let Err(error) = measure(self) {
            self.missing("the rest of this section", &format!("{error:#}"));
        }
    }

    /// Adds a row to the current section.
    pub fn add(&mut self, row: Row) {
        let section = self.sections.last().copied().unwrap_or_default();
        self.rows.push(Row { section, ..row });
    }

    /// Says that something of the current section was not measured.
    pub fn missing(&mut self, what: &str, why: &str) {
        let section = self.sections.last().copied().unwrap_or_default();
        self.not_measured.push(Missing { section, what: what.to_owned(), why: why.to_owned() });
    }

    /// The report as one JSON object.
    ///
    /// # Errors
    ///
    /// None in practice: numbers and strings can be written.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("write the report as JSON")
    }

    /// The report as a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{}\n", self.host);
        let mut put = |line: &str| {
            out.push_str(line);
            out.push('\n');
        };
        for section in &self.sections {
            put("");
            put(&format!(
                "{section:54} {:>10} {:>10} {:12} {:>8} {:26} goal",
                "median", "p99", "unit", "÷ floor", "floor"
            ));
            for row in self.rows.iter().filter(|row| row.section == *section) {
                put(&row.line());
            }
            for missing in self.not_measured.iter().filter(|it| it.section == *section) {
                put(&format!("  not measured: {}: {}", missing.what, missing.why));
            }
        }
        let goals = self.rows.iter().filter_map(|row| row.met);
        let (all, met) = (goals.clone().count(), goals.filter(|met| *met).count());
        let _ = write!(out, "\n{met} of {all} goals are met");
        out
    }
}

/// Kernel, processor and number of processors, in one line.
fn host() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("unknown processor").trim_start_matches(['\t', ' ', ':']);
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{processors} × {model}, Linux {}, load {load} at the start", kernel.trim())
}

/// Microseconds since `start`.
#[must_use]
pub fn us(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: impl IntoIterator<Item = u32>) -> Samples {
        Samples::new(values.into_iter().map(f64::from).collect()).unwrap()
    }

    #[test]
    fn median_and_99th_percentile_are_of_nearest_rank() {
        let hundred = samples((1..=100).rev());
        assert_eq!((hundred.median(), hundred.p99(), hundred.least()), (50.0, 99.0, 1.0));
        let one = samples([7]);
        assert_eq!((one.median(), one.p99()), (7.0, 7.0));
    }

    #[test]
    fn a_goal_that_is_missed_is_told_in_the_table_and_in_the_json() {
        let mut report = Report::new();
        report.section("start", |report| {
            let (row, floor) = (samples([30]), samples([20]));
            report
                .add(Row::new("cold", "µs", &row).over("KVM", &floor).goal(Goal::RatioAtMost(1.4)));
            anyhow::bail!("no time left")
        });
        let table = report.table();
        assert!(table.contains("1.500 KVM"), "{table}");
        assert!(table.contains("ratio ≤ 1.4: MISSED"), "{table}");
        assert!(table.contains("not measured: the rest of this section: no time left"), "{table}");
        assert!(table.ends_with("0 of 1 goals are met"), "{table}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["rows"][0]["met"], false);
        assert_eq!(json["rows"][0]["floor"]["ratio"], 1.5);
    }
}
