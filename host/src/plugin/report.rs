//! What the operator reads when a plugin is not loaded: what, which file, which digest, why, and what next.

use std::fmt;
use std::path::PathBuf;

use super::directory::NotFound;
use sha2::Digest as _;

/// SHA-256 of a plugin's file: what is trusted, pinned and reported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// All 64 digits, as `sha256sum` prints them.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Enough digits to recognise it by.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256 {}…", &self.hex()[..12])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a plugin was not loaded. Display is the cause; [`Cause::next`] is the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("{}", missing(.0))]
    Missing(Box<NotFound>),
    #[error("it could not be read: {0}")]
    Unreadable(String),
    #[error("it is larger than {} MiB, the most that a plugin may be", most >> 20)]
    TooLarge { most: u64 },
    #[error("it is a native program, and a `.wasm` is needed")]
    Native,
    #[error("it is a core WebAssembly module, not a component")]
    CoreModule,
    #[error("it is not a WebAssembly component")]
    NotWasm,
    #[error("it is damaged or cut short")]
    Invalid { detail: String },
    #[error("it imports {}, which this manager does not provide", names.join(", "))]
    Imports { names: Vec<String>, detail: String },
    #[error("it needs {needed}; this manager provides {provided}")]
    Version { needed: String, provided: String },
    #[error("it does not export fleetling:provider/provider as this manager knows it")]
    NoProvider { detail: String },
    #[error("its digest is not the one trusted before ({})", &trusted[..12.min(trusted.len())])]
    NotTrusted { trusted: String },
    #[error("its digest is not the one that plugins.toml names ({})", &wanted[..12.min(wanted.len())])]
    NotPinned { wanted: String },
    #[error("plugins.toml says `require_pins`, and names no digest for it")]
    PinMissing,
    #[error("it could not be compiled: {detail}")]
    NotCompiled { detail: String },
    #[error("it serves another instance group ({opened}) than the file before ({served})")]
    AnotherGroup { served: String, opened: String },
    /// The plugin answered that it could not.
    #[error("`{call}` failed: {problem}")]
    Call { call: &'static str, problem: String },
    /// It did not answer.
    #[error("`{call}` did not end well: {problem}")]
    Lost { call: &'static str, problem: String },
    #[error("the manager's store failed: {0}")]
    Store(String),
}

impl Cause {
    pub fn call(call: &'static str, problem: &dyn fmt::Display) -> Self {
        Self::Call {
            call,
            problem: problem.to_string(),
        }
    }

    pub fn lost(call: &'static str, problem: &dyn fmt::Display) -> Self {
        Self::Lost {
            call,
            problem: problem.to_string(),
        }
    }

    /// `found`: the digest of the file in question.
    pub fn next(&self, plugin: &str, found: Option<Digest>) -> String {
        match self {
            Self::Missing(missing) => way_out(plugin, missing),
            Self::Unreadable(_) => "let the manager's user read it".to_owned(),
            Self::Native => "install the `.wasm` release of this plugin".to_owned(),
            Self::CoreModule => {
                "build it for the target wasm32-wasip2, or wrap it with `wasm-tools component new`"
                    .to_owned()
            }
            Self::NotWasm | Self::Invalid { .. } => "copy it here again, in one piece".to_owned(),
            Self::Imports { .. } => {
                "ask its author for a build that imports only wasi 0.2 and fleetling:provider"
                    .to_owned()
            }
            Self::Version { needed, provided } => format!(
                "install a manager that provides {}, or the plugin release built for {provided}",
                needed.rsplit('@').next().unwrap_or(needed)
            ),
            Self::NoProvider { .. } => {
                "install a plugin built for the world fleetling:provider/plugin@0.1.0".to_owned()
            }
            Self::NotTrusted { .. } => format!(
                "if the new file is meant, review it with `fleetling plugin trust FILE`, or write `sha256 = \"{}\"` \
                 under [{plugin}] in plugins.toml; else put the trusted one back; `reload = \"any\"` there trusts \
                 every one",
                digits(found)
            ),
            Self::NotPinned { .. } => format!(
                "restore the file, or, if this one is meant, correct `sha256` under [{plugin}] in plugins.toml or \
                 review it with `fleetling plugin trust FILE`"
            ),
            Self::PinMissing => format!(
                "if this file is meant, write `sha256 = \"{}\"` under [{plugin}] in plugins.toml, or let \
                 `fleetling plugin trust FILE` do so",
                digits(found)
            ),
            Self::TooLarge { .. } => {
                "ask its author for a smaller build: stripped, without debug information".to_owned()
            }
            Self::NotCompiled { .. } => {
                "give the manager more memory if that ran out, else report it to the plugin's author"
                    .to_owned()
            }
            Self::AnotherGroup { .. } => {
                "restart the manager if the other group is meant; jobs and instances of this one end first"
                    .to_owned()
            }
            Self::Call { call: "open", .. } => {
                "mend what the problem says; the file is tried again by itself".to_owned()
            }
            Self::Call { call: "init", .. } => {
                "correct this runner's plugin_config, as the problem says".to_owned()
            }
            Self::Call { .. } => "report it to the plugin's author".to_owned(),
            Self::Lost { .. } => {
                "put the release before back, and report it to the plugin's author".to_owned()
            }
            Self::Store(_) => {
                "let the manager's user write its state directory; it is tried again by itself".to_owned()
            }
        }
    }

    /// What failed may go well a little later, with nothing changed here.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_)
                | Self::NotCompiled { .. }
                | Self::Call { .. }
                | Self::Lost { .. }
                | Self::Store(_)
        )
    }

    /// The tool's own words, for whoever wants them.
    fn detail(&self) -> Option<&str> {
        match self {
            Self::Invalid { detail }
            | Self::Imports { detail, .. }
            | Self::NoProvider { detail } => Some(detail).filter(|d| !d.is_empty()).map(|d| &**d),
            _ => None,
        }
    }
}

fn digits(found: Option<Digest>) -> String {
    found.map_or_else(|| "…".to_owned(), |digest| digest.hex())
}

/// Why one plugin was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// The operator's name.
    pub plugin: String,
    pub file: Option<PathBuf>,
    pub digest: Option<Digest>,
    pub cause: Cause,
}

impl std::error::Error for LoadReport {}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin `{}` ", self.plugin)?;
        if let Some(file) = &self.file {
            write!(f, "({}", file.display())?;
            if let Some(digest) = self.digest {
                write!(f, ", {digest}")?;
            }
            write!(f, ") ")?;
        }
        let next = self.cause.next(&self.plugin, self.digest);
        write!(f, "was not loaded\n  {}\n  next: {next}", self.cause)?;
        match self.cause.detail() {
            Some(detail) => write!(f, "\n  detail: {}", detail.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }
}

impl LoadReport {
    /// Filled in on the way: what fails, fails with a cause.
    pub fn begun(plugin: String) -> Self {
        Self {
            plugin,
            file: None,
            digest: None,
            cause: Cause::NotWasm,
        }
    }

    /// The same for a log, where an entry is one line.
    pub fn in_one_line(&self) -> String {
        let text = self.to_string();
        text.replace("\n  next: ", "; next: ")
            .replacen("\n  ", ": ", 1)
            .replace("\n  detail: ", "; detail: ")
            .replace("\n    ", "; ")
    }
}

fn missing(missing: &NotFound) -> String {
    let mut text = format!("it was found in none of: {}", Places(&missing.looked_in));
    if !missing.unfit.is_empty() {
        let unfit = missing.unfit.join(", ");
        text.push_str(&format!("; installed, and not asked for: {unfit}"));
    }
    text
}

fn way_out(plugin: &str, missing: &NotFound) -> String {
    let files = format!("`fleeting-plugin-{plugin}.wasm` or `{plugin}.wasm`");
    match missing {
        NotFound {
            other_case: Some(file),
            ..
        } => format!(
            "{} differs from its name in case: write `plugin` and the file's name alike",
            file.display()
        ),
        NotFound {
            native: Some(native),
            ..
        } => format!(
            "{} is a native plugin and cannot run here: a `.wasm` is needed; \
             put `fleeting-plugin-{plugin}.wasm` into one of these",
            native.display()
        ),
        NotFound {
            remote: Some(remote),
            ..
        } => format!("`fleetling plugin install {remote}`, or put {files} into one of these"),
        _ => format!(
            "put {files} into one of these, or install it from its publisher's registry with \
             `fleetling plugin install REGISTRY/GROUP/{plugin}` and write that as `plugin`"
        ),
    }
}

struct Places<'a>(&'a [PathBuf]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, place) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}", place.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
