//! The [`Host`] inside the sandbox: the contract's imports, and WASI's clock, environment and HTTP.

mod flight;

use std::time::{Duration, SystemTime};

use self::flight::{Flight, Progress};
use crate::bindings::fleetling::provider::{kv, log, secrets};
use crate::http::{Error, Limits, Request};
use crate::{Host, KvProblem, Level, SecretProblem, http};

/// What the host lets one plugin have in flight; more would wait there, with their clocks running.
const AT_ONCE: usize = 8;

/// The host that runs this component.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox;

impl Host for Sandbox {
    fn send(&self, request: &Request, limits: &Limits) -> http::Result {
        let outcome = self.send_all(std::slice::from_ref(request), limits).pop();
        outcome.unwrap_or_else(|| Err(Error::Other("there is no answer".into())))
    }

    fn send_all(&self, requests: &[Request], limits: &Limits) -> Vec<http::Result> {
        let mut outcomes: Vec<Option<http::Result>> = requests.iter().map(|_| None).collect();
        let mut next = requests.iter().enumerate();
        let mut flights: Vec<(usize, Flight)> = Vec::new();
        loop {
            while flights.len() < AT_ONCE
                && let Some((n, request)) = next.next()
            {
                match Flight::start(request, limits) {
                    Ok(flight) => flights.push((n, flight)),
                    Err(error) => outcomes[n] = Some(Err(error)),
                }
            }
            if flights.is_empty() {
                break;
            }
            let ready = flight::ready(&flights);
            let mut number = 0;
            let moved = flights.into_iter().filter_map(|(n, flight)| {
                number += 1;
                if !ready.contains(&(number - 1)) {
                    return Some((n, flight));
                }
                match flight.advance() {
                    Progress::On(flight) => Some((n, flight)),
                    Progress::Ended(outcome) => {
                        outcomes[n] = Some(outcome);
                        None
                    }
                }
            });
            flights = moved.collect();
        }
        let answered = |outcome: Option<http::Result>| {
            outcome.unwrap_or_else(|| Err(Error::Other("there is no answer".into())))
        };
        outcomes.into_iter().map(answered).collect()
    }

    fn secret(&self, name: &str) -> Result<Vec<u8>, SecretProblem> {
        secrets::get(name)
    }

    fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, KvProblem> {
        kv::get(key)
    }

    fn swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, KvProblem> {
        kv::swap(key, expected, new)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn log(&self, level: Level, message: &str, fields: &[(&str, String)]) {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        log::write(level, message, &fields);
    }
}
