//! Doublestar globs as the allow-lists use them: `*`, `**`, `?`, `[a-z]`, `{a,b}`, `\` escapes.

/// Whether the whole name matches. `*` stops at `/`, `**` does not. A malformed pattern matches nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    at(&pattern, &name)
}

fn at(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', '*', '/', rest @ ..] => {
            at(rest, name)
                || name
                    .iter()
                    .enumerate()
                    .any(|(i, c)| *c == '/' && at(rest, &name[i + 1..]))
        }
        ['*', '*', rest @ ..] => (0..=name.len()).any(|i| at(rest, &name[i..])),
        ['*', rest @ ..] => {
            let limit = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=limit).any(|i| at(rest, &name[i..]))
        }
        ['?', rest @ ..] => matches!(name, [c, more @ ..] if *c != '/' && at(rest, more)),
        ['[', rest @ ..] => class(rest, name),
        ['{', rest @ ..] => alternatives(rest, name),
        ['\\', c, rest @ ..] | [c, rest @ ..] => {
            matches!(name, [n, more @ ..] if n == c && at(rest, more))
        }
    }
}

fn class(pattern: &[char], name: &[char]) -> bool {
    let Some(end) = pattern.iter().position(|c| *c == ']') else {
        return false;
    };
    let (Some((first, more)), set) = (name.split_first(), &pattern[..end]) else {
        return false;
    };
    let (negated, set) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == '-' {
            found |= (set[i]..=set[i + 2]).contains(first);
            i += 3;
        } else {
            found |= set[i] == *first;
            i += 1;
        }
    }
    found != negated && *first != '/' && at(&pattern[end + 1..], more)
}

fn alternatives(pattern: &[char], name: &[char]) -> bool {
    let (mut depth, mut begin, mut choices) = (0, 0, Vec::new());
    for (i, c) in pattern.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                choices.push(&pattern[begin..i]);
                let rest = &pattern[i + 1..];
                return choices
                    .iter()
                    .any(|choice| at(&[choice, rest].concat(), name));
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                choices.push(&pattern[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_doublestar_does() {
        for (pattern, name, expected) in [
            ("ruby:*", "ruby:3.3", true),
            ("ruby:*", "ruby", false),
            ("*", "library/ruby", false),
            ("**", "library/ruby:1", true),
            ("**/*", "ruby", true),
            (
                "registry.example/**/ruby:*",
                "registry.example/a/b/ruby:1",
                true,
            ),
            (
                "registry.example/**/ruby:*",
                "registry.example/ruby:1",
                true,
            ),
            ("{ruby,node}:?", "node:8", true),
            ("{ruby,node}:?", "php:8", false),
            ("ruby:[0-9]", "ruby:7", true),
            ("ruby:[!0-9]", "ruby:7", false),
            (r"ruby:\*", "ruby:*", true),
            ("ruby:[0-9", "ruby:7", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
