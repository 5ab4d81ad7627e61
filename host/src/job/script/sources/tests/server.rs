//! A git server for tests: files of bare repositories over HTTP, for who has the job's token.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;

/// Serves until the process ends; its port is its own.
pub(super) struct Server {
    /// `http://127.0.0.1:port`.
    pub(super) address: String,
    /// Header lines of every request that was let in.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (root, told) = (root.to_owned(), heard.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (root, told) = (root.clone(), told.clone());
                thread::spawn(move || serve(&stream.unwrap(), &root, &told));
            }
        });
        Self { address, heard }
    }

    pub(super) fn heard(&self, line: &str) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.iter().any(|l| l.eq_ignore_ascii_case(line))
    }
}

/// One request a connection: git asks again on a new one.
fn serve(stream: &TcpStream, root: &Path, told: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty());
    let Some(request) = lines.next() else {
        return;
    };
    let headers: Vec<_> = lines.collect();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let login = base64::engine::general_purpose::STANDARD.encode("gitlab-ci-token:job-token");
    let authorized = headers
        .iter()
        .any(|line| line.eq_ignore_ascii_case(&format!("Authorization: Basic {login}")));
    let file: PathBuf = root.join(path.trim_start_matches('/'));
    let (status, content) = match std::fs::read(file) {
        _ if !authorized => (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"",
            Vec::new(),
        ),
        Ok(content) => ("200 OK", content),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    if authorized {
        told.lock().unwrap().extend(headers);
    }
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let mut stream = stream;
    // Who asked may have heard enough.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&content);
}
