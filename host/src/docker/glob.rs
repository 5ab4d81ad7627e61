//! Doublestar globs as the allow-lists use them: `*`, `**`, `?`, `[a-z]`, `{a,b}`, `\` escapes; pure.
//!
//! ```text
//! pattern ─ alternatives ─▶ patterns without braces ─ tokens ─▶ [Token] ─ whole name, once through ─▶ yes or no
//! ```
//!
//! Invariants: the time a match takes grows with pattern times name, whatever both hold, because the name is a job's;
//! a malformed pattern matches nothing, so that a slip in an allow-list opens no door.

/// Patterns that the braces of one may stand for.
const MOST_ALTERNATIVES: usize = 1024;

enum Token {
    Literal(char),
    /// `?`: one character within a path element.
    One,
    /// `[…]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`: any characters within a path element.
    Within,
    /// `**/`: any path elements, or none.
    Elements,
    /// `**` at the end: whatever follows.
    Rest,
}

/// Whether the whole name matches.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let patterns = alternatives(&pattern);
    let parsed: Option<Vec<_>> =
        patterns.and_then(|all| all.iter().map(|one| tokens(one)).collect());
    parsed.is_some_and(|all| all.iter().any(|tokens| match_all(tokens, &name)))
}

/// From the last token to the first: where in the name each may begin so that all from it on match to the end.
fn match_all(tokens: &[Token], name: &[char]) -> bool {
    let end = name.len();
    let mut behind: Vec<bool> = (0..=end).map(|at| at == end).collect();
    for (n, token) in tokens.iter().enumerate().rev() {
        let mut here = vec![false; end + 1];
        let mut deeper = false;
        for at in (0..=end).rev() {
            let next = name.get(at).copied();
            let is = |fits: bool| fits && behind.get(at + 1).copied().unwrap_or_default();
            here[at] = match (token, next) {
                (Token::Rest, _) => true,
                (Token::Within, None) => behind[at],
                (Token::Within, Some(c)) => behind[at] || c != '/' && here[at + 1],
                (Token::Elements, _) => {
                    deeper |= is(next == Some('/'));
                    behind[at] || deeper
                }
                // `a/**` means `a` too.
                (Token::Literal('/'), None) => {
                    matches!(tokens[n + 1..], [Token::Rest | Token::Elements])
                }
                (_, None) => false,
                (Token::Literal(literal), Some(c)) => is(c == *literal),
                (Token::One, Some(c)) => is(c != '/'),
                (Token::Class { negated, ranges }, Some(c)) => {
                    let found = ranges
                        .iter()
                        .any(|(low, high)| c == *low || (*low..=*high).contains(&c));
                    is(found != *negated)
                }
            };
        }
        behind = here;
    }
    behind[0]
}

/// `None` for a pattern that is malformed.
fn tokens(pattern: &[char]) -> Option<Vec<Token>> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let (mut rest, mut element_begins) = (pattern, true);
    while let [first, behind @ ..] = rest {
        let begins = std::mem::replace(&mut element_begins, *first == '/');
        (rest, element_begins) = match (first, behind) {
            ('*', ['*', '/', behind @ ..]) if begins => {
                tokens.push(Token::Elements);
                (behind, true)
            }
            ('*', ['*']) if begins => {
                tokens.push(Token::Rest);
                (&[][..], false)
            }
            // Anywhere else two stars are one.
            ('*', ['*', behind @ ..] | behind) => {
                tokens.push(Token::Within);
                (behind, false)
            }
            ('?', behind) => {
                tokens.push(Token::One);
                (behind, false)
            }
            ('[', behind) => {
                let (class, behind) = class(behind)?;
                tokens.push(class);
                (behind, false)
            }
            ('\\', [literal, behind @ ..]) => {
                tokens.push(Token::Literal(*literal));
                (behind, *literal == '/')
            }
            ('\\', []) => return None,
            (literal, behind) => {
                tokens.push(Token::Literal(*literal));
                (behind, element_begins)
            }
        };
    }
    Some(tokens)
}

/// What stands behind a `[`, and what is left behind its `]`.
fn class(pattern: &[char]) -> Option<(Token, &[char])> {
    let (negated, mut rest) = match pattern {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut ranges = Vec::new();
    loop {
        if let [']', behind @ ..] = rest {
            let is_empty = ranges.is_empty();
            return (!is_empty).then_some((Token::Class { negated, ranges }, behind));
        }
        let (low, behind) = member(rest)?;
        match behind {
            ['-', high @ ..] if !matches!(high, [']', ..] | []) => {
                let (high, behind) = member(high)?;
                ranges.push((low, high));
                rest = behind;
            }
            _ => {
                ranges.push((low, low));
                rest = behind;
            }
        }
    }
}

fn member(pattern: &[char]) -> Option<(char, &[char])> {
    match pattern {
        ['\\', c, rest @ ..] => Some((*c, rest)),
        ['\\'] | [] => None,
        [c, rest @ ..] => Some((*c, rest)),
    }
}

/// The patterns that one with braces stands for; `None` if a brace is not closed, or if there are too many.
fn alternatives(pattern: &[char]) -> Option<Vec<Vec<char>>> {
    let (mut open, mut done) = (vec![pattern.to_vec()], Vec::new());
    while let Some(pattern) = open.pop() {
        let Some(begin) = brace(&pattern) else {
            done.push(pattern);
            continue;
        };
        let (choices, end) = choices(&pattern, begin + 1)?;
        for choice in choices {
            open.push([&pattern[..begin], choice, &pattern[end..]].concat());
        }
        if open.len() + done.len() > MOST_ALTERNATIVES {
            return None;
        }
    }
    Some(done)
}

/// Where the first `{` stands that is neither escaped nor in a class.
fn brace(pattern: &[char]) -> Option<usize> {
    let (mut at, mut in_class) = (0, false);
    while let Some(c) = pattern.get(at) {
        match c {
            '\\' => at += 1,
            '[' => in_class = true,
            ']' => in_class = false,
            '{' if !in_class => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The choices from `begin` on, and where the pattern goes on behind their `}`.
fn choices(pattern: &[char], begin: usize) -> Option<(Vec<&[char]>, usize)> {
    let (mut at, mut from, mut depth, mut choices) = (begin, begin, 0, Vec::new());
    while let Some(c) = pattern.get(at) {
        match c {
            '\\' => at += 1,
            '{' => depth += 1,
            '}' if depth == 0 => {
                choices.push(&pattern[from..at]);
                return Some((choices, at + 1));
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                choices.push(&pattern[from..at]);
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests;
