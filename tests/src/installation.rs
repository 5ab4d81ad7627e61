//! Where the manager's binary stands and what it finds around it: as built, or a copy that lacks the plugins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

#[derive(Clone, Debug)]
pub struct Installation {
    pub(crate) binary: PathBuf,
    /// The value of `PATH`.
    pub(crate) search_path: OsString,
}

impl Installation {
    /// The one of the lab's own profile in `target`, or what `FLEETLING_BIN` names.
    pub fn built() -> Result<Self> {
        let named = std::env::var_os("FLEETLING_BIN").map(PathBuf::from);
        let built = if cfg!(debug_assertions) {
            "target/debug/fleetling"
        } else {
            "target/release/fleetling"
        };
        let binary = named.unwrap_or_else(|| crate::run::root().join(built));
        ensure!(
            binary.exists(),
            "{} is missing; `make build` makes it",
            binary.display()
        );
        Ok(Self {
            binary,
            search_path: std::env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// The same in `dir`, with all that stands beside the binary but its plugins.
    pub fn without_plugins(dir: &Path) -> Result<Self> {
        let built = Self::built()?;
        let (bin, share) = (dir.join("bin"), dir.join("share/fleetling"));
        std::fs::create_dir_all(&bin)?;
        std::fs::create_dir_all(&share)?;
        // A copy and no symbolic link: the manager looks beside the file that runs.
        let binary = bin.join("fleetling");
        std::fs::hard_link(&built.binary, &binary)
            .or_else(|_| std::fs::copy(&built.binary, &binary).map(drop))
            .with_context(|| format!("cannot make {}", binary.display()))?;
        for entry in std::fs::read_dir(data_dir())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), share.join(entry.file_name()))?;
            }
        }
        Ok(Self { binary, ..built })
    }

    /// With `dir` before everything else in `PATH`.
    pub fn on_path(mut self, dir: &Path) -> Result<Self> {
        let others = std::env::split_paths(&self.search_path).collect::<Vec<_>>();
        self.search_path = std::env::join_paths([dir.to_path_buf()].into_iter().chain(others))?;
        Ok(self)
    }

    /// For commands that need no lab.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The provider in Python that `make python-provider` made.
    pub fn python_provider() -> Result<PathBuf> {
        let plugin = crate::run::lab_dir().join("providers/fleeting-plugin-toy-python.wasm");
        let what = plugin.display();
        ensure!(
            plugin.exists(),
            "{what} is missing; `make python-provider` makes it"
        );
        Ok(plugin)
    }

    /// The AWS plugin that `make plugins` made.
    pub fn aws_plugin() -> PathBuf {
        data_dir().join("plugins/fleeting-plugin-aws.wasm")
    }
}

fn data_dir() -> PathBuf {
    crate::run::root().join("target/share/fleetling")
}
