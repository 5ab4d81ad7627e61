//! What a group is: `open`, `update`, and what both show of the plugin over the whole trial.

use std::collections::BTreeSet;

use super::{Outcome, Trial, failed};
use crate::fleet::group::Snapshot;

/// Of a memo, in bytes.
const MEMO: usize = 4 << 10;

impl Trial<'_> {
    pub(super) async fn open_answers(&mut self) -> Outcome {
        let before = ids(&self.snapshot().await?);
        let first = self.seat().await?.open().await;
        let first = self.answered("open", first)?;
        let second = self.seat().await?.open().await;
        let second = self.answered("open", second)?;
        if first.id.trim().is_empty() {
            return Err(failed(
                "the group has no ID; next: a path such as cloud/region/name",
            ));
        }
        if first.id != second.id {
            return Err(failed(format!(
                "the group is {:?} first and {:?} then",
                first.id, second.id
            )));
        }
        let after = ids(&self.snapshot().await?);
        if before != after {
            return Err(failed("other instances are listed after it than before"));
        }
        Ok(())
    }

    pub(super) async fn snapshot_is_stable(&mut self) -> Outcome {
        let first = self.snapshot().await?;
        let (listed, first) = (first.instances.len(), ids(&first));
        if listed != first.len() {
            return Err(failed("one ID is listed twice"));
        }
        if first.contains("") {
            return Err(failed("an instance has no ID"));
        }
        let second = ids(&self.snapshot().await?);
        if first != second {
            return Err(failed(format!(
                "{} instances are listed first, {} at once after",
                first.len(),
                second.len()
            )));
        }
        Ok(())
    }

    pub(super) fn memos_are_short(&self) -> Outcome {
        let (bytes, id) = &self.longest_memo;
        if *bytes > MEMO {
            return Err(failed(format!("the memo of {id} has {bytes} bytes")));
        }
        Ok(())
    }

    pub(super) fn grants_suffice(&self) -> Outcome {
        let denied = self.wire.denied();
        if denied.is_empty() {
            return Ok(());
        }
        let told = denied.into_iter().map(|(what, line)| match line {
            Some(line) => format!("{what} (`{}`)", line.replace('\n', "` and `")),
            None => format!("{what} (no grant can allow it)"),
        });
        let told: Vec<_> = told.collect();
        Err(failed(format!(
            "{}; next: grant it in plugins.toml if it should be asked for, else ask for less",
            told.join(", ")
        )))
    }
}

fn ids(snapshot: &Snapshot) -> BTreeSet<String> {
    let instances = snapshot.instances.iter();
    instances.map(|instance| instance.id.0.clone()).collect()
}
