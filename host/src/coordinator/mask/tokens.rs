//! Hides what follows a known token prefix, and the values of URL parameters that carry secrets.

use std::sync::Arc;

use super::{Filter, MASKED};

/// Values that GitLab Runner hides in URLs; compared without case.
const PARAMETERS: [&[u8]; 6] = [
    b"private_token",
    b"authenticity_token",
    b"rss_token",
    b"x-amz-signature",
    b"x-amz-credential",
    b"x-amz-security-token",
];

/// Swallows bytes of a secret: the first shows as `[MASKED]`, the others not at all.
#[derive(Default)]
struct Swallow {
    shown: bool,
}

impl Swallow {
    fn one(&mut self, out: &mut Vec<u8>) {
        if !self.shown {
            self.shown = true;
            out.extend_from_slice(MASKED);
        }
    }
}

/// Text after a prefix such as `glpat-`; the prefix itself stays visible.
pub(super) struct TokenFilter {
    prefixes: Arc<Vec<Vec<u8>>>,
    /// The last bytes seen, as many as the longest prefix has.
    tail: Vec<u8>,
    longest: usize,
    /// Last bytes of prefixes: only at these is it worth to compare.
    ends: [bool; 256],
    inside: Option<Swallow>,
}

impl TokenFilter {
    pub(super) fn new(prefixes: Arc<Vec<Vec<u8>>>) -> Self {
        let longest = prefixes.iter().map(Vec::len).max().unwrap_or(0);
        let mut ends = [false; 256];
        for last in prefixes.iter().filter_map(|prefix| prefix.last()) {
            ends[usize::from(*last)] = true;
        }
        Self {
            prefixes,
            tail: Vec::new(),
            longest,
            ends,
            inside: None,
        }
    }
}

impl TokenFilter {
    /// Keeps as much of the end of what was seen as a prefix may begin in.
    fn remember(&mut self, seen: &[u8]) {
        let new = &seen[seen.len().saturating_sub(self.longest)..];
        let old = self.tail.len().min(self.longest - new.len());
        self.tail.drain(..self.tail.len() - old);
        self.tail.extend_from_slice(new);
    }
}

impl Filter for TokenFilter {
    fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if let Some(swallow) = &mut self.inside {
                let ends = input.iter().position(|byte| !is_token(*byte));
                let (secret, rest) = input.split_at(ends.unwrap_or(input.len()));
                if !secret.is_empty() {
                    swallow.one(out);
                }
                if rest.is_empty() {
                    return;
                }
                input = rest;
                self.inside = None;
            }
            // A run at a time, up to where a prefix may end: most of a log is neither.
            let ends = input.iter().position(|byte| self.ends[usize::from(*byte)]);
            let (run, rest) = input.split_at(ends.map_or(input.len(), |at| at + 1));
            input = rest;
            out.extend_from_slice(run);
            self.remember(run);
            let tail = &self.tail;
            if self.prefixes.iter().any(|prefix| tail.ends_with(prefix)) {
                self.tail.clear();
                self.inside = Some(Swallow::default());
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) {
        self.tail.clear();
        self.inside = None;
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'=')
}

/// Values of secret URL parameters, up to the next parameter, fragment, quote or space.
#[derive(Default)]
pub(super) struct UrlFilter {
    /// The parameter's name as far as it was seen, in lower case; `None` outside of one.
    name: Option<Vec<u8>>,
    inside: Option<Swallow>,
}

impl Filter for UrlFilter {
    fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            if self.inside.is_none() && self.name.is_none() {
                // A run at a time, up to where a parameter begins: most of a log is none.
                let begins = input.iter().position(|byte| matches!(byte, b'?' | b'&'));
                let (run, rest) = input.split_at(begins.unwrap_or(input.len()));
                out.extend_from_slice(run);
                input = rest;
            }
            let Some((&byte, rest)) = input.split_first() else {
                return;
            };
            input = rest;
            if let Some(swallow) = &mut self.inside {
                if !ends_value(byte) {
                    swallow.one(out);
                    continue;
                }
                self.inside = None;
            }
            out.push(byte);
            match (byte, &mut self.name) {
                (b'?' | b'&', _) => self.name = Some(Vec::new()),
                (b'=', Some(name)) => {
                    if PARAMETERS.contains(&name.as_slice()) {
                        self.inside = Some(Swallow::default());
                    }
                    self.name = None;
                }
                (_, Some(name)) if name.len() < 32 => name.push(byte.to_ascii_lowercase()),
                _ => self.name = None,
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) {
        self.name = None;
        self.inside = None;
    }
}

fn ends_value(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte.is_ascii_control()
        || matches!(byte, b'&' | b'#' | b'"' | b'\'')
}
