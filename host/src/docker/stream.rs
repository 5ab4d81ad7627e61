//! A stage's output as bytes: the begin mark is stripped, and a stream taken up again from the log goes on where it was.
//!
//! The log is not byte-exact: it is kept in pieces of 16 KiB of a line, and every invalid byte of a piece is replaced by
//! U+FFFD. [`Tally`] counts what was seen in the log's own measure, so that the rest can be cut off exactly.

/// Docker's copier logs a longer line in pieces of this size.
const PIECE: usize = 16 * 1024;
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The shell's own words are not shown where its script begins, so that it cannot print that: where it ends before, this
/// stands for them.
pub(super) const UNBEGUN: &[u8] =
    b"The shell ended before the script began. Look at what may keep it from starting a \
process: pids_limit, ulimit and memory in [runners.docker], and the image's entrypoint.\n";

/// Finds and removes the mark line from a stream of chunks.
pub(super) struct Sieve {
    mark: Vec<u8>,
    held: Vec<u8>,
    seen: bool,
}

impl Sieve {
    pub(super) fn new(mark: &str) -> Self {
        Self {
            mark: [mark.as_bytes(), b"\n"].concat(),
            held: Vec::new(),
            seen: false,
        }
    }

    pub(super) fn seen(&self) -> bool {
        self.seen
    }

    /// What of the stream so far may be shown.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.seen {
            return chunk.to_vec();
        }
        self.held.extend_from_slice(chunk);
        let found = self
            .held
            .windows(self.mark.len())
            .position(|window| window == self.mark);
        if let Some(at) = found {
            self.seen = true;
            let mut out = std::mem::take(&mut self.held);
            out.drain(at..at + self.mark.len());
            return out;
        }
        // Only an ending that may grow into the mark is held back.
        let most = self.held.len().min(self.mark.len() - 1);
        let keep = (0..=most)
            .rev()
            .find(|n| self.held.ends_with(&self.mark[..*n]))
            .unwrap_or(0);
        self.held.drain(..self.held.len() - keep).collect()
    }

    /// What was held back when the stream ended.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// How much of a stream was seen, measured as the log keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes in the log.
    logged: u64,
    /// Raw bytes of the current piece.
    column: usize,
    /// The begin of a character whose end has not come.
    partial: Vec<u8>,
}

impl Tally {
    /// Counts raw bytes as an attach gives them.
    pub(super) fn count(&mut self, mut raw: &[u8]) {
        while !raw.is_empty() {
            let room = PIECE - self.column;
            let newline = raw.iter().take(room).position(|byte| *byte == b'\n');
            let take = newline.map_or(room.min(raw.len()), |at| at + 1);
            let (piece, rest) = raw.split_at(take);
            self.column += take;
            self.text(piece);
            if newline.is_some() || self.column == PIECE {
                self.logged += (self.partial.len() * REPLACEMENT.len()) as u64;
                self.partial.clear();
                self.column = 0;
            }
            raw = rest;
        }
    }

    fn text(&mut self, piece: &[u8]) {
        let joined;
        let mut rest = piece;
        if !self.partial.is_empty() {
            joined = [std::mem::take(&mut self.partial).as_slice(), piece].concat();
            rest = &joined;
        }
        while let Err(error) = std::str::from_utf8(rest) {
            self.logged += error.valid_up_to() as u64;
            let bad = &rest[error.valid_up_to()..];
            let Some(length) = error.error_len() else {
                self.partial = bad.to_vec();
                return;
            };
            self.logged += (length * REPLACEMENT.len()) as u64;
            rest = &bad[length..];
        }
        self.logged += rest.len() as u64;
    }

    /// Begins a pass over the log from its start.
    pub(super) fn skip(&self) -> Skip {
        Skip {
            logged: self.logged,
            partial: self.partial.clone(),
        }
    }
}

/// Cuts off what was seen from a log read from its start.
#[derive(Debug)]
pub(super) struct Skip {
    logged: u64,
    partial: Vec<u8>,
}

impl Skip {
    /// What of this chunk is new.
    pub(super) fn pass<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let seen = usize::try_from(self.logged).map_or(chunk.len(), |n| n.min(chunk.len()));
        self.logged -= seen as u64;
        let chunk = &chunk[seen..];
        if chunk.is_empty() || self.partial.is_empty() {
            return chunk;
        }
        // The character came whole into the log, or each of its bytes was replaced there.
        let partial = std::mem::take(&mut self.partial);
        if chunk.starts_with(&partial) {
            return &chunk[partial.len()..];
        }
        let replaced = REPLACEMENT.repeat(partial.len());
        chunk.strip_prefix(replaced.as_slice()).unwrap_or(chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The log of these bytes, as Docker's json-file keeps it.
    fn log(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in raw.split_inclusive(|byte| *byte == b'\n') {
            let mut line = line;
            while !line.is_empty() {
                let (mut piece, rest) = line.split_at(line.len().min(PIECE));
                while let Err(error) = std::str::from_utf8(piece) {
                    let good = error.valid_up_to();
                    out.extend_from_slice(&piece[..good]);
                    out.extend_from_slice(REPLACEMENT);
                    piece = &piece[good + 1..];
                }
                out.extend_from_slice(piece);
                line = rest;
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_stream_goes_on_where_it_was(
            head in proptest::collection::vec(any::<u8>(), 0..600),
            pad in prop_oneof![Just(0usize), 16_300..16_500usize],
            tail in "[a-zé€😀\n]{0,80}",
            cut in any::<prop::sample::Index>(),
            chunk in 1..700usize,
        ) {
            let raw = [head, vec![b'x'; pad], tail.into_bytes()].concat();
            let at = cut.index(raw.len() + 1);
            let mut tally = Tally::default();
            for piece in raw[..at].chunks(chunk) {
                tally.count(piece);
            }
            let mut skip = tally.skip();
            let got = skip.pass(&log(&raw)).to_vec();
            let whole = log(&raw);
            prop_assert!(whole.ends_with(&got));
            let mut all = Tally::default();
            all.count(&raw);
            prop_assert_eq!(all.logged as usize + all.partial.len() * 3 , log(&raw).len());
            // What was counted and what is new make the whole, but for a character cut in two.
            let counted = tally.logged as usize;
            prop_assert!(counted <= whole.len() && whole.len() - counted >= got.len());
            prop_assert!(whole.len() - counted - got.len() <= 9);
            if tally.partial.is_empty() {
                prop_assert_eq!(whole.len() - counted, got.len());
            }
        }

        #[test]
        fn the_mark_is_stripped_however_it_is_cut(cut in 1..12usize) {
            let mut sieve = Sieve::new("MARK-7");
            let shown: Vec<u8> = b"MARMARK-7\nMARK-7\nMA"
                .chunks(cut)
                .flat_map(|chunk| sieve.pass(chunk))
                .collect();
            prop_assert!(sieve.seen());
            prop_assert_eq!(shown, b"MARMARK-7\nMA".to_vec());
        }
    }

    #[test]
    fn without_a_mark_everything_is_shown() {
        let mut sieve = Sieve::new("MARK");
        let mut shown = sieve.pass(b"hello MA");
        assert_eq!(shown, b"hello ");
        shown.extend(sieve.rest());
        assert_eq!(shown, b"hello MA");
        assert!(!sieve.seen());
    }
}
