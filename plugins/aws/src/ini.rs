//! The files under `~/.aws`, read as the AWS command line reads them: Python's dialect of INI.

use std::collections::BTreeMap;
use std::fmt;

/// Keys of one section, lower case, to values. A value whose first line is empty and whose further lines are indented
/// holds settings of its own ([`nested`]).
pub(crate) type Section = BTreeMap<String, String>;

/// A whole file: section names, as written, to their keys.
pub(crate) type File = BTreeMap<String, Section>;

/// Why a file is not what it should be. Says where, never what stood there: it may have been a secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    line: usize,
    fault: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

/// Reads a file. Comments take whole lines: a `#` within a value belongs to it.
pub(crate) fn parse(text: &str) -> Result<File, Malformed> {
    let mut file = File::new();
    let mut section: Option<String> = None;
    let mut key: Option<String> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let malformed = |fault| Malformed {
            line: index + 1,
            fault,
        };
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let current = section.as_ref().and_then(|name| file.get_mut(name));
        if line.starts_with([' ', '\t'])
            && let (Some(section), Some(key)) = (current, &key)
        {
            let value = section.entry(key.clone()).or_default();
            value.push('\n');
            value.push_str(trimmed);
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            let (name, _) = header
                .split_once(']')
                .ok_or_else(|| malformed("a section has no closing `]`"))?;
            if file.insert(name.to_owned(), Section::new()).is_some() {
                return Err(malformed("a section stands there twice"));
            }
            section = Some(name.to_owned());
            key = None;
            continue;
        }
        let Some(section) = section.as_ref().and_then(|name| file.get_mut(name)) else {
            return Err(malformed("a setting stands before the first `[section]`"));
        };
        let (name, value) = trimmed
            .split_once(['=', ':'])
            .ok_or_else(|| malformed("neither a `[section]` nor a `key = value`"))?;
        let name = name.trim().to_lowercase();
        if section
            .insert(name.clone(), value.trim().to_owned())
            .is_some()
        {
            return Err(malformed("a key stands twice in its section"));
        }
        key = Some(name);
    }
    Ok(file)
}

/// The settings within a value, such as those of one service in a `[services …]` section.
pub(crate) fn nested(value: &str) -> Section {
    value
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned()))
        .collect()
}

/// The section `[<kind> <name>]` of a config file; the name may be quoted.
pub(crate) fn named<'a>(file: &'a File, kind: &str, name: &str) -> Option<&'a Section> {
    file.iter().find_map(|(header, section)| {
        let (word, rest) = header.trim().split_once([' ', '\t'])?;
        let rest = rest.trim();
        let bare = ['"', '\'']
            .into_iter()
            .find_map(|quote| rest.strip_prefix(quote)?.strip_suffix(quote))
            .unwrap_or(rest);
        (word == kind && bare == name).then_some(section)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_comments_and_continuations() {
        let file = parse(
            "# a comment\n[default]\nRegion = eu-west-1\noutput: json\n; another\n\
             aws_secret_access_key = a#b=c;d\ns3 =\n  max = 3\n  addressing_style = path\nlast =\n",
        )
        .expect("the file is well formed");
        let default = &file["default"];
        assert_eq!(default["region"], "eu-west-1");
        assert_eq!(default["output"], "json");
        assert_eq!(default["aws_secret_access_key"], "a#b=c;d");
        assert_eq!(nested(&default["s3"])["addressing_style"], "path");
        assert_eq!(default["last"], "");
    }

    #[test]
    fn profiles_are_found_quoted_or_not() {
        let file =
            parse("[profile a]\nx=1\n[profile \"b c\"]\nx=2\n[profiled]\nx=3\n[services a]\nx=4")
                .expect("the file is well formed");
        assert_eq!(named(&file, "profile", "a").expect("a is there")["x"], "1");
        assert_eq!(
            named(&file, "profile", "b c").expect("b c is there")["x"],
            "2"
        );
        assert_eq!(named(&file, "services", "a").expect("a is there")["x"], "4");
        assert_eq!(named(&file, "profile", "d"), None);
    }

    #[test]
    fn malformed_lines_are_named_and_never_quoted() {
        for (text, line, fault) in [
            ("[default\n", 1, "a section has no closing `]`"),
            (
                "key = 1\n",
                1,
                "a setting stands before the first `[section]`",
            ),
            (
                "[a]\n\nAKIASECRET\n",
                3,
                "neither a `[section]` nor a `key = value`",
            ),
            ("[a]\nx=1\nX=2\n", 3, "a key stands twice in its section"),
            ("[a]\n[b]\n[a]\n", 3, "a section stands there twice"),
        ] {
            assert_eq!(parse(text), Err(Malformed { line, fault }), "{text:?}");
        }
    }
}
