//! What every long-running command needs of its process: a runtime, signals, and a last word.

use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroUsize;

use anyhow::Context as _;

#[cfg(any(feature = "hub", feature = "agent"))]
pub(crate) mod signals;

/// How many threads carry the calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Workers {
    /// The thread that runs everything else too.
    One,
    /// So many.
    Several(NonZeroUsize),
}

/// `--workers`, in the words of the hub and the agent.
impl From<NonZeroUsize> for Workers {
    fn from(count: NonZeroUsize) -> Self {
        if count.get() == 1 {
            Self::One
        } else {
            Self::Several(count)
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run<T>(
    workers: Workers,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut runtime = match workers {
        Workers::One => tokio::runtime::Builder::new_current_thread(),
        Workers::Several(count) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(count.get());
            runtime
        }
    };
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(command);
    // A name being looked up or a file being read must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Says why the command failed.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "adit: {}", in_full(error));
}

/// An error with its causes, without those that it has told of itself.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::in_full;

    #[test]
    fn a_cause_is_told_once() {
        let cause = anyhow::anyhow!("no such field");
        let error = cause.context("line 3: no such field").context("reading");
        assert_eq!(in_full(&error), "reading: line 3: no such field");
    }
}
