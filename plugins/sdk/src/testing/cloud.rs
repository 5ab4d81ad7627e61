//! A small cloud in memory, with a JSON API of its own: for the plugin template's tests, and whatever needs a cloud that
//! costs nothing.
//!
//! ```text
//! GET    /instances?group=G[&page=N]             200 {"instances": [I…], "limit": L, "next": N or null}
//! POST   /instances {group, request, ssh_key}    201 I                 409 at the limit
//! GET    /instances/ID                           200 I                 404
//! DELETE /instances/ID                           202                   404
//!
//! I = {id, group, request, state, created, address, port, user, listed}    state: booting ─ listed 6 times ─▶ running
//! ```
//! Every call needs `Authorization: Bearer` with the cloud's token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Reply, Server};
use crate::http::{Method, Request, header};

const PAGE: usize = 2;
/// How often an instance is listed before it runs: time that no test has to wait for.
const BOOT: u64 = 6;

/// Answers until it is dropped. Clones are not needed: it is asked over HTTP, and looked into here.
pub struct Cloud {
    server: Server,
    stock: Arc<Mutex<Stock>>,
}

struct Stock {
    token: String,
    limit: usize,
    made: usize,
    instances: Vec<Value>,
    faults: Vec<(usize, Reply)>,
    calls: usize,
    /// Before each answer begins.
    pause: Duration,
}

impl Cloud {
    /// A cloud that lets those with this token have `limit` instances at once.
    pub fn start(token: &str, limit: usize) -> Self {
        Self::start_at(0, token, limit)
    }

    /// The same on a port of choice, for a person to look at.
    pub fn start_at(port: u16, token: &str, limit: usize) -> Self {
        let stock = Arc::new(Mutex::new(Stock {
            token: token.to_owned(),
            limit,
            made: 0,
            instances: Vec::new(),
            faults: Vec::new(),
            calls: 0,
            pause: Duration::ZERO,
        }));
        let asked = stock.clone();
        let server = Server::listening_at(port, move |request| {
            let mut stock = asked.lock().unwrap_or_else(PoisonError::into_inner);
            stock.answer(request)
        });
        Self { server, stock }
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The server beneath: what was asked, how much at once.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The IDs of all instances there are.
    pub fn instances(&self) -> Vec<String> {
        let stock = self.stock();
        let ids = stock.instances.iter().filter_map(|one| one["id"].as_str());
        ids.map(str::to_owned).collect()
    }

    /// The call after so many more is acted upon, and answered with this instead.
    pub fn fail(&self, after: usize, reply: Reply) {
        let mut stock = self.stock();
        let call = stock.calls + after;
        stock.faults.push((call, reply));
    }

    /// Every answer begins so much later from now on; others are answered meanwhile.
    pub fn slow(&self, pause: Duration) {
        self.stock().pause = pause;
    }

    /// Answers until the process ends.
    pub fn stay(self) {
        self.server.stay();
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn answer(&mut self, request: &Request) -> Reply {
        let reply = self.acted_upon(request);
        let call = self.calls;
        self.calls += 1;
        let fault = self.faults.iter().find(|(at, _)| *at == call);
        match fault {
            Some((_, fault)) => fault.clone(),
            None => reply.after(self.pause),
        }
    }

    fn acted_upon(&mut self, request: &Request) -> Reply {
        let expected = format!("Bearer {}", self.token);
        let shown = request.headers().get(header::AUTHORIZATION);
        if shown.is_none_or(|shown| shown.as_bytes() != expected.as_bytes()) {
            return refusal(401, "unauthorized", "this token is not known");
        }
        let id = request.uri().path().strip_prefix("/instances/");
        match (request.method(), id) {
            (&Method::GET, None) => self.list(request.uri().query().unwrap_or_default()),
            (&Method::POST, None) => self.make(request.body()),
            (&Method::GET, Some(id)) => match self.place(id) {
                Some(place) => Reply::json(200, &self.instances[place]),
                None => unknown(id),
            },
            (&Method::DELETE, Some(id)) => match self.place(id) {
                Some(place) => {
                    self.instances.remove(place);
                    Reply::json(202, &json!({}))
                }
                None => unknown(id),
            },
            _ => refusal(405, "method-not-allowed", "there is no such call"),
        }
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.instances.iter().position(|one| one["id"] == id)
    }

    fn list(&mut self, query: &str) -> Reply {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let (mut group, mut page) = (String::new(), 0);
        for (name, value) in pairs {
            match &*name {
                "group" => group = value.into_owned(),
                "page" => page = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let all = self.instances.iter_mut();
        let members = all.filter(|one| one["group"] == group);
        let mut members: Vec<_> = members.skip(page * PAGE).collect();
        let next = (members.len() > PAGE).then(|| (page + 1).to_string());
        members.truncate(PAGE);
        let shown: Vec<Value> = members.iter().map(|one| (*one).clone()).collect();
        for one in members {
            let listed = one["listed"].as_u64().unwrap_or(0) + 1;
            one["listed"] = listed.into();
            if listed >= BOOT {
                one["state"] = "running".into();
            }
        }
        Reply::json(
            200,
            &json!({"instances": shown, "limit": self.limit, "next": next}),
        )
    }

    fn make(&mut self, body: &[u8]) -> Reply {
        let Ok(wish) = serde_json::from_slice::<Value>(body) else {
            return refusal(400, "no-json", "the body is no JSON");
        };
        if self.instances.len() >= self.limit {
            let message = format!("no more than {} instances", self.limit);
            return refusal(409, "limit-reached", &message);
        }
        self.made += 1;
        let instance = json!({
            "id": format!("vm-{}", self.made),
            "group": wish["group"],
            "request": wish["request"],
            "state": "booting",
            "created": 1_767_323_045_000_u64,
            "address": "127.0.0.1",
            "port": 22,
            "user": "ci",
            "listed": 0,
        });
        self.instances.push(instance.clone());
        Reply::json(201, &instance)
    }
}

fn unknown(id: &str) -> Reply {
    refusal(
        404,
        "unknown-instance",
        &format!("there is no instance {id}"),
    )
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"code": code, "message": message}))
}
