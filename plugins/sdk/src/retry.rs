//! Trying again: what is safe to repeat, as long as the cloud asks, and no longer than the host would do it better.

use std::time::Duration;

use crate::http::{Error, Limits, Method, Request, Response, StatusCode, retry_after_at};
use crate::{Host, Level, Problem, ProblemKind, http};

/// Tries in all: one hiccup and one busy moment are ridden out here, more is the host's back-off.
const TRIES: u32 = 3;
/// The first wait; each further one doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A cloud that asks for more is left to the host, which can wait without holding a call open.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Whenever that may help: it reads, or doing it twice is doing it once.
    Harmless,
    /// Only if surely nothing was done: nobody was reached, or the cloud said that it was asked too often.
    IfUntouched,
}

impl Repeat {
    /// What HTTP itself promises of a method. An API's own token for repetitions is better knowledge than this.
    pub fn of(method: &Method) -> Self {
        if method.is_idempotent() {
            Self::Harmless
        } else {
            Self::IfUntouched
        }
    }

    /// Whether this outcome is worth another try.
    fn allows(self, outcome: &http::Result) -> bool {
        match (self, outcome) {
            (_, Ok(response)) if response.status() == StatusCode::TOO_MANY_REQUESTS => true,
            (Self::Harmless, Ok(response)) => response.status().is_server_error(),
            (Self::IfUntouched, Ok(_)) => false,
            (_, Err(Error::Denied | Error::Malformed(_) | Error::TooLarge(_))) => false,
            (Self::Harmless, Err(_)) => true,
            (Self::IfUntouched, Err(error)) => !error.outcome_unknown(),
        }
    }
}

/// The waits of one call.
struct Pauses {
    attempt: u32,
    wait: Duration,
}

impl Pauses {
    fn new() -> Self {
        Self {
            attempt: 1,
            wait: FIRST_WAIT,
        }
    }

    /// How long to wait before the next try; none: there is none.
    fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let pause = asked.unwrap_or(self.wait);
        if self.attempt == TRIES || pause > LONGEST_WAIT {
            return None;
        }
        self.attempt += 1;
        self.wait *= 2;
        Some(pause)
    }
}

/// Calls `read` until it succeeds, fails for a reason that waiting does not mend, or three tries are used up. Never for
/// anything that changes the cloud, unless doing it twice is doing it once.
///
/// Waits as long as the problem's `retry_after_ms` says; if that is more than 2 s, returns at once.
pub fn read<T>(
    host: &dyn Host,
    mut read: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let mut pauses = Pauses::new();
    loop {
        let problem = match read() {
            Ok(value) => return Ok(value),
            Err(problem) => problem,
        };
        let is_passing = matches!(
            problem.kind,
            ProblemKind::Throttled | ProblemKind::Unavailable
        );
        let asked = problem.retry_after_ms.map(Duration::from_millis);
        let Some(pause) = is_passing.then(|| pauses.next(asked)).flatten() else {
            return Err(problem);
        };
        say(host, pauses.attempt - 1, pause, problem.message);
        host.sleep(pause);
    }
}

/// Sends until there is an answer that stands, or three tries are used up; the last outcome is returned as it is.
///
/// Waits as long as `Retry-After` says; if that is more than 2 s, returns at once.
pub fn send(host: &dyn Host, request: &Request, limits: &Limits, repeat: Repeat) -> http::Result {
    send_all(host, std::slice::from_ref(request), limits, repeat)
        .pop()
        .unwrap_or_else(|| Err(Error::Other("the host gave no answer".into())))
}

/// The same for several, side by side: one outcome for each, in their order. Those that are tried again go side by side
/// again, after the longest of their waits.
pub fn send_all(
    host: &dyn Host,
    requests: &[Request],
    limits: &Limits,
    repeat: Repeat,
) -> Vec<http::Result> {
    let mut outcomes = host.send_all(requests, limits);
    let mut pauses = Pauses::new();
    loop {
        let now = host.now();
        let again: Vec<usize> = (0..outcomes.len())
            .filter(|&n| repeat.allows(&outcomes[n]))
            .collect();
        let asked = again
            .iter()
            .filter_map(|&n| outcomes[n].as_ref().ok())
            .filter_map(|response| retry_after_at(response, now))
            .max();
        let Some(first) = again.first() else {
            return outcomes;
        };
        let Some(pause) = pauses.next(asked) else {
            return outcomes;
        };
        say(host, pauses.attempt - 1, pause, told(&outcomes[*first]));
        host.sleep(pause);
        let repeated: Vec<Request> = again.iter().map(|&n| requests[n].clone()).collect();
        for (n, outcome) in again.into_iter().zip(host.send_all(&repeated, limits)) {
            outcomes[n] = outcome;
        }
    }
}

fn told(outcome: &Result<Response, Error>) -> String {
    match outcome {
        Ok(response) => response.status().to_string(),
        Err(error) => error.to_string(),
    }
}

fn say(host: &dyn Host, attempt: u32, pause: Duration, problem: String) {
    host.log(
        Level::Debug,
        "no success, trying again",
        &[
            ("problem", problem),
            ("attempt", attempt.to_string()),
            ("wait_ms", pause.as_millis().to_string()),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    fn failing_with(problem: Problem) -> (u32, Vec<Duration>) {
        let host = Script::default();
        let mut calls = 0;
        let outcome: Result<(), _> = read(&host, || {
            calls += 1;
            Err(problem.clone())
        });
        assert_eq!(outcome, Err(problem));
        (calls, host.slept())
    }

    #[test]
    fn a_passing_problem_is_tried_three_times_with_growing_waits() {
        let (calls, slept) = failing_with(Problem::new(ProblemKind::Unavailable, "503"));
        assert_eq!(calls, 3);
        assert_eq!(
            slept,
            [Duration::from_millis(200), Duration::from_millis(400)]
        );
    }

    #[test]
    fn what_waiting_does_not_mend_is_returned_at_once() {
        let (calls, slept) = failing_with(Problem::new(ProblemKind::Unauthenticated, "no"));
        assert_eq!((calls, slept.len()), (1, 0));
    }

    #[test]
    fn the_clouds_own_wait_is_kept_or_left_to_the_host() {
        let soon = Problem::new(ProblemKind::Throttled, "slow down")
            .retry_after(Some(Duration::from_secs(1)));
        assert_eq!(failing_with(soon).1, [Duration::from_secs(1); 2]);
        let late = Problem::new(ProblemKind::Throttled, "slow down")
            .retry_after(Some(Duration::from_secs(30)));
        assert_eq!(failing_with(late).0, 1);
    }

    fn a(method: Method) -> Request {
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method;
        request
    }

    #[test]
    fn only_what_is_safe_to_repeat_is_repeated() {
        // Method, first outcome, whether it is sent again.
        for (method, first, is_repeated) in [
            (Method::GET, Ok(503), true),
            (Method::DELETE, Ok(500), true),
            (Method::GET, Ok(404), false),
            (Method::POST, Ok(503), false),
            (Method::POST, Ok(429), true),
            (Method::GET, Err(Error::Cut), true),
            (Method::POST, Err(Error::Cut), false),
            (Method::POST, Err(Error::Refused), true),
            (Method::GET, Err(Error::Denied), false),
        ] {
            let host = Script::default();
            match &first {
                Ok(status) => host.answer(*status, ""),
                Err(error) => host.fail(error.clone()),
            }
            host.answer(200, "");
            let repeat = Repeat::of(&method);
            let outcome = send(&host, &a(method.clone()), &Limits::default(), repeat);
            let is_good = outcome.is_ok_and(|response| response.status() == 200);
            assert_eq!(is_good, is_repeated, "{method} after {first:?}");
        }
    }

    #[test]
    fn of_several_only_the_failed_one_is_sent_again_after_the_wait_it_was_told() {
        let host = Script::default();
        host.answer(200, "one");
        host.answer_with(429, &[("retry-after", "1")], "");
        host.answer(200, "three");
        host.answer(200, "two");
        let requests = [a(Method::GET), a(Method::GET), a(Method::GET)];
        let outcomes = send_all(&host, &requests, &Limits::default(), Repeat::Harmless);
        let bodies: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| outcome.expect("each is answered").into_body())
            .collect();
        assert_eq!(bodies, [&b"one"[..], b"two", b"three"]);
        assert_eq!(host.slept(), [Duration::from_secs(1)]);
        assert_eq!(host.requests().len(), 4);
    }
}
