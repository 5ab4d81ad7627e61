//! What the status page tells of one runner's plugin: why it is waited for, what runs, and what keeps another file, or its
//! grants, from it.
//!
//! ```text
//! load failed ─► waiting, with the report ─┐
//! loaded, and whatever its keeper says ────┴► the runner's row of the page, until the runner ends
//! ```

use jiff::Timestamp;
use tokio::sync::watch;

use crate::observe::status::{PluginStatus, StatusPage};
use crate::plugin::platform::PluginEntry;
use crate::plugin::redact::{clean, clean_lines};
use crate::plugin::report::LoadReport;

/// Written by the runner's task alone; dropping it takes the row away.
pub(super) struct PluginRow {
    page: watch::Sender<StatusPage>,
    /// Two entries of one name, or an old and a new one, have each their own.
    number: u64,
}

impl PluginRow {
    pub(super) fn new(page: watch::Sender<StatusPage>, number: u64) -> Self {
        Self { page, number }
    }

    pub(super) fn waits(&self, runner: &str, report: &LoadReport) {
        self.show(PluginStatus {
            runner: runner.to_owned(),
            name: clean(&report.plugin),
            state: "waiting",
            version: None,
            digest: report.digest.map(|digest| digest.hex()),
            file: report
                .file
                .as_ref()
                .map(|file| clean(&file.to_string_lossy())),
            last_error: Some(clean_lines(&report.to_string())),
            last_error_since: None,
            number: self.number,
        });
    }

    pub(super) fn runs(&self, runner: &str, entry: &PluginEntry) {
        let version = entry.description.as_ref().map(|says| clean(&says.version));
        self.show(PluginStatus {
            runner: runner.to_owned(),
            name: clean(&entry.name),
            state: "loaded",
            version,
            digest: entry.digest.map(|digest| digest.hex()),
            file: Some(clean(&entry.path.to_string_lossy())),
            last_error: entry.last_error.as_deref().map(clean_lines),
            last_error_since: None,
            number: self.number,
        });
    }

    /// An error that stays keeps its time.
    fn show(&self, mut now: PluginStatus) {
        let at = Timestamp::now();
        self.page.send_modify(|page| {
            let mut rows = page.plugins.iter_mut();
            let before = rows.find(|row| row.number == self.number);
            now.last_error_since = match &before {
                Some(before) if before.last_error == now.last_error => before.last_error_since,
                _ => now.last_error.is_some().then_some(at),
            };
            match before {
                Some(row) => *row = now,
                None => page.plugins.push(now),
            }
        });
    }
}

impl Drop for PluginRow {
    fn drop(&mut self) {
        self.page
            .send_modify(|page| page.plugins.retain(|row| row.number != self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::platform::PluginState;
    use crate::plugin::report::{Cause, Digest};

    fn entry(last_error: Option<&str>) -> PluginEntry {
        PluginEntry {
            name: "aws".into(),
            path: "plugins/aws.wasm".into(),
            digest: Some(Digest::of(b"")),
            description: None,
            state: PluginState::Loaded,
            last_error: last_error.map(str::to_owned),
        }
    }

    #[test]
    fn a_runner_has_one_row_from_its_first_report_to_its_end() {
        let page = watch::Sender::new(StatusPage::default());
        let rows = || page.borrow().plugins.clone();
        let row = PluginRow::new(page.clone(), 1);
        let other = PluginRow::new(page.clone(), 2);
        other.runs("x", &entry(None));
        let report = LoadReport {
            file: Some("plugins/a\u{1b}ws.wasm".into()),
            cause: Cause::NotTrusted {
                trusted: "ab".into(),
            },
            ..LoadReport::begun("aws".into())
        };
        row.waits("x", &report);
        let shown = rows()[1].clone();
        assert_eq!((shown.runner.as_str(), shown.state), ("x", "waiting"));
        let told = shown.last_error.clone().unwrap_or_default();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[0], "plugin `aws` (plugins/aws.wasm) was not loaded");
        assert_eq!(lines[1], "  its digest is not the one trusted before (ab)");
        assert!(lines[2].starts_with("  next: "), "{told}");
        assert!(shown.last_error_since.is_some());

        row.waits("x", &report);
        assert_eq!(rows()[1], shown, "what stays keeps its time");
        row.runs("x", &entry(None));
        assert_eq!(
            (rows()[1].state, rows()[1].last_error_since),
            ("loaded", None)
        );
        row.runs("x", &entry(Some("it was replaced")));
        assert_eq!(rows()[1].last_error.as_deref(), Some("it was replaced"));
        assert!(rows()[1].last_error_since.is_some());
        drop(row);
        assert_eq!(rows().len(), 1, "the other entry of that name stays");
    }
}
