//! Torn lines, days, sizes: on real files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn lines(of: &[&str]) -> Vec<String> {
    of.iter().map(|line| (*line).to_owned()).collect()
}

fn files(state: &Path) -> Vec<String> {
    let found = segments(&state.join(FOLDER)).unwrap();
    let name = |s: &Listed| s.path.file_name().unwrap().to_string_lossy().into_owned();
    found.iter().map(name).collect()
}

#[test]
fn a_line_torn_by_a_kill_is_skipped_and_harms_none_after_it() {
    let state = tempfile::tempdir().unwrap();
    let noon = at("2026-11-25T12:00:00Z");
    let mut journal = Journal::of(state.path());
    journal.append(&lines(&["one", "two"]), noon).unwrap();
    drop(journal);
    let segment = state.path().join("journal/2026-11-25-000.jsonl");
    let mut file = File::options().append(true).open(&segment).unwrap();
    file.write_all(b"{\"thr").unwrap();
    let torn = read(state.path()).unwrap();
    assert_eq!((torn.lines, torn.torn), (lines(&["one", "two"]), 1));

    Journal::of(state.path())
        .append(&lines(&["four"]), noon)
        .unwrap();
    let read = read(state.path()).unwrap();
    // It has an end now; that it is no entry is for who parses it to find.
    assert_eq!(read.lines, lines(&["one", "two", "{\"thr", "four"]));
    assert_eq!(files(state.path()), ["2026-11-25-000.jsonl"]);
}

#[test]
fn nothing_is_kept_beyond_fourteen_days() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::of(state.path());
    let first = at("2026-11-01T23:59:59Z");
    for day in 0..16 {
        let now = first + jiff::SignedDuration::from_hours(24 * day);
        journal.append(&lines(&["x"]), now).unwrap();
        let oldest = (day - KEPT_DAYS).max(0) + 1;
        assert_eq!(
            files(state.path()).first(),
            Some(&format!("2026-11-{oldest:02}-000.jsonl"))
        );
    }
    assert_eq!(read(state.path()).unwrap().lines.len(), 15);
}

#[test]
fn the_oldest_segments_go_when_all_are_too_large() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::of(state.path());
    journal.limits = Limits {
        all: 100,
        segment: 20,
    };
    std::fs::create_dir(state.path().join(FOLDER)).unwrap();
    let foreign = state.path().join("journal/notes.txt");
    std::fs::write(&foreign, [b'x'; 1000]).unwrap();
    let noon = at("2026-11-25T12:00:00Z");
    for n in 0..40 {
        journal.append(&[format!("line {n:04}")], noon).unwrap();
        let segments = segments(&state.path().join(FOLDER)).unwrap();
        let all: u64 = segments.iter().map(|segment| segment.length).sum();
        assert!(all <= 100, "{all} bytes after line {n}");
    }
    let kept = read(state.path()).unwrap().lines;
    assert_eq!(kept.last().unwrap(), "line 0039");
    assert_eq!(kept.len(), 10, "{kept:?}");
    assert!(foreign.exists(), "what is not ours is left alone");
}

#[test]
fn a_journal_that_was_never_begun_is_empty() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(read(state.path()).unwrap(), Lines::default());
    drop(Journal::of(state.path()));
    assert!(!state.path().join(FOLDER).exists());
}
