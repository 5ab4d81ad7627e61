//! A provider that asks nobody: what can be tried on it is, and the rest is told from what was merely not tried.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_has_nothing_to_be_tried_on_is_inapplicable() {
    let lines: Vec<_> = checks(Flaw::AsksNobody)
        .await
        .iter()
        .filter(|check| check.verdict != Verdict::Passed)
        .map(ToString::to_string)
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    inapplicable connect-info before running is not-ready: its instances run from the beginning
    inapplicable answers of status 429 are survived: no call makes a request
    inapplicable answers of status 500 are survived: no call makes a request
    inapplicable garbage for an answer is survived: no call makes a request
    inapplicable empty answers are survived: no call makes a request
    inapplicable half an answer is survived: no call makes a request
    inapplicable a connection lost within an answer is survived: no call makes a request
    inapplicable slow answers are waited for: no call makes a request
    inapplicable a cloud that cannot be reached is survived: no call makes a request
    inapplicable a connection lost before the answer is survived: no call makes a request
    ");
}
