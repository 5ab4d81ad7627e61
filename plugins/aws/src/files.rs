//! The AWS files as one: profiles and services of the config file, keys of the credentials file.
//!
//! They are read anew for every call, so that corrected credentials heal without a restart.

use fleetling_plugin_sdk::{Host, Problem, ProblemKind, SecretProblem};

use crate::config::PluginConfig;
use crate::ini;

/// Both files as they are now.
pub(crate) struct Files {
    pub(crate) config: Content,
    pub(crate) credentials: Content,
}

/// A file's content, and why it has none.
pub(crate) struct Content {
    /// As the operator wrote it, or where it is by default.
    pub(crate) path: String,
    sections: ini::File,
    absent: Option<String>,
}

/// One profile: its sections in both files. It may hold keys, and has no `Debug`.
#[derive(Clone, Default)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) config: ini::Section,
    pub(crate) credentials: ini::Section,
}

impl Profile {
    /// A setting; what the credentials file says wins.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let value = self.credentials.get(key).or_else(|| self.config.get(key));
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Files {
    pub(crate) fn read(host: &dyn Host, config: &PluginConfig) -> Result<Self, Problem> {
        Ok(Self {
            config: read(
                host,
                &Kind {
                    secret: "aws_config",
                    key: "plugin_config.config_file",
                    written: config.config_file.as_deref(),
                    variable: "AWS_CONFIG_FILE",
                    default: "~/.aws/config",
                    fault: ProblemKind::InvalidConfig,
                },
            )?,
            credentials: read(
                host,
                &Kind {
                    secret: "aws_credentials",
                    key: "plugin_config.credentials_file",
                    written: config.credentials_file.as_deref(),
                    variable: "AWS_SHARED_CREDENTIALS_FILE",
                    default: "~/.aws/credentials",
                    // The host looks again when the file changes.
                    fault: ProblemKind::Unauthenticated,
                },
            )?,
        })
    }

    pub(crate) fn profile(&self, name: &str) -> Option<Profile> {
        let sections = &self.config.sections;
        let config = match ini::named(sections, "profile", name) {
            None if name == "default" => sections.get("default"),
            named => named,
        };
        let credentials = self.credentials.sections.get(name);
        (config.is_some() || credentials.is_some()).then(|| Profile {
            name: name.to_owned(),
            config: config.cloned().unwrap_or_default(),
            credentials: credentials.cloned().unwrap_or_default(),
        })
    }

    /// The `[services …]` section of a name.
    pub(crate) fn services(&self, name: &str) -> Option<&ini::Section> {
        ini::named(&self.config.sections, "services", name)
    }

    /// Where a profile was looked for, and why a file that is not there is not.
    pub(crate) fn looked_in(&self) -> String {
        let looked = |file: &Content| match &file.absent {
            Some(why) => format!("{} ({why})", file.path),
            None => file.path.clone(),
        };
        format!(
            "neither in {} nor in {}",
            looked(&self.credentials),
            looked(&self.config)
        )
    }

    /// Nothing is known to be wrong with the configuration where a file is not there: it may be on its way.
    pub(crate) fn may_still_come(&self) -> bool {
        self.credentials.absent.is_some()
    }
}

/// One of the two files, in every name it has.
struct Kind<'a> {
    secret: &'static str,
    key: &'static str,
    written: Option<&'a str>,
    variable: &'static str,
    default: &'static str,
    fault: ProblemKind,
}

/// A file that the operator named must be there; one that is only looked for by default may be missing.
fn read(host: &dyn Host, kind: &Kind<'_>) -> Result<Content, Problem> {
    let named = match kind.written {
        Some(path) => Some((kind.key, path.to_owned())),
        None => host
            .variable(kind.variable)
            .map(|path| (kind.variable, path)),
    };
    let key = named.as_ref().map_or(kind.key, |(key, _)| key);
    let is_named = named.is_some();
    let path = named.map_or_else(|| kind.default.to_owned(), |(_, path)| path);
    let fault = |problem, fault: String| Problem::new(problem, format!("{path}: {fault}"));
    let bytes = match host.secret(kind.secret) {
        Ok(bytes) => bytes,
        Err(SecretProblem::NotGranted(why)) if is_named => {
            let message = format!("may not be read by this plugin: {why}");
            return Err(fault(ProblemKind::Forbidden, message).about(kind.secret));
        }
        Err(SecretProblem::Unreadable(why)) if is_named => {
            let message = format!("could not be read: {why}; next: correct {key} or the file");
            return Err(fault(kind.fault, message).about(key));
        }
        Err(SecretProblem::NotGranted(why) | SecretProblem::Unreadable(why)) => {
            return Ok(Content {
                path,
                sections: ini::File::new(),
                absent: Some(why),
            });
        }
    };
    let malformed =
        |what: String| fault(kind.fault, format!("{what}; next: correct the file")).about(key);
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".into()))?;
    let sections = ini::parse(&text).map_err(|error| malformed(error.to_string()))?;
    Ok(Content {
        path,
        sections,
        absent: None,
    })
}

#[cfg(test)]
mod tests {
    use fleetling_plugin_sdk::script::Script;

    use super::*;

    fn config(json: &str) -> PluginConfig {
        PluginConfig::parse(json).unwrap_or_else(|problem| panic!("{json}: {problem:?}"))
    }

    #[test]
    fn a_profile_is_both_its_sections_and_the_credentials_file_wins() {
        let host = Script::default();
        host.set_secret(
            "aws_config",
            "[default]\nregion = a\noutput = json\n[profile b]\nregion = c\n[services s]\nec2 =\n  endpoint_url = x\n",
        );
        host.set_secret("aws_credentials", "[default]\nregion = d\n[only]\nx = y\n");
        let Ok(files) = Files::read(&host, &config(r#"{"name":"g"}"#)) else {
            panic!("both are well formed");
        };
        let default = files.profile("default").expect("it stands in both");
        assert_eq!(default.get("region"), Some("d"));
        assert_eq!(default.get("output"), Some("json"));
        assert_eq!(default.get("none"), None);
        assert_eq!(files.profile("b").expect("b").get("region"), Some("c"));
        assert_eq!(files.profile("only").expect("only").get("x"), Some("y"));
        assert!(files.profile("z").is_none());
        assert!(files.services("s").is_some());
        assert!(!files.may_still_come());
    }

    #[test]
    fn a_file_that_was_named_must_be_readable_and_well_formed() {
        let unreadable = || SecretProblem::Unreadable("no such file".into());
        let denied = || SecretProblem::NotGranted("`aws_config` is not granted".into());
        for (json, variable, secret, subject, part) in [
            (
                r#"{"name":"g","credentials_file":"/x"}"#,
                None,
                ("aws_credentials", Err(unreadable())),
                "plugin_config.credentials_file",
                "/x: could not be read: no such file; next: correct plugin_config.credentials_file",
            ),
            (
                r#"{"name":"g"}"#,
                Some(("AWS_CONFIG_FILE", "/e")),
                ("aws_config", Err(unreadable())),
                "AWS_CONFIG_FILE",
                "/e: could not be read: no such file; next: correct AWS_CONFIG_FILE",
            ),
            (
                r#"{"name":"g","config_file":"/c"}"#,
                None,
                ("aws_config", Err(denied())),
                "aws_config",
                "/c: may not be read by this plugin",
            ),
            (
                r#"{"name":"g"}"#,
                None,
                ("aws_credentials", Ok("[default]\ns3cret\n")),
                "plugin_config.credentials_file",
                "~/.aws/credentials: line 2: neither a `[section]`",
            ),
        ] {
            let host = Script::default();
            if let Some((name, value)) = variable {
                host.set_variable(name, value);
            }
            match secret.1 {
                Ok(content) => host.set_secret(secret.0, content),
                Err(problem) => host.break_secret(secret.0, problem),
            }
            let Err(problem) = Files::read(&host, &config(json)) else {
                panic!("{part}");
            };
            assert_eq!(problem.subject.as_deref(), Some(subject));
            assert!(problem.message.contains(part), "{problem:?}");
            assert!(!problem.message.contains("s3cret"), "{problem:?}");
        }
    }

    #[test]
    fn files_that_nobody_named_may_be_missing() {
        let Ok(files) = Files::read(&Script::default(), &config(r#"{"name":"g"}"#)) else {
            panic!("nobody named them");
        };
        assert!(files.may_still_come());
        assert_eq!(
            files.looked_in(),
            "neither in ~/.aws/credentials (`aws_credentials` is not granted) nor in ~/.aws/config \
             (`aws_config` is not granted)"
        );
    }
}
