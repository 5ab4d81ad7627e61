//! `FF_TIMESTAMPS`: every line of the log begins with when and from which stream it came. Pure; time is an argument.
//!
//! `YYYY-MM-DDTHH:MM:SS.uuuuuuZ ` + two hexadecimal digits of the stream + `O` or `E` + ` `, or `+` where the line
//! continues the stream's last one.

use std::time::SystemTime;

use super::output::Stream;

/// A line longer than this is cut and continued.
const LONGEST: usize = 8 * 1024;

/// One stream's lines. Input is UTF-8 and no character is cut between two writes.
pub(super) struct Timestamps {
    number: u8,
    stream: Stream,
    line: Vec<u8>,
    continues: bool,
}

impl Timestamps {
    pub(super) fn new(number: u8, stream: Stream) -> Self {
        Self {
            number,
            stream,
            line: Vec::new(),
            continues: false,
        }
    }

    /// Whole lines come out at once; a line without its end is held, unless it moves the cursor (`\r`): progress bars
    /// and section markers show as they come.
    pub(super) fn write(&mut self, now: SystemTime, mut input: &[u8], out: &mut Vec<u8>) {
        // Written once for all lines of a piece: a log is written in far larger pieces than lines.
        let now = microseconds(now);
        let shows = input.contains(&b'\r') && !input.contains(&b'\n');
        while !input.is_empty() {
            let room = LONGEST - self.line.len();
            let end = input.iter().take(room).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    self.line.extend_from_slice(&input[..end]);
                    input = &input[end + 1..];
                    self.emit(&now, false, out);
                }
                None => {
                    let mut taken = room.min(input.len());
                    while taken < input.len() && taken > 0 && is_inside_character(input[taken]) {
                        taken -= 1;
                    }
                    self.line.extend_from_slice(&input[..taken]);
                    input = &input[taken..];
                    if !input.is_empty() || self.line.len() == LONGEST {
                        self.emit(&now, true, out);
                    }
                }
            }
        }
        if shows && !self.line.is_empty() {
            self.emit(&now, true, out);
        }
    }

    /// What is left of the last line.
    pub(super) fn finish(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.emit(&microseconds(now), false, out);
        }
        self.continues = false;
    }

    fn emit(&mut self, now: &str, goes_on: bool, out: &mut Vec<u8>) {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        let letter = match self.stream {
            Stream::Out => b'O',
            Stream::Err => b'E',
        };
        let mark = if self.continues { b'+' } else { b' ' };
        out.extend_from_slice(now.as_bytes());
        let (high, low) = (digit(self.number >> 4), digit(self.number & 0xf));
        out.extend_from_slice(&[b' ', high, low, letter, mark]);
        out.append(&mut self.line);
        out.push(b'\n');
        self.continues = goes_on;
    }
}

fn is_inside_character(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn microseconds(now: SystemTime) -> String {
    let now = jiff::Timestamp::try_from(now).unwrap_or_default();
    format!("{now:.6}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(micros: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    fn lines(writes: &[&str]) -> String {
        let mut stamps = Timestamps::new(1, Stream::Out);
        let mut out = Vec::new();
        for (n, text) in writes.iter().enumerate() {
            stamps.write(at(n as u64), text.as_bytes(), &mut out);
        }
        stamps.finish(at(99), &mut out);
        String::from_utf8(out)
            .expect("text")
            .replace("1970-01-01T00:00:00.0000", "")
    }

    #[test]
    fn the_header_has_32_bytes() {
        let mut stamps = Timestamps::new(0x0f, Stream::Err);
        let mut out = Vec::new();
        stamps.write(at(1_700_000_000_000_001), b"x\n", &mut out);
        assert_eq!(out, b"2023-11-14T22:13:20.000001Z 0fE x\n");
        assert_eq!(out.len(), 32 + 2);
    }

    #[test]
    fn lines_by_table() {
        for (writes, expected) in [
            (&["a\nb\n"][..], "00Z 01O a\n00Z 01O b\n"),
            (&["a", "b\n"], "01Z 01O ab\n"),
            (&["a\n", "b"], "00Z 01O a\n99Z 01O b\n"),
            (&["\n\n"], "00Z 01O \n00Z 01O \n"),
            (
                &["1%\r", "2%\r", "done\n", "x\n"],
                "00Z 01O 1%\r\n01Z 01O+2%\r\n02Z 01O+done\n03Z 01O x\n",
            ),
            (&["a\rb\nc"], "00Z 01O a\rb\n99Z 01O c\n"),
            (&[""], ""),
        ] {
            assert_eq!(lines(writes), expected, "{writes:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_continued() {
        let text = format!("x{}\n", "é".repeat(LONGEST));
        let out = lines(&[&text]);
        let parts: Vec<&str> = out.lines().collect();
        assert_eq!(parts.len(), 3);
        assert!(parts[0].starts_with("00Z 01O x") && parts[1].starts_with("00Z 01O+é"));
        let joined: String = parts.iter().map(|part| &part[8..]).collect();
        assert_eq!(joined + "\n", text);
    }
}
