//! The writing side of a job log: every stream masked, made UTF-8 and stamped, then spooled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::encode::Utf8;
use super::mask::{Mask, Masker, Masks};
use super::output::{Output, Stream};
use super::spool;
use super::timestamps::Timestamps;

/// The stream of what the job's scripts print.
pub const SCRIPTS: u8 = 1;

/// The writing side of a trace: never waits for GitLab.
pub struct Log {
    mask: Mask,
    timestamps: bool,
    /// Written by every stream's task in turn; held only for one write into the page cache.
    spool: Arc<Mutex<spool::Writer>>,
    streams: Mutex<BTreeMap<u8, Arc<StreamLog>>>,
}

impl Log {
    pub(super) fn new(masks: &Masks, timestamps: bool, spool: spool::Writer) -> Self {
        Self {
            mask: Mask::new(masks),
            timestamps,
            spool: Arc::new(Mutex::new(spool)),
            streams: Mutex::default(),
        }
    }

    /// Stream 0 is the manager's own lines, 1 what the job's scripts print, 15 and up its services. The same number is the same stream.
    /// A secret that is split between two streams is not masked.
    pub fn output(&self, number: u8) -> Arc<dyn Output> {
        lock(&self.streams)
            .entry(number)
            .or_insert_with(|| {
                let chain = |stream| {
                    Mutex::new(Chain {
                        masker: match number {
                            SCRIPTS => self.mask.masker_of_scripts(),
                            _ => self.mask.masker(),
                        },
                        utf8: Utf8::default(),
                        stamps: self.timestamps.then(|| Timestamps::new(number, stream)),
                    })
                };
                Arc::new(StreamLog {
                    out: chain(Stream::Out),
                    err: chain(Stream::Err),
                    spool: self.spool.clone(),
                })
            })
            .clone()
    }

    /// Lets go of what was held back, and stops taking anything.
    pub(super) fn close(&self) {
        for stream in lock(&self.streams).values() {
            for chain in [&stream.out, &stream.err] {
                stream.spool(&lock(chain).finish());
            }
        }
        if let Err(e) = lock(&self.spool).close() {
            tracing::warn!(error = %e, "job log was not closed");
        }
    }
}

struct StreamLog {
    out: Mutex<Chain>,
    err: Mutex<Chain>,
    spool: Arc<Mutex<spool::Writer>>,
}

impl StreamLog {
    fn spool(&self, text: &[u8]) {
        let mut spool = lock(&self.spool);
        if let Err(e) = spool.append(text) {
            tracing::warn!(error = %e, "job log could not be written; the rest of it is dropped");
            let _ = spool.close();
        }
    }
}

impl Output for StreamLog {
    fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut chain = lock(match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        });
        let text = chain.write(bytes);
        // Still under the stream's lock: lines of one stream stay in order.
        self.spool(&text);
    }
}

struct Chain {
    masker: Masker,
    utf8: Utf8,
    stamps: Option<Timestamps>,
}

impl Chain {
    fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        let text = self.utf8.write(&self.masker.write(bytes));
        self.stamp(text)
    }

    fn finish(&mut self) -> Vec<u8> {
        let mut text = self.utf8.write(&self.masker.finish());
        text.extend(self.utf8.finish());
        let mut out = self.stamp(text);
        if let Some(stamps) = &mut self.stamps {
            stamps.finish(SystemTime::now(), &mut out);
        }
        out
    }

    fn stamp(&mut self, text: Vec<u8>) -> Vec<u8> {
        match &mut self.stamps {
            None => text,
            Some(stamps) => {
                let mut out = Vec::with_capacity(text.len() + 64);
                stamps.write(SystemTime::now(), &text, &mut out);
                out
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
