//! Keeps secrets out of the job log: phrases, then URL parameters, then token prefixes, however the chunks fall.
//!
//! ```text
//! bytes → phrases (held back while the end may become one) → URL parameters → token prefixes → bytes
//! ```
//!
//! Pure. A phrase shows as `[MASKED]` and no byte of it before that; where phrases overlap, all they cover is one
//! `[MASKED]`, so that hiding one never uncovers the rest of another.

mod phrases;
mod tokens;

use std::sync::Arc;

use phrases::{PhraseFilter, Phrases};
use tokens::{TokenFilter, UrlFilter};

const MASKED: &[u8] = b"[MASKED]";

/// GitLab Runner looks for no more prefixes than this, the shortest ones.
const MOST_PREFIXES: usize = 15;

const ALL_DEFAULT_PREFIXES: [&str; 13] = [
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// A stage of the chain. `write` may hold bytes back; `finish` lets go of all.
trait Filter {
    fn write(&mut self, input: &[u8], out: &mut Vec<u8>);
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// What must not show in a job's log; never shown itself.
#[derive(Clone, Default)]
pub struct Masks {
    /// Values of masked variables, after expansion.
    pub phrases: Vec<String>,
    /// Beyond `glpat-`: the payload's `features.token_mask_prefixes`, and [`Masks::all_default_prefixes`].
    pub prefixes: Vec<String>,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks")
            .field("phrases", &self.phrases.len())
            .field("prefixes", &self.prefixes)
            .finish()
    }
}

impl Masks {
    /// What `FF_MASK_ALL_DEFAULT_TOKENS` adds.
    pub fn all_default_prefixes() -> impl Iterator<Item = String> {
        ALL_DEFAULT_PREFIXES
            .iter()
            .map(|prefix| (*prefix).to_owned())
    }
}

/// Made once for a job; every stream gets a [`Masker`] of its own from it.
pub struct Mask {
    phrases: Arc<Phrases>,
    prefixes: Arc<Vec<Vec<u8>>>,
}

impl Mask {
    pub fn new(masks: &Masks) -> Self {
        let phrases: Vec<Vec<u8>> = masks
            .phrases
            .iter()
            .map(|phrase| phrase.trim())
            .filter(|phrase| !phrase.is_empty())
            .map(|phrase| phrase.as_bytes().to_vec())
            .collect();
        let mut prefixes: Vec<&str> = masks.prefixes.iter().map(String::as_str).collect();
        prefixes.push("glpat-");
        prefixes.retain(|prefix| !prefix.is_empty());
        prefixes.sort_by_key(|prefix| (prefix.len(), *prefix));
        prefixes.dedup();
        prefixes.truncate(MOST_PREFIXES);
        Self {
            phrases: Arc::new(Phrases::new(&phrases)),
            prefixes: Arc::new(
                prefixes
                    .into_iter()
                    .map(|p| p.as_bytes().to_vec())
                    .collect(),
            ),
        }
    }

    pub fn masker(&self) -> Masker {
        Masker {
            phrases: PhraseFilter::new(self.phrases.clone()),
            urls: UrlFilter::default(),
            tokens: TokenFilter::new(self.prefixes.clone()),
        }
    }
}

/// One stream's masking.
pub struct Masker {
    phrases: PhraseFilter,
    urls: UrlFilter,
    tokens: TokenFilter,
}

impl Masker {
    pub fn write(&mut self, input: &[u8]) -> Vec<u8> {
        let mut first = Vec::with_capacity(input.len());
        self.phrases.write(input, &mut first);
        self.rest(&first, false)
    }

    /// What was held back; the next `write` begins anew.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut first = Vec::new();
        self.phrases.finish(&mut first);
        self.rest(&first, true)
    }

    fn rest(&mut self, input: &[u8], end: bool) -> Vec<u8> {
        let mut second = Vec::with_capacity(input.len());
        self.urls.write(input, &mut second);
        let mut third = Vec::with_capacity(second.len());
        self.tokens.write(&second, &mut third);
        if end {
            self.urls.finish(&mut third);
            self.tokens.finish(&mut third);
        }
        third
    }
}

#[cfg(test)]
mod tests;
