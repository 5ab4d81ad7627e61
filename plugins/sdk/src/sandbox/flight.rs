//! One request on its way, in steps that do not wait, so that several can be on theirs.
//!
//! ```text
//! start ─▶ Waiting ── the answer begins ─▶ Reading ── a piece ─┐
//!             │                              ▲    └────────────┤
//!             └── no answer ─▶ Ended ◀── closed, cut, too large ┘
//! ```
//! Invariant: a child (a body's stream, a pollable) is dropped before what it came from; WASI traps otherwise.

use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    self as wasi, ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{self, Pollable};
use wasip2::io::streams::{InputStream, StreamError};

use crate::http::{self, Error, Limits, Request, Response};

/// One write may not be larger: `blocking-write-and-flush` traps beyond.
const LARGEST_WRITE: usize = 4096;
const READ: u64 = 64 * 1024;

pub(super) struct Flight {
    /// Bytes of body to accept.
    limit: usize,
    stage: Stage,
}

enum Stage {
    Waiting {
        future: FutureIncomingResponse,
        /// What became of the request's body.
        written: Result<(), Error>,
    },
    Reading(Arrival),
}

/// Fields are dropped in this order: children first.
struct Arrival {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
    answer: Response,
}

pub(super) enum Progress {
    On(Flight),
    Ended(http::Result),
}

impl Flight {
    /// Hands the whole request over.
    pub(super) fn start(request: &Request, limits: &Limits) -> Result<Self, Error> {
        let outgoing = outgoing(request)?;
        let body = outgoing
            .body()
            .map_err(|()| Error::Malformed("its body was taken".into()))?;
        // `handle` comes first: before it nothing drains the body, and the second write would wait for ever.
        let future = outgoing_handler::handle(outgoing, Some(options(limits))).map_err(error)?;
        // A request that was denied has no reader for its body; the future tells why, the broken pipe does not.
        let written = write(body, request.body());
        Ok(Self {
            limit: limits.body,
            stage: Stage::Waiting { future, written },
        })
    }

    /// One step; only once it is [`ready`], or it waits.
    pub(super) fn advance(self) -> Progress {
        let limit = self.limit;
        let stage = match self.stage {
            Stage::Waiting { future, written } => match arrived(&future, &written) {
                Ok(Some(arrival)) => Stage::Reading(arrival),
                Ok(None) => Stage::Waiting { future, written },
                Err(error) => return Progress::Ended(Err(error)),
            },
            Stage::Reading(mut arrival) => match arrival.stream.read(READ) {
                Ok(part) => {
                    let body = arrival.answer.body_mut();
                    body.extend_from_slice(&part);
                    if body.len() > limit {
                        return Progress::Ended(Err(Error::TooLarge(limit)));
                    }
                    Stage::Reading(arrival)
                }
                Err(StreamError::Closed) => return Progress::Ended(Ok(arrival.answer)),
                Err(failure) => return Progress::Ended(Err(cut(failure))),
            },
        };
        Progress::On(Self { limit, stage })
    }

    fn pollable(&self) -> Pollable {
        match &self.stage {
            Stage::Waiting { future, .. } => future.subscribe(),
            Stage::Reading(arrival) => arrival.stream.subscribe(),
        }
    }
}

/// Waits until at least one of these can go on; which can, by their places.
pub(super) fn ready(flights: &[(usize, Flight)]) -> Vec<usize> {
    let pollables: Vec<Pollable> = flights.iter().map(|(_, one)| one.pollable()).collect();
    let those: Vec<&Pollable> = pollables.iter().collect();
    let ready = poll::poll(&those);
    ready
        .into_iter()
        .filter_map(|n| n.try_into().ok())
        .collect()
}

/// The answer's beginning; none: not yet.
fn arrived(
    future: &FutureIncomingResponse,
    written: &Result<(), Error>,
) -> Result<Option<Arrival>, Error> {
    let response = match future.get() {
        None => return Ok(None),
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return Err(error(code)),
        Some(Err(())) => return Err(Error::Other("the answer was taken".into())),
    };
    if let (Err(cause), 200..300) = (written, response.status()) {
        return Err(cause.clone());
    }
    let answer = begun(&response)?;
    let taken = || Error::Other("the answer's body was taken".into());
    let body = response.consume().map_err(|()| taken())?;
    let stream = body.stream().map_err(|()| taken())?;
    Ok(Some(Arrival {
        stream,
        _body: body,
        _response: response,
        answer,
    }))
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, Error> {
    let malformed =
        |what: &str| Error::Malformed(format!("{what} of {} is not valid", request.uri()));
    let mut entries: Vec<(String, Vec<u8>)> = request
        .headers()
        .iter()
        // The host of the request names itself; WASI refuses to be told.
        .filter(|(name, _)| *name != http::header::HOST && *name != http::header::CONTENT_LENGTH)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    // Without a length the body would go out chunked, which some APIs refuse.
    let length = request.body().len().to_string().into_bytes();
    entries.push(("content-length".into(), length));
    let fields = Fields::from_list(&entries).map_err(|_| malformed("a header"))?;

    let uri = request.uri();
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(malformed("the scheme")),
    };
    let method = match *request.method() {
        http::Method::GET => wasi::Method::Get,
        http::Method::HEAD => wasi::Method::Head,
        http::Method::POST => wasi::Method::Post,
        http::Method::PUT => wasi::Method::Put,
        http::Method::DELETE => wasi::Method::Delete,
        http::Method::PATCH => wasi::Method::Patch,
        ref other => wasi::Method::Other(other.to_string()),
    };
    let outgoing = OutgoingRequest::new(fields);
    outgoing
        .set_method(&method)
        .map_err(|()| malformed("the method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(|()| malformed("the scheme"))?;
    outgoing
        .set_authority(uri.authority().map(|authority| authority.as_str()))
        .map_err(|()| malformed("the authority"))?;
    outgoing
        .set_path_with_query(uri.path_and_query().map(|path| path.as_str()))
        .map_err(|()| malformed("the path"))?;
    Ok(outgoing)
}

/// A transport without one of these settings is slower to give up, not wrong: refusals are ignored.
fn options(limits: &Limits) -> RequestOptions {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).ok();
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(nanoseconds(limits.connect));
    let _ = options.set_first_byte_timeout(nanoseconds(limits.first_byte));
    let _ = options.set_between_bytes_timeout(nanoseconds(limits.between_bytes));
    options
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), Error> {
    let stream = body
        .write()
        .map_err(|()| Error::Malformed("its body was taken".into()))?;
    for part in bytes.chunks(LARGEST_WRITE) {
        stream.blocking_write_and_flush(part).map_err(cut)?;
    }
    // The stream is a child of the body, which must outlive it.
    drop(stream);
    OutgoingBody::finish(body, None).map_err(error)
}

/// The answer without its body yet.
fn begun(response: &IncomingResponse) -> http::Result {
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = http::StatusCode::from_u16(response.status())
        .map_err(|_| Error::Other(format!("status {} does not exist", response.status())))?;
    for (name, value) in response.headers().entries() {
        if let (Ok(name), Ok(value)) = (
            http::HeaderName::from_bytes(name.as_bytes()),
            http::HeaderValue::from_bytes(&value),
        ) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

/// A stream's failure carries the HTTP failure beneath it, if there was one.
fn cut(failure: StreamError) -> Error {
    match failure {
        StreamError::Closed => Error::Cut,
        StreamError::LastOperationFailed(cause) => {
            wasi::http_error_code(&cause).map_or(Error::Cut, error)
        }
    }
}

fn error(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied,
        ErrorCode::ConnectionLimitReached => Error::TooMany,
        ErrorCode::DnsTimeout | ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
            Error::Unresolved
        }
        ErrorCode::ConnectionRefused
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable => Error::Refused,
        ErrorCode::ConnectionTimeout => Error::TimedOut("connecting"),
        ErrorCode::ConnectionWriteTimeout => Error::TimedOut("sending"),
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            Error::TimedOut("waiting for the answer")
        }
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => Error::Cut,
        ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::TlsAlertReceived(_) => Error::Tls(format!("{code:?}")),
        ErrorCode::HttpResponseBodySize(size) => Error::TooLarge(
            size.and_then(|size| size.try_into().ok())
                .unwrap_or(usize::MAX),
        ),
        ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong => Error::Malformed(format!("{code:?}")),
        other => Error::Other(format!("{other:?}")),
    }
}
