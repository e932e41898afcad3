//! Numbers in reports.

use std::fmt;

/// A number as people read it: three digits at the least, thousands apart.
#[derive(Clone, Copy, Debug)]
pub struct Figure(pub f64);

impl Figure {
    /// A number of things.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
    pub fn count(things: u64) -> Self {
        Self(things as f64)
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Figure {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    Figure(match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    })
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value.is_nan() {
            return f.write_str("–");
        }
        if value < 100.0 {
            return write!(f, "{value:.1}");
        }
        let digits = format!("{value:.0}");
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index) % 3 == 0 {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, median};

    #[test]
    fn figures_are_readable() {
        let shown =
            [0.04, 7.25, 99.94, 100.4, 999.6, 12_345.0, 1_234_567.0].map(|value| Figure(value).to_string());
        assert_eq!(
            shown,
            ["0.0", "7.2", "99.9", "100", "1,000", "12,345", "1,234,567"]
        );
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()).0, 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()).0, 2.5);
        assert!(median(std::iter::empty()).0.is_nan());
    }
}
