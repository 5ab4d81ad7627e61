//! Where `config.toml` is looked for.

use std::path::{Path, PathBuf};

use super::problem::Fatal;

/// The file that is used: the one named, else the first that exists of those a user of this kind may have.
///
/// Root: `/etc/fleetling/config.toml`, then GitLab Runner's. Others: `~/.fleetling/config.toml`, then GitLab Runner's.
/// Last of all `./config.toml`. A named file is answered whether it exists or not: reading it tells.
///
/// # Errors
/// [`Fatal::NotFound`] with every place looked at.
pub fn find(
    named: Option<PathBuf>,
    is_root: bool,
    home: Option<&Path>,
    exists: impl Fn(&Path) -> bool,
) -> Result<PathBuf, Fatal> {
    if let Some(named) = named {
        return Ok(named);
    }
    let mut looked_for = Vec::new();
    if is_root {
        looked_for.push(PathBuf::from("/etc/fleetling/config.toml"));
        looked_for.push(PathBuf::from("/etc/gitlab-runner/config.toml"));
    } else if let Some(home) = home {
        looked_for.push(home.join(".fleetling/config.toml"));
        looked_for.push(home.join(".gitlab-runner/config.toml"));
    }
    looked_for.push(PathBuf::from("config.toml"));
    match looked_for.iter().position(|path| exists(path)) {
        Some(at) => Ok(looked_for.swap_remove(at)),
        None => Err(Fatal::NotFound { looked_for }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(is_root: bool, home: Option<&str>, there: &[&str]) -> Result<String, String> {
        find(None, is_root, home.map(Path::new), |path| {
            there.iter().any(|t| Path::new(t) == path)
        })
        .map(|path| path.display().to_string())
        .map_err(|fatal| fatal.to_string())
    }

    #[test]
    fn the_first_that_exists_is_taken() {
        let etc = [
            "/etc/gitlab-runner/config.toml",
            "/etc/fleetling/config.toml",
        ];
        assert_eq!(
            found(true, None, &etc),
            Ok("/etc/fleetling/config.toml".into())
        );
        assert_eq!(
            found(true, None, &etc[..1]),
            Ok("/etc/gitlab-runner/config.toml".into())
        );
        assert_eq!(
            found(
                false,
                Some("/home/a"),
                &["/home/a/.gitlab-runner/config.toml", "config.toml"]
            ),
            Ok("/home/a/.gitlab-runner/config.toml".into())
        );
        assert_eq!(
            found(false, Some("/home/a"), &["config.toml"]),
            Ok("config.toml".into())
        );
    }

    #[test]
    fn nothing_found_names_every_place_and_what_next() {
        assert_eq!(
            found(false, Some("/home/a"), &etc_only()),
            Err("no configuration file; looked for /home/a/.fleetling/config.toml, then \
                 /home/a/.gitlab-runner/config.toml, then config.toml; write one there, or name another with --config \
                 or CONFIG_FILE"
                .into())
        );
        assert_eq!(
            found(true, None, &[]),
            Err("no configuration file; looked for /etc/fleetling/config.toml, then \
                 /etc/gitlab-runner/config.toml, then config.toml; write one there, or name another with --config or \
                 CONFIG_FILE"
                .into())
        );
    }

    fn etc_only() -> [&'static str; 1] {
        ["/etc/fleetling/config.toml"]
    }

    #[test]
    fn a_named_file_is_not_second_guessed() {
        let named = find(Some("x.toml".into()), true, None, |_| false).map_err(|f| f.to_string());
        assert_eq!(named, Ok(PathBuf::from("x.toml")));
    }
}
