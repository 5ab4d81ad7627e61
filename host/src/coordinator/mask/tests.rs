//! Masking by table, and against the same replacement made offline.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn mask(phrases: &[&str], prefixes: &[&str], chunks: &[&[u8]]) -> String {
    let mask = Mask::new(&Masks {
        phrases: phrases.iter().map(|p| (*p).to_owned()).collect(),
        prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(),
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
        prefixes: vec![],
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
