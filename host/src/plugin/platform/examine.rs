//! A plugin looked at by a command: the steps of loading up to `describe`, whether or not a manager would trust it.

use std::path::PathBuf;

use super::{Grants, Platform, Standing, describe};
use crate::plugin::bindings::Description;
use crate::plugin::outline::Outline;
use crate::plugin::report::{Cause, Digest, LoadReport};

/// What can be known of a file without a configuration.
#[derive(Clone, Debug)]
pub struct Examined {
    pub digest: Digest,
    pub outline: Outline,
    pub description: Description,
    /// Built-in ones, if it is shipped, extended by `plugins.toml`.
    pub grants: Grants,
}

impl Platform {
    /// Nothing is granted to it, and nothing kept of it.
    pub async fn examine(&self, plugin: &str, file: PathBuf) -> Result<Examined, LoadReport> {
        let mut report = LoadReport::begun(plugin.to_owned());
        report.file = Some(file.clone());
        let examined = self.try_examine(plugin, file, &mut report).await;
        examined.map_err(|cause| LoadReport { cause, ..report })
    }

    async fn try_examine(
        &self,
        plugin: &str,
        file: PathBuf,
        report: &mut LoadReport,
    ) -> Result<Examined, Cause> {
        let bytes = tokio::fs::read(&file).await;
        let bytes = bytes.map_err(|problem| Cause::Unreadable(problem.to_string()))?;
        let digest = Digest::of(&bytes);
        report.digest = Some(digest);
        let standing = Standing {
            plugin: plugin.to_owned(),
            file,
            digest,
            is_shipped: self.shipped.lists(plugin, digest),
        };
        let program = self.compile(bytes).await?;
        let outline = self.engine.outline(&program);
        let recipe = self.ungranted(&standing, program);
        let describing = async move { describe(&recipe).await };
        Ok(Examined {
            description: self.guarded("describe", describing).await?,
            digest,
            outline,
            grants: standing.grants(&self.grants.borrow()),
        })
    }
}
