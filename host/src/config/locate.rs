//! Where something in `plugin_config` stands: the plugin's schema speaks of values, operators look for lines.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Places;

type Value<'a> = Spanned<DeValue<'a>>;

/// Line and column, from 1, of what `path` (keys and indices) names below the `plugin_config` of one `[[runners]]` entry,
/// or of the last step on the way that exists. `None` without such an entry: the text is then another than was checked.
pub fn plugin_config(text: &str, index: usize, path: &[String]) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let runners = entry(document.get_ref(), "runners")?.1.get_ref();
    let runner = runners.as_array()?.get(index)?;
    let mut at = runner.span();
    let mut value: &Value<'_> = runner;
    let below = path.iter().map(String::as_str);
    for step in ["autoscaler", "plugin_config"].into_iter().chain(below) {
        match stepped(value, step) {
            Some((place, next)) => (at, value) = (place, next),
            None => break,
        }
    }
    Some(Places::new(std::path::Path::new(""), text).at(at.start))
}

/// A key's own place, where there is a key: that is what is wrong about an unknown one.
fn stepped<'a, 't>(value: &'a Value<'t>, step: &str) -> Option<(Range<usize>, &'a Value<'t>)> {
    match value.get_ref() {
        DeValue::Table(table) => entry(table, step),
        DeValue::Array(array) => {
            let value = array.get(step.parse::<usize>().ok()?)?;
            Some((value.span(), value))
        }
        _ => None,
    }
}

fn entry<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<(Range<usize>, &'a Value<'t>)> {
    let named = |(name, value): (&'a Spanned<_>, &'a Value<'t>)| (name.span(), value);
    let same = table.iter().find(|(name, _)| name.get_ref() == key);
    let but_case = || {
        let mut entries = table.iter();
        entries.find(|(name, _)| name.get_ref().eq_ignore_ascii_case(key))
    };
    same.or_else(but_case).map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"concurrent = 1
[[runners]]
  name = "a"
[[runners]]
  [runners.autoscaler]
    plugin = "aws"
    [runners.autoscaler.plugin_config]
      nmae = "x"
      "a/b" = [1, { port = "x" }]
      [runners.autoscaler.plugin_config.hosts.c]
        address = 1
"#;

    #[test]
    fn a_path_leads_to_the_key_or_as_near_as_there_is() {
        for (index, path, place) in [
            (1, &["nmae"][..], Some((8, 7))),
            (1, &["a/b", "1", "port"], Some((9, 21))),
            (1, &["hosts", "c", "address"], Some((11, 9))),
            (1, &["hosts", "c", "port"], Some((10, 47))),
            (1, &[], Some((7, 25))),
            (0, &[], Some((2, 1))),
            (2, &[], None),
        ] {
            let path: Vec<_> = path.iter().map(|step| (*step).to_owned()).collect();
            assert_eq!(plugin_config(TEXT, index, &path), place, "{path:?}");
        }
        assert_eq!(plugin_config("=", 0, &[]), None);
    }
}
