//! Makes a stream UTF-8: every byte that is none becomes U+FFFD, as Docker's own log does it. Pure.

/// One stream's encoder; holds back a character that a chunk cut, at most three bytes.
#[derive(Default)]
pub(super) struct Utf8 {
    held: Vec<u8>,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl Utf8 {
    pub(super) fn write(&mut self, input: &[u8]) -> Vec<u8> {
        let joined;
        let input = if self.held.is_empty() {
            input
        } else {
            self.held.extend_from_slice(input);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        let mut out = Vec::with_capacity(input.len());
        let mut rest = input;
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.extend_from_slice(text.as_bytes());
                    return out;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    out.extend_from_slice(good);
                    let Some(length) = e.error_len() else {
                        self.held = bad.to_vec();
                        return out;
                    };
                    for _ in 0..length {
                        out.extend_from_slice(REPLACEMENT);
                    }
                    rest = &bad[length..];
                }
            }
        }
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        REPLACEMENT.repeat(std::mem::take(&mut self.held).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_text() {
        let input = b"a\xffz \xe2\x82\xac \xe2\x82 \xf0\x9f\x98\x80 \xc3";
        let expected = "a\u{fffd}z € \u{fffd}\u{fffd} 😀 \u{fffd}";
        for cut in 0..=input.len() {
            let mut utf8 = Utf8::default();
            let mut out = utf8.write(&input[..cut]);
            out.extend(utf8.write(&input[cut..]));
            out.extend(utf8.finish());
            assert_eq!(String::from_utf8_lossy(&out), expected, "cut at {cut}");
        }
    }
}
