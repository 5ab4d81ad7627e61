//! The frames between the manager and the helper: newline-delimited JSON, version 1, payloads in base64.
//!
//! ```text
//!   manager (host)                                helper (pid 1 of the helper container)
//!   hello{resume_from: n}          ──────▶
//!                                  ◀──────        hello{version, next_seq, running}
//!                                  ◀──────        every output and exit frame with seq >= n, again
//!   stage{id, script, ...}         ──────▶
//!                                  ◀──────        output{seq, stage, stream, bytes} ...
//!   ack{seq}                       ──────▶        (everything up to and with seq may be forgotten)
//!                                  ◀──────        exit{seq, stage, code}
//!   cancel{id}                     ──────▶
//!   end                            ──────▶        kills what is left, exits 0
//! ```
//!
//! Sequence numbers start at 1 and grow by one with each output or exit frame, over all stages of one helper.
//! `ack{seq}` means "everything ≤ seq is mine"; `hello{resume_from}` means "send everything ≥ this again".
//! A stage id that the helper has already seen is not run a second time, so that a manager who does not know
//! whether its `stage` frame arrived may send it again.

use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version every frame carries as `v`. Another version is refused.
pub const VERSION: u32 = 1;
/// The longest line either side accepts, in bytes and without its newline.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// The most output bytes that the helper puts into one frame.
pub const MAX_OUTPUT: usize = 32 * 1024;

/// Which of a stage's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Out,
    Err,
}

/// Which shell runs a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shell {
    /// `bash` where it can be found, else `sh`.
    #[default]
    Detect,
    Bash,
    Sh,
}

/// One stage for the helper to run. `Debug` shows neither script nor environment: both may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageOrder {
    /// Chosen by the manager; unique among the stages of one helper.
    pub id: u64,
    /// The shell reads it from its standard input, which then ends.
    #[serde(with = "base64_bytes")]
    pub script: Vec<u8>,
    /// Added to the helper's own environment; the last definition of a name wins.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Working directory; made where it is missing. Empty: the helper's own.
    #[serde(default)]
    pub directory: String,
    /// File mode creation mask; 0 is what GitLab Runner uses.
    #[serde(default)]
    pub umask: u32,
    #[serde(default)]
    pub shell: Shell,
}

impl std::fmt::Debug for StageOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageOrder")
            .field("id", &self.id)
            .field("script_bytes", &self.script.len())
            .field("environment_names", &self.environment.len())
            .field("directory", &self.directory)
            .field("umask", &format_args!("{:04o}", self.umask))
            .field("shell", &self.shell)
            .finish()
    }
}

/// What the manager says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ToHelper {
    /// The first frame of every attach: send everything from this sequence number on again.
    Hello { resume_from: u64 },
    /// Run this stage. One at a time; an id already seen is ignored.
    Stage(StageOrder),
    /// TERM to the stage's processes, KILL ten seconds later. An id that does not run is ignored.
    Cancel { id: u64 },
    /// Everything up to and with `seq` has been received.
    Ack { seq: u64 },
    /// No stage will follow.
    End,
}

/// What the helper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FromHelper {
    /// The answer to the manager's `hello`.
    Hello {
        /// The helper's own release, for logs; the protocol's version is `v`.
        version: String,
        /// The number that the next output or exit frame will carry.
        next_seq: u64,
        /// The stage that runs now.
        running: Option<u64>,
    },
    /// A piece of a stage's output, at most [`MAX_OUTPUT`] bytes.
    Output {
        seq: u64,
        stage: u64,
        stream: Stream,
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// The stage's shell ended: its exit code, or 128 + signal. No output of this stage follows.
    Exit { seq: u64, stage: u64, code: i32 },
}

impl FromHelper {
    /// The sequence number, which `hello` has not.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Hello { .. } => None,
            Self::Output { seq, .. } | Self::Exit { seq, .. } => Some(*seq),
        }
    }
}

/// Why a line is not a frame. The line is consumed, so that reading may go on: until the first `hello` of an attach such
/// lines are what an earlier attach left behind; after it the stream cannot be trusted any more, attach again.
#[derive(Debug)]
pub enum FrameError {
    /// A line grew beyond [`MAX_FRAME`].
    TooLong { limit: usize },
    /// Not JSON, or not this kind's fields.
    Malformed(serde_json::Error),
    /// The other side speaks another version.
    Version { theirs: u32 },
    /// A kind this side does not know.
    UnknownKind(String),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "a frame is longer than {limit} bytes"),
            // A parser's message quotes the text it met, which may be secret; its class is safe to show.
            Self::Malformed(e) => write!(f, "a frame is malformed ({:?})", e.classify()),
            Self::Version { theirs } => {
                write!(
                    f,
                    "the other side speaks frame version {theirs}, this side {VERSION}"
                )
            }
            Self::UnknownKind(kind) => write!(f, "unknown frame kind {kind:?}"),
        }
    }
}

impl std::error::Error for FrameError {}

mod sealed {
    pub trait Sealed {
        const KINDS: &'static [&'static str];
        fn begins_an_attach(&self) -> bool;
    }
    impl Sealed for super::ToHelper {
        const KINDS: &'static [&'static str] = &["hello", "stage", "cancel", "ack", "end"];
        fn begins_an_attach(&self) -> bool {
            matches!(self, Self::Hello { .. })
        }
    }
    impl Sealed for super::FromHelper {
        const KINDS: &'static [&'static str] = &["hello", "output", "exit"];
        fn begins_an_attach(&self) -> bool {
            matches!(self, Self::Hello { .. })
        }
    }
}

/// One direction's frames: [`ToHelper`] or [`FromHelper`].
pub trait Frame: Serialize + DeserializeOwned + sealed::Sealed {
    /// The frame as one line, newline included. Fails only where the line would be too long for the other side.
    /// A `hello` begins with a newline of its own: it ends whatever a lost attach left half-written.
    fn encode(&self) -> Result<Vec<u8>, FrameError> {
        #[derive(Serialize)]
        struct Line<'a, F> {
            v: u32,
            #[serde(flatten)]
            frame: &'a F,
        }
        let line = Line {
            v: VERSION,
            frame: self,
        };
        let mut line = serde_json::to_vec(&line).map_err(FrameError::Malformed)?;
        if line.len() > MAX_FRAME {
            return Err(FrameError::TooLong { limit: MAX_FRAME });
        }
        line.push(b'\n');
        if self.begins_an_attach() {
            line.insert(0, b'\n');
        }
        Ok(line)
    }
}

impl Frame for ToHelper {}
impl Frame for FromHelper {}

/// Turns chunks of bytes, cut anywhere, into frames.
pub struct Decoder<F> {
    buffer: Vec<u8>,
    /// How much of `buffer` has been searched for a newline.
    searched: usize,
    /// Until the end of a line that was too long, and told.
    skips: bool,
    frame: std::marker::PhantomData<fn() -> F>,
}

impl<F: Frame> Default for Decoder<F> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            searched: 0,
            skips: false,
            frame: std::marker::PhantomData,
        }
    }
}

impl<F: Frame> Decoder<F> {
    /// Takes the next bytes of the stream. Call [`Decoder::next_frame`] until it gives `None`.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame; `None` until more bytes come. Blank lines are skipped, unknown fields ignored.
    pub fn next_frame(&mut self) -> Result<Option<F>, FrameError> {
        loop {
            let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n')
            else {
                self.searched = self.buffer.len();
                if self.skips || self.buffer.len() > MAX_FRAME {
                    self.buffer.clear();
                    self.searched = 0;
                    if !std::mem::replace(&mut self.skips, true) {
                        return Err(FrameError::TooLong { limit: MAX_FRAME });
                    }
                }
                return Ok(None);
            };
            let end = self.searched + at;
            self.searched = 0;
            let rest = self.buffer.split_off(end + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            if std::mem::take(&mut self.skips) {
                continue;
            }
            let line = line.trim_ascii();
            if line.len() > MAX_FRAME {
                return Err(FrameError::TooLong { limit: MAX_FRAME });
            }
            if !line.is_empty() {
                return decode(line).map(Some);
            }
        }
    }

    /// Whether bytes of an unfinished frame are waiting; at the end of a stream that means it was cut.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn decode<F: Frame>(line: &[u8]) -> Result<F, FrameError> {
    #[derive(Deserialize)]
    struct Head {
        v: u32,
        kind: String,
    }
    let head: Head = serde_json::from_slice(line).map_err(FrameError::Malformed)?;
    if head.v != VERSION {
        return Err(FrameError::Version { theirs: head.v });
    }
    if !F::KINDS.contains(&head.kind.as_str()) {
        return Err(FrameError::UnknownKind(head.kind));
    }
    serde_json::from_slice(line).map_err(FrameError::Malformed)
}

mod base64_bytes {
    use super::STANDARD;
    use base64::Engine as _;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD
            .decode(text.as_bytes())
            .map_err(|_| de::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests;
