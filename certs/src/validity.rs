//! From when until when a certificate holds.

use std::fmt;
use std::num::NonZeroU16;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use crate::age::moment;
use crate::load_error::LoadError;

/// How far a new certificate is dated back, because the clocks of the machines that check it may
/// run behind.
const BACKDATE: Duration = Duration::minutes(5);

/// The time in which a certificate holds, both ends included, in whole seconds as X.509 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// From five minutes ago, for clocks that run behind, until `days` from now.
    pub fn days(days: NonZeroU16) -> Self {
        let now = OffsetDateTime::now_utc();
        Self::between(now - BACKDATE, now + Duration::days(i64::from(days.get())))
    }

    /// From `not_before` until `not_after`.
    pub fn between(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Self {
        Self {
            not_before: whole_seconds(not_before),
            not_after: whole_seconds(not_after),
        }
    }

    /// The first second in which the certificate holds.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The last second in which the certificate holds.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether the certificate holds at `now`.
    pub fn holds_at(&self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&whole_seconds(now))
    }

    /// Whether the certificate in `path` holds at `now`; `advice` says what to do if not.
    pub(crate) fn check(
        &self,
        path: &Path,
        now: OffsetDateTime,
        advice: impl FnOnce() -> String,
    ) -> Result<(), LoadError> {
        let now = whole_seconds(now);
        let path = || path.to_owned();
        if now < self.not_before {
            let ahead = self.not_before - now;
            return Err(LoadError::NotYetValid {
                path: path(),
                not_before: self.not_before,
                ahead,
                advice: advice(),
            });
        }
        if now > self.not_after {
            let ago = now - self.not_after;
            return Err(LoadError::Expired {
                path: path(),
                not_after: self.not_after,
                ago,
                advice: advice(),
            });
        }
        Ok(())
    }

    /// The same, but ending with `other` at the latest.
    pub(crate) fn ending_with(self, other: Self) -> Self {
        Self {
            not_after: self.not_after.min(other.not_after),
            ..self
        }
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}", moment(self.not_before), moment(self.not_after))
    }
}

fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time - Duration::nanoseconds(i64::from(time.nanosecond()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use time::macros::datetime;

    use super::*;

    #[test]
    fn days_are_counted_from_now_and_dated_back() {
        let before = OffsetDateTime::now_utc();
        let validity = Validity::days(NonZeroU16::new(90).unwrap());
        assert!(validity.not_before() <= before - BACKDATE + Duration::seconds(1));
        assert!(validity.not_after() - validity.not_before() >= Duration::days(90));
        assert!(validity.holds_at(before));
        // The largest number is no overflow.
        assert!(Validity::days(NonZeroU16::MAX).holds_at(before));
    }

    #[test]
    fn both_ends_are_included() {
        let validity = Validity::between(
            datetime!(2026-01-01 0:00:00.7 UTC),
            datetime!(2026-02-01 0:00 UTC),
        );
        assert!(!validity.holds_at(datetime!(2025-12-31 23:59:59 UTC)));
        assert!(validity.holds_at(datetime!(2026-01-01 0:00 UTC)));
        assert!(validity.holds_at(datetime!(2026-02-01 0:00:00.9 UTC)));
        assert!(!validity.holds_at(datetime!(2026-02-01 0:00:01 UTC)));
    }
}
