//! When a request is sent again, and how long to wait before: GitLab's word first, else ever longer.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response};
use rand::Rng;

const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// GitLab may ask for patience, but not for ever.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(3600);

/// The last answer, and whether any attempt met a status that is retried (what adaptive concurrency looks at).
#[derive(Debug)]
pub(super) struct Persisted {
    pub(super) response: Response<Bytes>,
    pub(super) retried: bool,
}

/// Sends until an answer is worth keeping or five were not. No answer at all is not retried here.
///
/// Cancel-safe between attempts; dropping it during one abandons that attempt.
pub(super) async fn persist<E, F>(mut send: impl FnMut() -> F) -> Result<Persisted, E>
where
    F: Future<Output = Result<Response<Bytes>, E>>,
{
    let mut attempt = 0;
    loop {
        let response = send().await?;
        let again = is_retried(response.status().as_u16());
        attempt += 1;
        if !again || attempt == ATTEMPTS {
            return Ok(Persisted {
                response,
                retried: again || attempt > 1,
            });
        }
        let wait = wait(
            attempt,
            response.headers(),
            SystemTime::now(),
            rand::rng().random(),
        );
        tracing::debug!(
            status = response.status().as_u16(),
            attempt,
            ?wait,
            "request to be sent again"
        );
        tokio::time::sleep(wait).await;
    }
}

fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// `attempt` counts from 1; `jitter` is in 0..1.
fn wait(attempt: u32, headers: &HeaderMap, now: SystemTime, jitter: f64) -> Duration {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let reset = text("RateLimit-ResetTime")
        .and_then(|time| {
            jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(time)
                .ok()
        })
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .and_then(|time| {
            (SystemTime::UNIX_EPOCH + Duration::from_secs(time))
                .duration_since(now)
                .ok()
        });
    let after = || text("Retry-After")?.parse().ok().map(Duration::from_secs);
    if let Some(asked) = reset.or_else(after) {
        return asked.min(LONGEST_ASKED_WAIT);
    }
    let whole = FIRST_WAIT
        .saturating_mul(1 << (attempt - 1).min(16))
        .min(LONGEST_WAIT);
    whole.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn waits_by_table() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480); // Wed, 21 Oct 2015 07:28:00 GMT
        for (attempt, pairs, expected) in [
            (1, &[][..], 100),
            (2, &[], 200),
            (4, &[], 800),
            (20, &[], 60_000),
            (1, &[("Retry-After", "7")], 7_000),
            (1, &[("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")], 100),
            (1, &[("Retry-After", "999999")], 3_600_000),
            (
                1,
                &[
                    ("RateLimit-ResetTime", "Wed, 21 Oct 2015 07:28:30 GMT"),
                    ("Retry-After", "7"),
                ],
                30_000,
            ),
            (
                1,
                &[
                    ("RateLimit-ResetTime", "Wed, 21 Oct 2015 07:27:30 GMT"),
                    ("Retry-After", "7"),
                ],
                7_000,
            ),
            (1, &[("RateLimit-ResetTime", "soon")], 100),
        ] {
            let found = wait(attempt, &headers(pairs), now, 1.0);
            assert_eq!(
                found,
                Duration::from_millis(expected),
                "{attempt} {pairs:?}"
            );
        }
        assert_eq!(
            wait(1, &HeaderMap::new(), now, 0.0),
            Duration::from_millis(50)
        );
    }

    async fn statuses(answers: &[u16]) -> (u16, bool, usize) {
        let mut sent = 0;
        let persisted = persist(|| {
            let status = answers[sent];
            sent += 1;
            std::future::ready(Ok::<_, String>(
                Response::builder()
                    .status(status)
                    .body(Bytes::new())
                    .unwrap(),
            ))
        })
        .await
        .unwrap();
        (
            persisted.response.status().as_u16(),
            persisted.retried,
            sent,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn statuses_by_table() {
        for status in [408, 429, 500, 502, 503, 504, 512, 599] {
            assert_eq!(statuses(&[status, 201]).await, (201, true, 2), "{status}");
        }
        for status in [
            200, 201, 202, 204, 400, 401, 403, 404, 409, 412, 416, 501, 505,
        ] {
            assert_eq!(statuses(&[status]).await, (status, false, 1), "{status}");
        }
        assert_eq!(statuses(&[500; 5]).await, (500, true, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_not_retried() {
        let mut sent = 0;
        let failed = persist(|| {
            sent += 1;
            std::future::ready(Err::<Response<Bytes>, _>("unreachable"))
        })
        .await;
        assert_eq!((failed.unwrap_err(), sent), ("unreachable", 1));
    }
}
