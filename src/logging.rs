//! Logging: one line per event, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when `ADIT_LOG` says nothing. The HTTP/2 library warns of single frames that a client sends as often as
/// it likes; what comes of them is logged by the hub.
const DEFAULT: &str = "info,h2=error";

/// Starts logging. `ADIT_LOG` says what, as in `ADIT_LOG=debug` or `ADIT_LOG=adit_hub=debug,info`.
pub(crate) fn start() {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    let wanted = std::env::var("ADIT_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let (filter, mistake) = match filter.parse(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    // A second start is the demo's, whose parts log already.
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .try_init();
    if let (Ok(()), Some(error)) = (started, mistake) {
        tracing::warn!(%error, wanted, "ADIT_LOG is not understood: logging at info");
    }
}
