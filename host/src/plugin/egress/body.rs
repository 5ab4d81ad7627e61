//! The body of an answer, on its way from the network to the guest.
//!
//! ```text
//! network ─ chunk, within `idle` ─► Carrier ─ one piece at a time, taken within TAKEN ─► stream ─► guest
//!                                     └ holds the connection, the plugin's own permit, and the shared one
//!                                       while the guest keeps up: a body left unread costs other plugins nothing
//! ```
//! Invariant: permits are given back when the body ended, when the guest dropped it, when either side let its time pass,
//! and when the guest's call is over; the guest sees an end only where the server made one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::Underway;
use super::permits::Permits;

/// A guest may compute between two pieces, however impatient it is with its server.
const TAKEN: Duration = Duration::from_secs(1);

/// How long a piece may wait for its guest before others get the shared permit.
const KEPT_UP: Duration = Duration::from_millis(50);

/// `None` is the end that the server made.
type Piece = Result<Option<Bytes>, Error>;

/// What runs while the body is read; dropping it cuts the body.
pub(super) struct Carrier {
    response: reqwest::Response,
    /// The longest wait for the server.
    idle: Duration,
    /// The most bytes.
    limit: usize,
    permits: Permits,
    underway: Underway,
    to: mpsc::Sender<Piece>,
}

/// The carrier of an answer's body, and the body as the guest reads it.
pub(super) fn carried(
    response: reqwest::Response,
    idle: Duration,
    limit: usize,
    permits: Permits,
    underway: Underway,
) -> (Carrier, WasiBody) {
    let (to, from) = mpsc::channel::<Piece>(1);
    let pieces = stream::unfold(Some(from), |from| async {
        let mut from = from?;
        match from.recv().await {
            Some(Ok(Some(piece))) => Some((Ok(Frame::data(piece)), Some(from))),
            Some(Ok(None)) => None,
            Some(Err(problem)) => Some((Err(problem), None)),
            None => Some((Err(Error::ConnectionTerminated), None)),
        }
    });
    let carrier = Carrier {
        response,
        idle,
        limit,
        permits,
        underway,
        to,
    };
    (carrier, BodyExt::boxed_unsync(StreamBody::new(pieces)))
}

impl Carrier {
    pub(super) async fn run(mut self) {
        // The server has as long for each piece as the guest allows; the guest, never less than a moment.
        let taken = self.idle.max(TAKEN);
        let mut bytes = 0;
        let last = loop {
            match tokio::time::timeout(self.idle, self.response.chunk()).await {
                Err(_) => break Err(Error::ConnectionReadTimeout),
                Ok(Err(_)) => break Err(Error::HttpResponseIncomplete),
                Ok(Ok(None)) => break Ok(None),
                Ok(Ok(Some(piece))) => {
                    bytes += piece.len();
                    self.underway.received(piece.len());
                    if bytes > self.limit {
                        break Err(Error::HttpResponseBodySize(Some(self.limit as u64)));
                    }
                    let given = self.give(piece);
                    if !matches!(tokio::time::timeout(taken, given).await, Ok(true)) {
                        return;
                    }
                    if !self.permits.regain().await {
                        break Err(Error::ConnectionLimitReached);
                    }
                }
            }
        };
        // The last word needs no connection, and may wait for a guest that reads slowly.
        drop((self.response, self.permits, self.underway));
        drop(tokio::time::timeout(taken, self.to.send(last)).await);
    }

    /// False when nobody reads any more. Others use the shared permit while the guest takes its time.
    async fn give(&mut self, piece: Bytes) -> bool {
        let place = match tokio::time::timeout(KEPT_UP, self.to.reserve()).await {
            Ok(place) => place,
            Err(_) => {
                self.permits.lend();
                self.to.reserve().await
            }
        };
        place.map(|place| place.send(Ok(Some(piece)))).is_ok()
    }
}
