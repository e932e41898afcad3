//! A call's deadline: what `grpc-timeout` says, and the timer that the hub keeps for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, Sleep};

/// How long after its deadline the hub ends a call. The client and the upstream know the deadline too and end it in
/// their own words as a rule; this is for those that don't.
const GRACE: Duration = Duration::from_millis(500);

/// No timer is kept beyond this: it is as good as none. (The longest that `grpc-timeout` can say is 11,415 years.)
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// When a call is to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request that arrives now. A value that is not a timeout sets none: the request goes on as it
    /// is, and the upstream says what it thinks of it.
    pub(crate) fn of(metadata: &HeaderMap) -> Option<Self> {
        let timeout = parse_timeout(metadata.get("grpc-timeout")?.as_bytes())?;
        (timeout < LONGEST).then(|| Self(Instant::now() + timeout))
    }

    /// The moment itself.
    pub(crate) fn instant(self) -> Instant {
        self.0
    }

    /// A timer for the moment at which the hub ends the call.
    pub(crate) fn timer(self) -> Timer {
        Timer(Box::pin(tokio::time::sleep_until(self.0 + GRACE)))
    }
}

/// Fires when a call has to be ended.
#[derive(Debug)]
pub(crate) struct Timer(Pin<Box<Sleep>>);

impl Timer {
    /// Ready once the time has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// Waits for `future`, or until the call has to be ended: `None` then.
pub(crate) async fn in_time<F: Future>(
    timer: &mut Option<Timer>,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        if timer.as_mut().is_some_and(|timer| timer.poll(cx).is_ready()) {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// A `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits
        .iter()
        .fold(0, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 60 * 60),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::parse_timeout;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        let cases = [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            ("999999999S", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(value in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse_timeout(&value);
        }
    }
}
