//! An HTTP server on a port of its own, which answers as the test says, well or badly.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::http::{HeaderName, HeaderValue, Method, Request};

const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_HEAD: usize = 64 * 1024;

/// One answer, and what happens to it on the way.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    after: Duration,
    course: Course,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Whole,
    /// The length is announced, half of the body is sent.
    Half,
    /// The connection ends without a byte.
    Nothing,
    /// What is sent is no HTTP.
    Garbage,
    /// A byte at a time, with this pause before each.
    Drip(Duration),
}

impl Reply {
    pub fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            after: Duration::ZERO,
            course: Course::Whole,
        }
    }

    /// # Panics
    /// If `body` cannot be written as JSON.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("a test's answer can be written as JSON");
        Self::text(status, &body).header("content-type", "application/json")
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Begins so much later; other requests are answered meanwhile.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Ends in the middle of the body.
    #[must_use]
    pub fn cut(self) -> Self {
        self.going(Course::Half)
    }

    /// Ends before it begins: whether the request was acted upon, nobody is told.
    #[must_use]
    pub fn lost(self) -> Self {
        self.going(Course::Nothing)
    }

    /// Is no HTTP at all.
    #[must_use]
    pub fn garbled(self) -> Self {
        self.going(Course::Garbage)
    }

    /// Comes a byte at a time, with a pause before each.
    #[must_use]
    pub fn dripping(self, pause: Duration) -> Self {
        self.going(Course::Drip(pause))
    }

    fn going(self, course: Course) -> Self {
        Self { course, ..self }
    }
}

type Handler = Box<dyn FnMut(&Request) -> Reply + Send>;

struct Shared {
    handler: Mutex<Handler>,
    seen: Mutex<Seen>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    now: usize,
    most: usize,
}

/// Answers until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Server {
    /// Every request is answered by `handler`, one at a time.
    ///
    /// # Panics
    /// If there is no free port on the loopback address.
    pub fn answering(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::listening_at(0, handler)
    }

    /// The same on a port of choice, for a server that a person starts.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn listening_at(
        port: u16,
        handler: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            handler: Mutex::new(Box::new(handler)),
            seen: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let listening = Some(std::thread::spawn(move || accept(&listener, &accepting)));
        Self {
            address,
            shared,
            listening,
        }
    }

    /// One answer after the other; a request beyond the list is answered 599, which no plugin expects.
    pub fn scripted(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        Self::answering(move |request| {
            let beyond = || Reply::text(599, &format!("nothing is scripted for {request:?}"));
            replies.pop_front().unwrap_or_else(beyond)
        })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.shared.seen).requests)
    }

    /// How many requests were under way at once, at most.
    pub fn most_at_once(&self) -> usize {
        lock(&self.shared.seen).most
    }

    /// Answers until the process ends.
    pub fn stay(mut self) {
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            self.shared.is_over.store(true, Ordering::SeqCst);
            // Wakes the one who accepts.
            let _ = TcpStream::connect(self.address);
            let _ = listening.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            let shared = shared.clone();
            std::thread::spawn(move || {
                // A client that goes away is the test's business.
                let _ = serve(&stream, &shared);
            });
        }
    }
}

/// One request a connection.
fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = receive(stream)? else {
        return Ok(());
    };
    {
        let mut seen = lock(&shared.seen);
        seen.requests.push(request.clone());
        seen.now += 1;
        seen.most = seen.most.max(seen.now);
    }
    let reply = lock(&shared.handler)(&request);
    std::thread::sleep(reply.after);
    // Not after the last byte: by then the client may have sent its next one.
    lock(&shared.seen).now -= 1;
    send(stream, &reply)
}

fn receive(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 || head.len() > LARGEST_HEAD {
            return Ok(None);
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    if parsed.parse(&head).is_err() {
        return Ok(None);
    }
    let mut request = Request::new(Vec::new());
    let (method, path) = (parsed.method.unwrap_or("GET"), parsed.path.unwrap_or("/"));
    *request.method_mut() = method.parse().unwrap_or(Method::GET);
    *request.uri_mut() = path.parse().unwrap_or_default();
    let mut length = 0;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) {
            if name == crate::http::header::CONTENT_LENGTH {
                let text = value.to_str().unwrap_or_default();
                length = text.parse().unwrap_or(0);
            }
            request.headers_mut().append(name, value);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    *request.body_mut() = body;
    Ok(Some(request))
}

fn send(mut stream: &TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} Scripted\r\nconnection: close\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = &reply.body;
    match reply.course {
        Course::Nothing => return Ok(()),
        Course::Garbage => stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?,
        Course::Half => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body[..body.len() / 2])?;
        }
        Course::Whole => {
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
        }
        Course::Drip(pause) => {
            stream.write_all(head.as_bytes())?;
            for byte in body {
                std::thread::sleep(pause);
                stream.write_all(std::slice::from_ref(byte))?;
            }
        }
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Error, Limits};
    use crate::testing::Native;
    use crate::{Host, http};

    fn get(server: &Server, path: &str) -> Request {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = format!("{}{path}", server.url())
            .parse()
            .expect("it is an address");
        request
    }

    #[test]
    fn what_is_sent_arrives_whole_in_both_directions() {
        let server = Server::scripted([Reply::text(201, "made").header("x-made", "yes")]);
        let mut request = get(&server, "/things?a=b");
        *request.method_mut() = Method::POST;
        *request.body_mut() = vec![b'x'; 100_000];
        let answer = Native::default()
            .send(&request, &Limits::default())
            .expect("it is answered");
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["x-made"], "yes");
        assert_eq!(answer.body(), b"made");
        let seen = server.requests();
        assert_eq!(
            (seen[0].method(), seen[0].uri().to_string()),
            (&Method::POST, "/things?a=b".into())
        );
        assert_eq!(seen[0].body().len(), 100_000);
    }

    #[test]
    fn each_fault_is_its_own_error() {
        let limits = Limits {
            first_byte: Duration::from_millis(300),
            between_bytes: Duration::from_millis(300),
            body: 1000,
            ..Limits::default()
        };
        type Check = fn(&Error) -> bool;
        let is_timeout: Check = |error| matches!(error, Error::TimedOut(_));
        let is_cut: Check = |error| matches!(error, Error::Cut);
        let is_large: Check = |error| *error == Error::TooLarge(1000);
        let whole = || Reply::text(200, "whole");
        let checks = [
            (whole().cut(), is_cut),
            (whole().lost(), is_cut),
            (whole().garbled(), is_cut),
            (whole().after(Duration::from_secs(1)), is_timeout),
            (whole().dripping(Duration::from_millis(400)), is_timeout),
            (Reply::text(200, &"x".repeat(2000)), is_large),
        ];
        for (reply, is_expected) in checks {
            let shown = format!("{reply:?}");
            let server = Server::scripted([reply]);
            let outcome = Native::default().send(&get(&server, "/"), &limits);
            let error = outcome.expect_err(&shown);
            assert!(is_expected(&error), "{shown:.120}: {error:?}");
        }
        let gone = get(&Server::scripted([]), "/");
        let outcome = Native::default().send(&gone, &limits);
        assert_eq!(outcome.expect_err("nobody listens"), Error::Refused);
    }

    #[test]
    fn several_are_under_way_at_once_and_no_more_than_eight() {
        let server = Server::answering(|request| {
            let wait = Duration::from_millis(200);
            Reply::text(200, request.uri().path()).after(wait)
        });
        let requests: Vec<_> = (0..12).map(|n| get(&server, &format!("/{n}"))).collect();
        let answers = Native::default().send_all(&requests, &Limits::default());
        let bodies: Vec<_> = answers
            .into_iter()
            .map(|answer: http::Result| answer.expect("each is answered").into_body())
            .collect();
        for (n, body) in bodies.iter().enumerate() {
            assert_eq!(*body, format!("/{n}").into_bytes());
        }
        let most = server.most_at_once();
        assert!((2..=8).contains(&most), "{most} at once");
    }
}
