//! `plugins.toml` with one plugin's table reviewed: lists grow, single values are replaced, all else stays as it was
//! written, comments included. Pure.

use anyhow::{Context as _, bail};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::plugin::directory::Reference;

/// `lines`: pieces of the table as a denial suggests them, such as `http = ["https://…"]`.
///
/// # Errors
/// If the text is no TOML, or has something else where a list or a table must be.
pub(super) fn granting(text: &str, plugin: &str, lines: &[String]) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse().context("plugins.toml is no TOML")?;
    // `fleeting-plugin-aws` and `aws` are one table.
    let known = document
        .iter()
        .find(|(key, _)| Reference::parse(key).name == plugin)
        .map(|(key, _)| key.to_owned());
    let key = known.unwrap_or_else(|| plugin.to_owned());
    let table = document.entry(&key).or_insert_with(|| {
        let mut table = Table::new();
        if !text.trim().is_empty() {
            table.decor_mut().set_prefix("\n");
        }
        Item::Table(table)
    });
    let table = table
        .as_table_like_mut()
        .with_context(|| format!("`{key}` in plugins.toml is no table"))?;
    for line in lines {
        let added: DocumentMut = line.parse().context("a suggested grant is no TOML")?;
        merge(table, added.as_table(), &key)?;
    }
    Ok(document.to_string())
}

fn merge(table: &mut dyn TableLike, added: &Table, place: &str) -> anyhow::Result<()> {
    for (key, item) in added {
        let place = format!("{place}.{key}");
        match (table.get_mut(key), item) {
            (Some(there), Item::Value(Value::Array(more))) => {
                let Some(list) = there.as_array_mut() else {
                    bail!("`{place}` in plugins.toml is no list");
                };
                extend(list, more);
            }
            (Some(there), Item::Table(more)) => {
                let Some(there) = there.as_table_like_mut() else {
                    bail!("`{place}` in plugins.toml is no table");
                };
                merge(there, more, &place)?;
            }
            (Some(there), item) => {
                if let (Some(old), Item::Value(new)) = (there.as_value_mut(), item) {
                    // What stands beside the value is the operator's.
                    let decor = old.decor().clone();
                    *old = new.clone();
                    *old.decor_mut() = decor;
                } else {
                    *there = item.clone();
                }
            }
            (None, item) => {
                table.insert(key, item.clone());
            }
        }
    }
    Ok(())
}

/// Each new entry stands as the last one does; a comment stays with the entry that it is behind.
fn extend(list: &mut Array, more: &Array) {
    for text in more.iter().filter_map(Value::as_str) {
        if list.iter().any(|there| there.as_str() == Some(text)) {
            continue;
        }
        let last = list.iter().last().and_then(|last| last.decor().prefix());
        let last = last.and_then(|prefix| prefix.as_str());
        let on_its_line = last.and_then(|prefix| Some(prefix[prefix.rfind('\n')?..].to_owned()));
        let behind = list.trailing().as_str().unwrap_or_default().to_owned();
        let prefix = match on_its_line {
            Some(line) if behind.contains('#') => {
                list.set_trailing("\n");
                format!("{}{line}", behind.trim_end())
            }
            Some(line) => line,
            None if list.is_empty() => String::new(),
            None => " ".to_owned(),
        };
        let mut value = Value::from(text);
        value.decor_mut().set_prefix(prefix);
        list.push_formatted(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::grants::GrantsFile;

    fn granted(text: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        let granted = granting(text, "aws", &lines).expect("it is granted");
        GrantsFile::parse(&granted).expect("what was written can be read");
        granted
    }

    #[test]
    fn a_table_is_made_where_there_is_none() {
        let lines = [
            "http = [\"https://a.example\"]\nplaintext = true",
            "http = [\"https://b.example\"]",
            "secret.\"token\" = { file = \"/run/token\" }",
        ];
        insta::assert_snapshot!(granted("", &lines), @r#"
        [aws]
        http = ["https://a.example", "https://b.example"]
        plaintext = true
        secret."token" = { file = "/run/token" }
        "#);
    }

    #[test]
    fn what_the_operator_wrote_stays() {
        let text = "# ours\n[static]\nenv = [\"A\"] # why\n\n[fleeting-plugin-aws] # theirs\n# Ireland\nhttp = [\n  \
                    \"https://a.example\", # one\n]\nsha256 = \"00\" # of May\nsecret.other = { file = \"/o\" }\n";
        let digest = format!("sha256 = \"{}\"", "ab".repeat(32));
        let lines = [
            "http = [\"https://b.example\", \"https://a.example\"]",
            "secret.token = { file = \"/run/token\" }",
            &digest,
        ];
        insta::assert_snapshot!(granted(text, &lines), @r#"
        # ours
        [static]
        env = ["A"] # why

        [fleeting-plugin-aws] # theirs
        # Ireland
        http = [
          "https://a.example", # one
          "https://b.example",
        ]
        sha256 = "abababababababababababababababababababababababababababababababab" # of May
        secret.other = { file = "/o" }
        secret.token = { file = "/run/token" }
        "#);
    }

    #[test]
    fn what_is_no_list_is_not_overwritten() {
        let line = ["http = [\"https://a.example\"]".to_owned()];
        let refused = granting("[aws]\nhttp = \"x\"\n", "aws", &line).expect_err("no list");
        assert_eq!(refused.to_string(), "`aws.http` in plugins.toml is no list");
        let refused = granting("aws = 1\n", "aws", &line).expect_err("no table");
        assert_eq!(refused.to_string(), "`aws` in plugins.toml is no table");
    }
}
