//! Percentiles of single operations, from an HDR histogram.
//!
//! Owns: recording and the reported percentiles. Must never: report the maximum under
//! the name of a percentile, or a mean in place of either.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies in nanoseconds, three significant digits, up to a minute.
pub struct Latencies(Histogram<u64>);

/// The percentiles that are reported, beside the maximum.
pub const PERCENTS: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

const NANOSECONDS_MAX: u64 = 60_000_000_000;

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3);
        Latencies(histogram.expect("the bounds of the histogram are constants that fit each other"))
    }
}

impl Latencies {
    /// Adds one operation. Longer than a minute counts as a minute.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record((time.as_nanos() as u64).clamp(1, NANOSECONDS_MAX));
    }

    /// Operations recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in nanoseconds that `percent` of the operations do not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    /// The longest operation, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// Each of [`PERCENTS`] and the maximum, in nanoseconds.
    pub fn reported(&self) -> [u64; PERCENTS.len() + 1] {
        std::array::from_fn(|index| PERCENTS.get(index).map_or(self.max(), |percent| self.percentile(*percent)))
    }

    /// The usual percentiles and the maximum, as text.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for percent in PERCENTS {
            text += &format!("p{percent} {:.1}, ", self.percentile(percent) as f64 / 1e3);
        }
        text + &format!("max {:.1} us of {} operations", self.0.max() as f64 / 1e3, self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(measured: u64, expected: f64) -> bool {
        (measured as f64 - expected).abs() <= expected * 0.001 + 1.0
    }

    #[test]
    fn percentiles_of_a_known_distribution_are_right_to_three_digits() {
        let mut latencies = Latencies::default();
        // 1 us, 2 us, ... 1 s: the p-th percentile is p hundredths of a second.
        for micros in 1..=1_000_000 {
            latencies.record(Duration::from_micros(micros));
        }
        assert_eq!(latencies.count(), 1_000_000);
        for percent in [1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
            let measured = latencies.percentile(percent);
            assert!(near(measured, percent * 1e7), "p{percent} = {measured}");
        }
    }

    #[test]
    fn a_percentile_is_not_the_maximum() {
        let mut latencies = Latencies::default();
        for _ in 0..99_999 {
            latencies.record(Duration::from_nanos(500));
        }
        latencies.record(Duration::from_secs(1));
        assert!(near(latencies.percentile(99.99), 500.0));
        assert_eq!(latencies.reported()[..5], [500; 5]);
        assert!(near(latencies.reported()[5], 1e9));
        assert!(near(latencies.percentile(100.0), 1e9));
        assert_eq!(
            latencies.summary(),
            "p50 0.5, p90 0.5, p99 0.5, p99.9 0.5, p99.99 0.5, max 1000341.5 us of 100000 operations"
        );
    }

    #[test]
    fn out_of_range_times_are_kept_as_the_bounds() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(3600));
        assert_eq!(latencies.count(), 2);
        assert!(near(latencies.percentile(100.0), 6e10));
    }
}
