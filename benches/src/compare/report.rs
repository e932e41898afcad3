//! `report.md` and `results.json`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::plots::Plot;
use crate::lab::{Ping, Plan, Sample, tables, told};

/// What people read.
pub(super) const REPORT: &str = "report.md";

/// What programs read.
const RESULTS: &str = "results.json";

/// All that is known of a run.
#[derive(Debug, Serialize)]
pub(super) struct Results<'a> {
    /// As a Markdown list.
    pub(super) machine: String,
    pub(super) command: Vec<String>,
    pub(super) plan: &'a Plan,
    pub(super) pings: &'a [Ping],
    pub(super) samples: &'a [Sample],
}

impl Results<'_> {
    pub(super) fn write(&self, out: &Path, plots: &[Plot]) -> anyhow::Result<()> {
        let mut report = Vec::new();
        self.report(&mut report, plots)?;
        for (name, content) in [(REPORT, report), (RESULTS, serde_json::to_vec(self)?)] {
            let path = out.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn report(&self, out: &mut Vec<u8>, plots: &[Plot]) -> anyhow::Result<()> {
        writeln!(out, "# Carriers on links that lose packets\n")?;
        // Without the folders of whoever ran it.
        let arguments = self.command.get(1..).unwrap_or_default();
        writeln!(out, "- `adit-bench {}`", arguments.join(" "))?;
        write!(out, "{}{}", self.machine, self.plan.describe())?;
        for ping in self.pings {
            writeln!(out, "{}", told(ping))?;
        }
        writeln!(
            out,
            "- ratios are to the WebSocket that the column names, at the same loss: below 1 is faster"
        )?;
        tables(out, self.plan, self.samples)?;
        for plot in plots {
            writeln!(out, "\n![{}]({}.svg)", plot.title, plot.name)?;
        }
        let mut failures = self
            .samples
            .iter()
            .filter(|sample| sample.error.is_some())
            .peekable();
        if failures.peek().is_some() {
            writeln!(out, "\nNot measured:\n")?;
        }
        for sample in failures {
            writeln!(
                out,
                "- round {}: {}",
                sample.round,
                sample.told().replace('\n', " ")
            )?;
        }
        Ok(())
    }
}
