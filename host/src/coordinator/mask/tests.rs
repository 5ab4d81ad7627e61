//! Masking by table, and against the same replacement made offline.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn mask(phrases: &[&str], prefixes: &[&str], chunks: &[&[u8]]) -> String {
    let mask = Mask::new(&Masks {
        phrases: phrases.iter().map(|p| (*p).to_owned()).collect(),
        prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(),
        grow: false,
    });
    let mut masker = mask.masker();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(masker.write(chunk));
    }
    out.extend(masker.finish());
    String::from_utf8(out).unwrap()
}

#[test]
fn phrases_by_table() {
    for (phrases, text, expected) in [
        (&["secret"][..], "a secret b", "a [MASKED] b"),
        (&["secret"], "secretsecret", "[MASKED][MASKED]"),
        (
            &["sec", "secret"],
            "secret sec secre",
            "[MASKED] [MASKED] [MASKED]re",
        ),
        // Leftmost first would show "cd", longest first would show "x".
        (&["abcd", "xab"], "xabcd", "[MASKED]"),
        (&["aa"], "aaa b aaaa", "[MASKED] b [MASKED]"),
        (&["  padded\n", ""], "padded", "[MASKED]"),
        (&["abc", "b"], "abd abc", "a[MASKED]d [MASKED]"),
        (&["abcde", "bc"], "abcdx", "a[MASKED]dx"),
        (&["zoë"], "zoë zo\u{eb}!", "[MASKED] [MASKED]!"),
        (&[], "nothing", "nothing"),
    ] {
        assert_eq!(mask(phrases, &[], &[text.as_bytes()]), expected, "{text}");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(mask(phrases, &[], &bytes), expected, "{text}, byte by byte");
    }
}

#[test]
fn what_cannot_become_a_phrase_is_not_held() {
    let mask = Mask::new(&Masks {
        phrases: vec!["secret".into()],
        ..Masks::default()
    });
    let mut masker = mask.masker();
    assert_eq!(masker.write(b"a line\n"), b"a line\n");
    assert_eq!(masker.write(b"xsec"), b"x");
    assert_eq!(masker.write(b"tor"), b"sector");
    assert_eq!(masker.write(b"secre"), b"");
    assert_eq!(masker.write(b"t"), b"[MASKED]");
    assert_eq!(masker.write(b"secr"), b"");
    assert_eq!(masker.finish(), b"secr");
}

#[test]
fn tokens_and_parameters_by_table() {
    for (text, expected) in [
        ("glpat-abc_1.2=x y", "glpat-[MASKED] y"),
        ("glpat- x", "glpat- x"),
        ("xglpat-abc", "xglpat-[MASKED]"),
        ("own-abc!", "own-[MASKED]!"),
        (
            "https://a/?private_token=abc&b=c",
            "https://a/?private_token=[MASKED]&b=c",
        ),
        (
            "?a=b&X-Amz-Signature=abc#x",
            "?a=b&X-Amz-Signature=[MASKED]#x",
        ),
        ("?rss_token=\n", "?rss_token=\n"),
        ("private_token=abc", "private_token=abc"),
        (
            "\"?authenticity_token=a/b%20\" x",
            "\"?authenticity_token=[MASKED]\" x",
        ),
    ] {
        assert_eq!(mask(&[], &["own-"], &[text.as_bytes()]), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(
            mask(&[], &["own-"], &bytes),
            expected,
            "{text}, byte by byte"
        );
    }
}

#[test]
fn only_the_shortest_prefixes_count() {
    let many: Vec<String> = (0..20).map(|n| format!("p{n:02}-")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(mask(&[], &many, &[b"p14-a p15-a"]), "p14-[MASKED] p15-a");
}

/// Marks every byte that any phrase covers; each group of overlapping occurrences is one replacement.
fn offline(phrases: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for start in 0..text.len() {
        for phrase in phrases.iter().filter(|phrase| !phrase.is_empty()) {
            if text[start..].starts_with(phrase) {
                found.push((start, start + phrase.len()));
            }
        }
    }
    found.sort_unstable();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (start, end) in found {
        match runs.last_mut() {
            Some(run) if start < run.1 => run.1 = run.1.max(end),
            _ => runs.push((start, end)),
        }
    }
    let (mut out, mut at) = (Vec::new(), 0);
    for (start, end) in runs {
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(MASKED);
        at = end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_chunking_equals_the_offline_replacement(
        phrases in prop::collection::vec("[ab]{1,6}", 0..5),
        chunks in prop::collection::vec("[abc]{0,9}", 0..12),
    ) {
        let bytes: Vec<Vec<u8>> = phrases.iter().map(|p| p.as_bytes().to_vec()).collect();
        let phrases: Vec<&str> = phrases.iter().map(String::as_str).collect();
        let parts: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        let whole = parts.concat();
        prop_assert_eq!(mask(&phrases, &[], &parts).into_bytes(), offline(&bytes, &whole));
    }
}

const ADDED: Masks = Masks {
    phrases: Vec::new(),
    prefixes: Vec::new(),
    grow: true,
};

/// What the job's scripts print, in these pieces.
fn scripts(masks: &Masks, pieces: &[&[u8]]) -> String {
    let mut masker = Mask::new(masks).masker_of_scripts();
    let mut out: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| masker.write(piece))
        .collect();
    out.extend(masker.finish());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_job_s_own_words_are_masked_from_the_line_that_adds_them() {
    for (text, expected) in [
        (
            "before: secret\n::add-mask::secret\nafter: secret\n",
            "before: secret\n::add-mask::[MASKED]\nafter: [MASKED]\n",
        ),
        (
            "::add-mask:: padded \r\n<padded>",
            "::add-mask:: [MASKED] \r\n<[MASKED]>",
        ),
        // A command is a line of its own.
        ("$ echo ::add-mask::x\nx", "$ echo ::add-mask::x\nx"),
        ("::add-mask:\n::add\nx:", "::add-mask:\n::add\nx:"),
        (
            "::add-mask::\n::add-mask::  \nx",
            "::add-mask::\n::add-mask::  \nx",
        ),
        ("::add-mask::at the end", "::add-mask::[MASKED]"),
        // Longer and overlapping ones, as with phrases that are known from the start.
        (
            "::add-mask::ab\n::add-mask::abc\nabcd xab",
            "::add-mask::[MASKED]\n::add-mask::[MASKED]\n[MASKED]d x[MASKED]",
        ),
    ] {
        assert_eq!(scripts(&ADDED, &[text.as_bytes()]), expected, "{text:?}");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(scripts(&ADDED, &bytes), expected, "{text:?}, byte by byte");
        assert_eq!(
            scripts(&Masks::default(), &bytes),
            text,
            "where it is not allowed"
        );
    }
}

#[test]
fn an_added_word_is_masked_in_every_stream_and_only_scripts_add_one() {
    let known = Masks {
        phrases: vec!["secretive".into()],
        ..ADDED
    };
    let mask = Mask::new(&known);
    let (mut scripts, mut errors, mut manager) = (
        mask.masker_of_scripts(),
        mask.masker_of_scripts(),
        mask.masker(),
    );
    assert_eq!(
        manager.write(b"::add-mask::word\nword\n"),
        b"::add-mask::word\nword\n"
    );
    // Held back, because it may become the phrase; the word is added meanwhile.
    assert_eq!(errors.write(b"a secret"), b"a ");
    scripts.write(b"::add-mask::secret\n");
    assert_eq!(errors.write(b"!\n"), b"[MASKED]!\n");
    assert_eq!(
        manager.write(b"secretive secrets\n"),
        b"[MASKED] [MASKED]s\n"
    );
}

#[test]
fn a_job_that_adds_without_end_is_told_and_what_it_has_added_stays_masked() {
    let mut lines: String = (0..300)
        .map(|n| format!("::add-mask::word{n:03}\n"))
        .collect();
    lines.push_str("word000 word255 word256\n");
    let seen = scripts(&ADDED, &[lines.as_bytes()]);
    assert_eq!(
        seen.matches("is not masked: by ::add-mask:: a job adds at most")
            .count(),
        44
    );
    assert!(seen.ends_with("[MASKED] [MASKED] word256\n"), "{seen}");
    // A line that never ends is no command, and nothing is held for it.
    let endless = format!("::add-mask::{}", "x".repeat(20_000));
    let mut masker = Mask::new(&ADDED).masker_of_scripts();
    assert_eq!(masker.write(endless.as_bytes()), endless.as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn commands_do_not_depend_on_how_the_chunks_fall(
        lines in prop::collection::vec("(::add-mask::)?[ab:]{0,5}\n", 0..8),
        cuts in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let text = lines.concat().into_bytes();
        let (mut rest, mut pieces) = (&text[..], Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(scripts(&ADDED, &pieces), scripts(&ADDED, &[&text]));
    }
}
