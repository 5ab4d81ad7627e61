//! The corpus, replayed and mutated: without coverage to guide it, and with every toolchain.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder.join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

#[test]
fn the_corpus_breaks_nothing() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(
            corpus.len() >= 5,
            "{name} has too few seeds to mean anything"
        );
        corpus.iter().for_each(|seed| target(seed));
    }
}

/// Words that mean something to one of the readers.
const WORDS: [&str; 48] = [
    "https://",
    "http://",
    "*",
    "*.",
    ".",
    ":",
    ":443",
    ":*",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "127.0.0.1",
    "0x7f.1",
    "169.254.169.254",
    "localhost",
    "xn--",
    "ü",
    "\u{ff0e}",
    "\u{200b}",
    "{region}",
    "{",
    "}",
    "\"",
    "'''",
    "\\",
    "\n",
    "\r\n",
    "\0",
    "[aws]\n",
    "[[runners]]\n",
    "[p.tls]\n",
    "http = [",
    "]",
    "limits = { ",
    "memory = ",
    "\"4GiB\"",
    "proxy = ",
    "\"environment\"",
    "secret.x = { file = \"/x\" }\n",
    "sha256 = ",
    "true",
    "= 1\n",
    "99999999999999999999",
    "-1",
    "1979-05-27",
    "[runners.autoscaler]\n",
    "executor = \"docker-autoscaler\"\n",
    "idle_time = \"1h\"\n",
    "#",
];

/// One to eight changes of a seed: bits, cuts, repeats, words, and pieces of another seed.
fn mutated(seeds: &[Vec<u8>], dice: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds.choose(dice).unwrap().clone();
    for _ in 0..dice.random_range(1..=8) {
        let at = dice.random_range(0..=bytes.len());
        let to = dice.random_range(at..=bytes.len().min(at + 64));
        match dice.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let other = seeds.choose(dice).unwrap();
                let from = dice.random_range(0..=other.len());
                bytes.splice(at..to, other[from..].iter().copied());
            }
            4 => bytes.insert(at, dice.random()),
            _ => {
                let word = WORDS.choose(dice).unwrap();
                bytes.splice(at..to, word.bytes());
            }
        }
        bytes.truncate(16 << 10);
    }
    bytes
}

/// A fixed number of times, always the same; with `FLEETLING_FUZZ_SECONDS` set, for that long per target and anew.
#[test]
fn mutations_of_the_corpus_break_nothing() {
    let seconds = std::env::var("FLEETLING_FUZZ_SECONDS").ok();
    let time = seconds.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let first = match time {
        Some(_) => rand::rng().random(),
        None => 1,
    };
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        let began = Instant::now();
        let mut executions: u64 = 0;
        while time.map_or(executions < 1_000, |time| began.elapsed() < time) {
            let seed = first + executions;
            let bytes = mutated(&seeds, &mut StdRng::seed_from_u64(seed));
            let broken = std::panic::catch_unwind(|| target(&bytes)).is_err();
            assert!(
                !broken,
                "{name} (seed {seed}) by b\"{}\"",
                bytes.escape_ascii()
            );
            executions += 1;
        }
        println!("{name}: {executions} executions in {:?}", began.elapsed());
    }
}
