//! Times and spans for people.

use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

/// `2026-11-21 08:45:00 UTC`
pub(crate) fn moment(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    // Formatting into a string fails for no component of this format; the default text is still
    // right.
    time.to_offset(UtcOffset::UTC)
        .format(format)
        .unwrap_or_else(|_| time.to_string())
}

/// The length of a span in its largest whole unit: `1 day`, `5 hours`, `0 seconds`.
pub(crate) fn span(span: Duration) -> String {
    let span = span.abs();
    let (count, unit) = if span >= Duration::DAY {
        (span.whole_days(), "day")
    } else if span >= Duration::HOUR {
        (span.whole_hours(), "hour")
    } else if span >= Duration::MINUTE {
        (span.whole_minutes(), "minute")
    } else {
        (span.whole_seconds(), "second")
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(moment(datetime!(2026-11-21 8:45 +1)), "2026-11-21 07:45:00 UTC");
    }

    #[test]
    fn spans_use_the_largest_unit() {
        assert_eq!(span(Duration::days(90)), "90 days");
        assert_eq!(span(Duration::hours(-47)), "1 day");
        assert_eq!(span(Duration::hours(5)), "5 hours");
        assert_eq!(span(Duration::minutes(1)), "1 minute");
        assert_eq!(span(Duration::ZERO), "0 seconds");
    }
}
