//! Answers that a hostile provider could give, made from any bytes, and what must hold of each once it is converted.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::*;

/// Panics when a promise about converted answers is broken. Bytes that run out leave the rest of an answer empty.
pub fn answer(bytes: &[u8]) {
    let mut from = Unstructured::new(bytes);
    let Ok(kind) = from.int_in_range(0..=3) else {
        return;
    };
    // What cannot be made of these bytes is no answer.
    let _ = match kind {
        0 => any_snapshot(&mut from).map(holds_of_snapshot),
        1 => any_problem(&mut from).map(|told| holds_of_problem(&problem(told))),
        2 => any_connection(&mut from).map(holds_of_connection),
        _ => any_group(&mut from).map(|told| {
            let told = group(told);
            told.owner.iter().for_each(|owner| holds_of_text(owner));
            told.notices.iter().for_each(holds_of_notice);
        }),
    };
}

fn holds_of_text(text: &str) {
    assert!(text.len() <= TEXT_BYTES + '…'.len_utf8());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn holds_of_notice(notice: &Notice) {
    holds_of_text(&notice.subject);
    holds_of_text(&notice.message);
}

fn holds_of_problem(problem: &Problem) {
    holds_of_text(&problem.message);
    let parts = problem.subject.iter().chain(&problem.code);
    parts.for_each(|part| holds_of_text(part));
    assert!(!problem.to_string().contains('\n'));
}

fn holds_of_snapshot(told: wit::Snapshot) {
    if let Some(why) = unusable(&told) {
        holds_of_text(&why);
        return;
    }
    let mut listed: Vec<(String, String)> = Vec::new();
    for instance in &told.instances {
        if !listed.iter().any(|(id, _)| *id == instance.id) {
            listed.push((instance.id.clone(), instance.memo.clone()));
        }
    }
    let kept = snapshot(told);
    // Complete, and as it was given: an instance that is listed and lost would be started anew.
    let given_back = |of: &Listed| (of.id.0.clone(), of.memo.clone());
    let given_back: Vec<_> = kept.instances.iter().map(given_back).collect();
    assert_eq!(given_back, listed);
    for (id, memo) in listed {
        assert!(memo.len() <= TEXT_BYTES && !id.is_empty() && id.len() <= ID_BYTES);
        holds_of_text(&id);
    }
    let reasons = kept.instances.iter().filter_map(|of| of.reason.as_ref());
    reasons.for_each(holds_of_problem);
    kept.notices.iter().for_each(holds_of_notice);
    kept.owner.iter().for_each(|owner| holds_of_text(owner));
}

fn holds_of_connection(told: wit::Connection) {
    let (addresses, keys) = (told.addresses.len(), told.host_keys.len());
    let kept = connection(told);
    assert_eq!(
        (kept.addresses.len(), kept.host_keys.len()),
        (addresses, keys)
    );
    if let Login::Password(password) = &kept.login {
        // A password shows in no log, however it is written.
        assert_eq!(format!("{password:?}"), "Password(…)");
    }
}

type Made<T> = Result<T>;

/// Longer than any bytes at hand, now and then: lengths are where conversions break.
fn text(from: &mut Unstructured<'_>) -> Made<String> {
    let text = String::arbitrary(from)?;
    Ok(match from.int_in_range(0..=15)? {
        0 => text.repeat(1 + 8 * TEXT_BYTES / text.len().max(1)),
        _ => text,
    })
}

fn maybe<T>(
    from: &mut Unstructured<'_>,
    make: impl Fn(&mut Unstructured<'_>) -> Made<T>,
) -> Made<Option<T>> {
    let is_there = bool::arbitrary(from)?;
    is_there.then(|| make(from)).transpose()
}

fn some<T>(
    from: &mut Unstructured<'_>,
    make: impl Fn(&mut Unstructured<'_>) -> Made<T>,
) -> Made<Vec<T>> {
    let count = from.int_in_range(0..=5)?;
    (0..count).map(|_| make(from)).collect()
}

fn extras(from: &mut Unstructured<'_>) -> Made<Vec<(String, String)>> {
    some(from, |from| {
        let key = *from.choose(&["generation", "arch", "type", "x"])?;
        Ok((key.to_owned(), text(from)?))
    })
}

fn number<T: for<'a> Arbitrary<'a>>(from: &mut Unstructured<'_>) -> Made<T> {
    T::arbitrary(from)
}

fn any_problem(from: &mut Unstructured<'_>) -> Made<wit::Problem> {
    use wit::ProblemKind as K;
    Ok(wit::Problem {
        kind: *from.choose(&[
            K::Unauthenticated,
            K::Throttled,
            K::OutOfCapacity,
            K::InvalidConfig,
            K::Other,
        ])?,
        message: text(from)?,
        subject: maybe(from, text)?,
        code: maybe(from, text)?,
        retry_after_ms: maybe(from, number)?,
        extras: extras(from)?,
    })
}

fn any_notice(from: &mut Unstructured<'_>) -> Made<wit::Notice> {
    Ok(wit::Notice {
        subject: text(from)?,
        message: text(from)?,
    })
}

fn any_instance(from: &mut Unstructured<'_>) -> Made<wit::Instance> {
    use wit::InstanceState as S;
    Ok(wit::Instance {
        id: text(from)?,
        state: *from.choose(&[S::Creating, S::Running, S::Deleted, S::Failed, S::Unknown])?,
        created_at: maybe(from, number)?,
        pool: maybe(from, text)?,
        generation: maybe(from, text)?,
        interruption: maybe(from, |from| {
            Ok(wit::Interruption {
                kind: wit::InterruptionKind::Reclaim,
                at: maybe(from, number)?,
            })
        })?,
        reason: maybe(from, any_problem)?,
        request: maybe(from, text)?,
        memo: text(from)?,
        extras: extras(from)?,
    })
}

fn any_snapshot(from: &mut Unstructured<'_>) -> Made<wit::Snapshot> {
    Ok(wit::Snapshot {
        instances: some(from, any_instance)?,
        target: maybe(from, number)?,
        max_size: maybe(from, number)?,
        owner: maybe(from, text)?,
        notices: some(from, any_notice)?,
        extras: extras(from)?,
    })
}

fn any_group(from: &mut Unstructured<'_>) -> Made<wit::Group> {
    Ok(wit::Group {
        id: text(from)?,
        max_size: maybe(from, number)?,
        owner: maybe(from, text)?,
        notices: some(from, any_notice)?,
        extras: extras(from)?,
    })
}

fn any_connection(from: &mut Unstructured<'_>) -> Made<wit::Connection> {
    let login = match from.int_in_range(0..=2)? {
        0 => wit::Login::PublicKey,
        1 => wit::Login::Password(text(from)?),
        _ => wit::Login::Sealed(wit::SealedPassword {
            ciphertext: Vec::arbitrary(from)?,
            cipher: wit::Cipher::RsaOaepSha256,
        }),
    };
    Ok(wit::Connection {
        os: maybe(from, text)?,
        arch: maybe(from, text)?,
        protocol: None,
        username: maybe(from, text)?,
        login,
        addresses: some(from, |from| {
            Ok(wit::Address {
                reach: wit::Reach::External,
                host: text(from)?,
                port: maybe(from, number)?,
            })
        })?,
        host_keys: some(from, text)?,
        valid_until: maybe(from, number)?,
        extras: extras(from)?,
    })
}
