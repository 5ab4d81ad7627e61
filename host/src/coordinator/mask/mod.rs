//! Keeps secrets out of the job log: phrases, then URL parameters, then token prefixes, however the chunks fall.
//!
//! ```text
//! bytes (→ words that the job adds) → phrases (held back while the end may become one) → URL parameters → token prefixes
//!       → bytes
//! ```
//!
//! Pure. A phrase shows as `[MASKED]` and no byte of it before that; where phrases overlap, all they cover is one
//! `[MASKED]`, so that hiding one never uncovers the rest of another.

mod added;
mod phrases;
mod tokens;

use std::sync::Arc;

use added::{Commands, Words};
use phrases::{PhraseFilter, Phrases};
use tokens::{TokenFilter, UrlFilter};

const MASKED: &[u8] = b"[MASKED]";

/// Behind a command that was not followed.
const TOO_MANY: &[u8] = b"\x1b[0;33mWARNING: this word is not masked: by ::add-mask:: a job adds at most 256 words and 64 KiB; \
mask further values as CI/CD variables\x1b[0;m\n";

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
    /// `proxy_exec`: a line `::add-mask::WORD` of the job's adds to the phrases.
    pub grow: bool,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks")
            .field("phrases", &self.phrases.len())
            .field("prefixes", &self.prefixes)
            .field("grow", &self.grow)
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
    /// Where the job may add to them.
    words: Option<Arc<Words>>,
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
        let automaton = Arc::new(Phrases::new(&phrases));
        let words = || Arc::new(Words::new(phrases, automaton.clone()));
        Self {
            words: masks.grow.then(words),
            phrases: automaton,
            prefixes: Arc::new(
                prefixes
                    .into_iter()
                    .map(|p| p.as_bytes().to_vec())
                    .collect(),
            ),
        }
    }

    /// For a stream that is not the job's own.
    pub fn masker(&self) -> Masker {
        Masker {
            words: self.words.clone(),
            commands: None,
            phrases: PhraseFilter::new(self.phrases.clone()),
            urls: UrlFilter::default(),
            tokens: TokenFilter::new(self.prefixes.clone()),
        }
    }

    /// For what the job's scripts print, which may add words where that is allowed.
    pub fn masker_of_scripts(&self) -> Masker {
        Masker {
            commands: self.words.as_ref().map(|_| Commands::default()),
            ..self.masker()
        }
    }
}

/// One stream's masking.
pub struct Masker {
    words: Option<Arc<Words>>,
    commands: Option<Commands>,
    phrases: PhraseFilter,
    urls: UrlFilter,
    tokens: TokenFilter,
}

impl Masker {
    pub fn write(&mut self, input: &[u8]) -> Vec<u8> {
        let mut first = Vec::with_capacity(input.len());
        let phrases = &mut self.phrases;
        match (&self.words, &mut self.commands) {
            (None, _) => phrases.write(input, &mut first),
            (Some(words), None) => learn(words, phrases, None, input, &mut first),
            (Some(words), Some(commands)) => commands.write(input, |word, line| {
                learn(words, phrases, word, line, &mut first);
            }),
        }
        self.rest(&first, false)
    }

    /// What was held back; the next `write` begins anew.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut first = Vec::new();
        let phrases = &mut self.phrases;
        if let (Some(words), Some(commands)) = (&self.words, &mut self.commands) {
            commands.finish(|word, line| learn(words, phrases, word, line, &mut first));
        }
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

/// Takes in what this or another stream has learnt, and then the line.
fn learn(
    words: &Words,
    phrases: &mut PhraseFilter,
    word: Option<&[u8]>,
    line: &[u8],
    out: &mut Vec<u8>,
) {
    let is_followed = word.is_none_or(|word| words.add(word));
    phrases.adopt(words.phrases(), out);
    phrases.write(line, out);
    if !is_followed {
        phrases.write(TOO_MANY, out);
    }
}

#[cfg(test)]
mod tests;
