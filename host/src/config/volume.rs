//! One entry of `volumes`: `[source:]destination[:mode][:label][:propagation]`, GitLab Runner's grammar for Linux.

use std::fmt;
use std::str::FromStr;

const MODES: [&str; 3] = ["ro", "rw", "O"];
const LABELS: [&str; 2] = ["z", "Z"];
const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];
/// Docker's own, beyond GitLab Runner's grammar: an image's files are not copied into a new volume.
const NO_COPY: &str = "nocopy";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// A path on the instance or a volume's name. `None`: a cache volume that is made for the job.
    pub source: Option<String>,
    /// Absolute, and not the root as it is written; may name job variables.
    pub destination: String,
    /// Docker's words in Docker's order, such as `ro`, `z`, `rslave`.
    pub options: Vec<&'static str>,
}

impl Volume {
    /// As Docker takes it among a container's binds, at `destination`; `None` without a source.
    pub fn bind(&self, destination: &str) -> Option<String> {
        let source = self.source.as_ref()?;
        Some(match self.options[..] {
            [] => format!("{source}:{destination}"),
            _ => format!("{source}:{destination}:{}", self.options.join(",")),
        })
    }
}

impl FromStr for Volume {
    type Err = NoVolume;

    fn from_str(text: &str) -> Result<Self, NoVolume> {
        let mut parts = text.split(':').peekable();
        let first = parts.next().unwrap_or_default();
        let second = parts.next_if(|part| part.starts_with('/'));
        let (source, destination) = match second {
            Some(destination) => (Some(first), destination),
            None => (None, first),
        };
        let forbidden =
            |c: char| matches!(c, '\\' | '*' | '?' | '"' | '<' | '>' | '|' | '\r' | '\n');
        if !destination.starts_with('/') {
            return Err(NoVolume::Relative(destination.to_owned()));
        }
        if clean(destination) == "/" {
            return Err(NoVolume::Root);
        }
        if source == Some("") {
            return Err(NoVolume::EmptySource);
        }
        if let Some(c) = text.chars().find(|c| forbidden(*c)) {
            return Err(NoVolume::Character(c));
        }
        let mut options = Vec::new();
        let mut least = 0;
        for word in parts.flat_map(|part| part.split(',')) {
            let (rank, option) = option(word).ok_or_else(|| NoVolume::Option(word.to_owned()))?;
            if rank < least {
                return Err(NoVolume::Option(word.to_owned()));
            }
            least = rank + 1;
            options.push(option);
        }
        Ok(Self {
            source: source.map(str::to_owned),
            destination: destination.to_owned(),
            options,
        })
    }
}

/// The word as Docker writes it, and where it stands among others.
fn option(word: &str) -> Option<(u8, &'static str)> {
    // The two labels differ by nothing but their case.
    let label = LABELS.iter().find(|label| **label == word);
    let same = |known: &&&'static str| known.eq_ignore_ascii_case(word);
    let mode = || MODES.iter().find(same).map(|mode| (0, *mode));
    let label = || label.map(|label| (1, *label));
    let propagation = || PROPAGATIONS.iter().find(same).map(|known| (2, *known));
    let no_copy = || (word == NO_COPY).then_some((3, NO_COPY));
    mode().or_else(label).or_else(propagation).or_else(no_copy)
}

/// Without doubled and closing slashes and without `.`; `..` leads upwards, never above the root.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `path` is `folder` or lies below it.
pub fn covers(folder: &str, path: &str) -> bool {
    let below = path.strip_prefix(folder);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Why a text is no volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVolume {
    Relative(String),
    Root,
    EmptySource,
    Character(char),
    Option(String),
}

impl fmt::Display for NoVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative(path) => write!(
                f,
                "the path in the container, {path:?}, is not absolute; begin it with /"
            ),
            Self::Root => {
                f.write_str("the container's root cannot be a volume; name a folder below it")
            }
            Self::EmptySource => {
                f.write_str("nothing stands before the first colon; name a path or a volume there")
            }
            Self::Character(c) => write!(f, "a volume cannot have {c:?} in its paths"),
            Self::Option(word) => write!(
                f,
                "{word:?} cannot stand there; after the path may come ro or rw, then z or Z, then a propagation such \
                 as rslave, then nocopy"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_gitlab_runner_s() {
        for (text, source, destination, options) in [
            ("/cache", None, "/cache", &[][..]),
            ("/srv/x:/data", Some("/srv/x"), "/data", &[]),
            ("named:/data:RO", Some("named"), "/data", &["ro"]),
            ("/a b:/data:rw:Z", Some("/a b"), "/data", &["rw", "Z"]),
            ("/a:/b:z", Some("/a"), "/b", &["z"]),
            (
                "/a:/b:ro,z,rslave",
                Some("/a"),
                "/b",
                &["ro", "z", "rslave"],
            ),
            ("/a:/b:rshared", Some("/a"), "/b", &["rshared"]),
            ("/a:/b:o", Some("/a"), "/b", &["O"]),
            ("v:/b:nocopy", Some("v"), "/b", &["nocopy"]),
            ("/cache:ro", None, "/cache", &["ro"]),
            ("/c/$CI_PROJECT_ID", None, "/c/$CI_PROJECT_ID", &[]),
        ] {
            let volume = Volume {
                source: source.map(Into::into),
                destination: destination.into(),
                options: options.to_vec(),
            };
            assert_eq!(text.parse(), Ok(volume), "{text}");
        }
        for (text, why) in [
            ("cache", NoVolume::Relative("cache".into())),
            ("a:b", NoVolume::Relative("a".into())),
            ("/host:/", NoVolume::Root),
            ("/host://.", NoVolume::Root),
            (":/data", NoVolume::EmptySource),
            ("/a:/b|c", NoVolume::Character('|')),
            ("/a:/b:readonly", NoVolume::Option("readonly".into())),
            ("/a:/b:z,ro", NoVolume::Option("ro".into())),
            ("/a:/b:ro,rw", NoVolume::Option("rw".into())),
            ("/a:/b:", NoVolume::Option(String::new())),
            ("/a:/b:ro:/c", NoVolume::Option("/c".into())),
        ] {
            assert_eq!(text.parse::<Volume>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_bind_has_its_options_in_docker_s_way() {
        let bind = |text: &str| text.parse::<Volume>().ok()?.bind("/there");
        assert_eq!(bind("/cache").as_deref(), None);
        assert_eq!(bind("/a:/b").as_deref(), Some("/a:/there"));
        let all = bind("/a:/b:ro:z:rslave");
        assert_eq!(all.as_deref(), Some("/a:/there:ro,z,rslave"));
    }
}
