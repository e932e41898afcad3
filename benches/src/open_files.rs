//! How many files and sockets this process, and those that it starts, may have open.

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sees to it that so many files may be open at once.
///
/// # Errors
/// The hard limit is lower.
pub fn allow(files: u64) -> anyhow::Result<()> {
    if let Some(limit) = raised(getrlimit(Resource::Nofile), files)? {
        setrlimit(Resource::Nofile, limit)
            .with_context(|| format!("cannot raise the limit of open files to {files}"))?;
    }
    Ok(())
}

/// The limit that allows them; none where `limit` does.
fn raised(limit: Rlimit, files: u64) -> anyhow::Result<Option<Rlimit>> {
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(None);
    }
    if let Some(maximum) = limit.maximum
        && maximum < files
    {
        bail!(
            "{files} files have to be open at once, a socket for each agent, and the hard limit is {maximum}: raise it \
             (ulimit -Hn {files}, as root), or take fewer agents"
        );
    }
    Ok(Some(Rlimit {
        current: Some(files),
        ..limit
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn a_limit_is_raised_only_where_it_has_to_be_and_can_be() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(1024), Some(4096)), 1024).unwrap(), None);
        assert_eq!(raised(limit(None, None), 1_000_000).unwrap(), None);
        let up = limit(Some(4096), Some(4096));
        assert_eq!(raised(limit(Some(1024), Some(4096)), 4096).unwrap(), Some(up));
        assert_eq!(
            raised(limit(Some(1024), None), 4096).unwrap(),
            Some(limit(Some(4096), None))
        );
        let error = raised(limit(Some(1024), Some(4096)), 4097).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("4097") && error.contains("4096"), "{error}");
    }
}
