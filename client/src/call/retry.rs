//! Whether and when a call that failed is made once more.

use std::time::Duration;

use tokio::time::Instant;
use tonic_types::StatusExt as _;

use crate::status::Failure;

/// How long is waited first where nobody says how long; twice as long each time after that.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest that is waited. Who asks for more is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// By which a server says when to try again, or with a negative number not to (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The tries that are left.
pub(super) struct Backoff {
    left: u32,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(retries: u32) -> Self {
        Self {
            left: retries,
            next: FIRST_WAIT,
        }
    }

    /// How long to wait before the next try; `None` if there is to be none.
    pub(super) fn wait(&mut self, failure: &Failure, deadline: Option<Instant>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.after(failure)?;
        let ends = Instant::now() + wait;
        (wait <= LONGEST_WAIT && deadline.is_none_or(|deadline| ends < deadline)).then_some(wait)
    }

    fn after(&mut self, failure: &Failure) -> Option<Duration> {
        let status = failure.status();
        if let Some(pushback) = status.metadata().get(PUSHBACK) {
            let milliseconds = pushback.to_str().ok()?.parse().ok()?;
            return Some(Duration::from_millis(milliseconds));
        }
        match failure.tunnel_reason() {
            // Many callers may have failed at one time: they are not to come back at one time.
            Some(_) if failure.is_undelivered() => {
                let wait = self.next.mul_f64(rand::random_range(0.5..1.0));
                self.next = (self.next * 2).min(LONGEST_WAIT);
                Some(wait)
            }
            Some(_) => None,
            None => status.get_details_retry_info()?.retry_delay,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::time::Duration;

    use tokio::time::Instant;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::Backoff;
    use crate::status::Failure;

    const NEVER: [Duration; 0] = [];

    fn failure(metadata: &[(&'static str, &'static str)]) -> Failure {
        let mut status = Status::unavailable("x");
        for (key, value) in metadata {
            status.metadata_mut().insert(*key, value.parse().unwrap());
        }
        Failure::without_schema(status)
    }

    fn waits(failure: &Failure, retries: u32) -> Vec<Duration> {
        let mut backoff = Backoff::new(retries);
        std::iter::from_fn(|| backoff.wait(failure, None))
            .take(9)
            .collect()
    }

    #[test]
    fn what_no_service_has_seen_is_tried_again_and_again_later() {
        let failure = failure(&[("adit-error", "agent-offline"), ("adit-delivered", "no")]);
        assert_eq!(waits(&failure, 0), NEVER);
        let waits = waits(&failure, 3);
        assert_eq!(waits.len(), 3);
        for (wait, longest) in waits.iter().zip([100, 200, 400]) {
            let longest = Duration::from_millis(longest);
            assert!(*wait >= longest / 2 && *wait <= longest, "{wait:?}");
        }
    }

    #[test]
    fn what_a_service_may_have_seen_is_tried_again_only_if_it_says_so() {
        assert_eq!(
            waits(
                &failure(&[("adit-error", "link-lost"), ("adit-delivered", "maybe")]),
                3
            ),
            NEVER
        );
        assert_eq!(
            waits(&failure(&[("adit-delivered", "no")]), 3),
            NEVER,
            "a service says nothing about delivery"
        );
        assert_eq!(waits(&failure(&[]), 3), NEVER);
        assert_eq!(
            waits(&failure(&[("grpc-retry-pushback-ms", "7")]), 2),
            [Duration::from_millis(7); 2]
        );
        let refused = [
            ("grpc-retry-pushback-ms", "-1"),
            ("adit-error", "x"),
            ("adit-delivered", "no"),
        ];
        assert_eq!(waits(&failure(&refused), 3), NEVER);
        assert_eq!(
            waits(&failure(&[("grpc-retry-pushback-ms", "3600000")]), 3),
            NEVER
        );

        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(tonic::Code::Unavailable, "x", details);
        assert_eq!(
            waits(&Failure::without_schema(status), 1),
            [Duration::from_secs(2)]
        );
    }

    #[test]
    fn nobody_waits_past_the_deadline() {
        let failure = failure(&[("grpc-retry-pushback-ms", "500")]);
        let soon = Instant::now() + Duration::from_millis(400);
        assert_eq!(Backoff::new(1).wait(&failure, Some(soon)), None);
    }
}
