//! Percentiles.

use std::fmt;

/// Values of one kind, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<u64>);

impl Figures {
    pub(crate) fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }

    /// The value that this share of all (out of a thousand) does not exceed.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn permille(&self, share: usize) -> u64 {
        let at = (self.0.len() * share).div_ceil(1000).max(1) - 1;
        self.0[at]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let ms = |share| self.permille(share) as f64 / 1000.0;
        let [p50, p99, max] = [500, 990, 1000].map(ms);
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms of {}", self.0.len())
    }
}
