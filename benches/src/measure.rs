//! Turns, ratios and rows: how a number of the table comes about.
//!
//! Owns: the interleaving of two subjects, medians and spreads, and the verdict on a
//! row. Must never: decide which subjects are compared, or print.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

/// How a measured number is held against its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The target is the most that is accepted.
    AtMost,
    /// The target is the least that is accepted.
    AtLeast,
    /// There is no target: the number is shown for comparison.
    Shown,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured, subjects and workload.
    pub name: String,
    /// The median.
    pub measured: f64,
    /// Tenth and ninetieth percentile of the single measurements; equal where there is one.
    pub spread: (f64, f64),
    /// What it has to reach.
    pub target: f64,
    /// In which direction.
    pub relation: Relation,
    /// A second way to reach the target, decided by the row itself.
    pub excused: bool,
    /// Unit of measured and target; empty for a ratio.
    pub unit: &'static str,
    /// The numbers behind it.
    pub detail: String,
    /// Where in a table or a plot it belongs: subject, number of keys and the like.
    pub labels: Map<String, Value>,
}

impl Row {
    /// A row of ratios: their median against `target`.
    pub fn of_ratios(name: &str, ratios: &[f64], relation: Relation, target: f64, detail: String) -> Row {
        Row {
            name: name.to_owned(),
            measured: quantile(ratios, 0.5),
            spread: (quantile(ratios, 0.1), quantile(ratios, 0.9)),
            target,
            relation,
            excused: false,
            unit: "",
            detail,
            labels: Map::new(),
        }
    }

    /// A row of samples in `unit` that has no target.
    pub fn shown(name: &str, samples: &[f64], unit: &'static str) -> Row {
        let mut row = Row::of_ratios(name, samples, Relation::Shown, 0.0, String::new());
        row.unit = unit;
        row
    }

    /// The same row with one more label.
    pub fn label(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// A row of one number, counted rather than timed.
    pub fn of_count(name: &str, measured: f64, relation: Relation, target: f64, unit: &'static str) -> Row {
        Row {
            name: name.to_owned(),
            measured,
            spread: (measured, measured),
            target,
            relation,
            excused: false,
            unit,
            detail: String::new(),
            labels: Map::new(),
        }
    }

    /// Whether the row reaches its target.
    pub fn holds(&self) -> bool {
        self.excused
            || match self.relation {
                Relation::AtMost => self.measured <= self.target,
                Relation::AtLeast => self.measured >= self.target,
                Relation::Shown => true,
            }
    }

    /// The row for the results file.
    pub fn to_json(&self) -> Value {
        json!({
            "row": self.name,
            "measured": self.measured,
            "low": self.spread.0,
            "high": self.spread.1,
            "relation": match self.relation { Relation::AtMost => "<=", Relation::AtLeast => ">=", Relation::Shown => "" },
            "target": (self.relation != Relation::Shown).then_some(self.target),
            "unit": self.unit,
            "holds": self.holds(),
            "detail": self.detail,
            "labels": self.labels,
        })
    }
}

/// The value below which a share `q` of the samples lies, interpolated; NaN of none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = q * last as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// Processor time of the calling thread: what a busy machine gives to others meanwhile
/// does not count. For subjects that do not sleep.
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts.
    pub fn start() -> Stopwatch {
        Stopwatch(Self::now())
    }

    /// Processor time since the start.
    pub fn elapsed(&self) -> Duration {
        Self::now() - self.0
    }

    fn now() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// What two subjects took, turn by turn, in nanoseconds an operation.
#[derive(Debug, Default)]
pub struct Turns {
    /// The first subject's turns.
    pub first_ns: Vec<f64>,
    /// The second subject's turns.
    pub second_ns: Vec<f64>,
}

impl Turns {
    /// First over second, a ratio for each pair of neighbouring turns.
    pub fn ratios(&self) -> Vec<f64> {
        self.first_ns.iter().zip(&self.second_ns).map(|(first, second)| first / second).collect()
    }

    /// Medians of both, as text.
    pub fn medians(&self, first: &str, second: &str) -> String {
        let (a, b) = (quantile(&self.first_ns, 0.5), quantile(&self.second_ns, 0.5));
        format!("{first} {a:.0} ns, {second} {b:.0} ns, {} turns", self.first_ns.len())
    }
}

/// Lets two subjects take turns: A B, B A, A B, ... Each turn gets its number, from
/// which it derives its random stream, and says how long its `operations` took.
pub fn take_turns(
    turns: u64,
    operations: u64,
    mut first: impl FnMut(u64) -> Duration,
    mut second: impl FnMut(u64) -> Duration,
) -> Turns {
    let each = |time: Duration| time.as_nanos() as f64 / operations as f64;
    // One turn each for caches, branch predictors and page tables; not counted.
    first(u64::MAX);
    second(u64::MAX);
    let mut result = Turns::default();
    for turn in 0..turns {
        if turn % 2 == 0 {
            result.first_ns.push(each(first(turn)));
            result.second_ns.push(each(second(turn)));
        } else {
            result.second_ns.push(each(second(turn)));
            result.first_ns.push(each(first(turn)));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_interpolated_between_samples() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&samples, 0.0), 1.0);
        assert_eq!(quantile(&samples, 0.5), 2.5);
        assert_eq!(quantile(&samples, 1.0), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn turns_alternate_and_pair_up() {
        let order = std::cell::RefCell::new(String::new());
        let turn = |name, nanos| {
            let order = &order;
            move |_| {
                order.borrow_mut().push(name);
                Duration::from_nanos(nanos)
            }
        };
        let turns = take_turns(4, 10, turn('a', 200), turn('b', 400));
        assert_eq!(order.into_inner(), "abABBAABBA".to_lowercase());
        assert_eq!(turns.ratios(), [0.5; 4]);
        assert_eq!(turns.first_ns, [20.0; 4]);
    }

    #[test]
    fn a_row_holds_only_on_the_right_side_of_its_target() {
        let row = |relation, measured| Row::of_count("x", measured, relation, 2.0, "");
        assert!(row(Relation::AtMost, 2.0).holds());
        assert!(!row(Relation::AtMost, 2.1).holds());
        assert!(row(Relation::AtLeast, 2.0).holds());
        assert!(!row(Relation::AtLeast, 1.9).holds());
        assert!(!row(Relation::AtMost, f64::NAN).holds() && !row(Relation::AtLeast, f64::NAN).holds());
    }
}
