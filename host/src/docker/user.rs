//! As whom a build container may run: pure.

use crate::config::usable::Docker;

/// Why not as this user; `None` if it may. Where the operator names a user or a list, a job has no other, and an image's
/// own user is always allowed.
pub(super) fn refusal(config: &Docker, user: Option<&str>) -> Option<String> {
    let user = user?;
    let allowed = match (&config.user, &config.allowed_users[..]) {
        (Some(only), []) => std::slice::from_ref(only),
        (_, listed) => listed,
    };
    if allowed.is_empty() || allowed.iter().any(|allowed| allowed == user) {
        return None;
    }
    Some(format!(
        "the job may not run as user {user:?}, only as {}; use one of these, or have allowed_users extended",
        allowed.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_or_a_configured_user_leaves_no_other() {
        let none = &[][..];
        for (configured, allowed, user, refused) in [
            (None, none, None, None),
            (None, none, Some("root"), None),
            (None, &["1000"], None, None),
            (None, &["root", "1000"], Some("1000"), None),
            (None, &["1000"], Some("root"), Some("only as 1000;")),
            (Some("ci"), none, Some("ci"), None),
            (Some("ci"), none, Some("root"), Some("only as ci;")),
            (
                Some("root"),
                &["ci", "1000"],
                Some("root"),
                Some("only as ci, 1000;"),
            ),
        ] {
            let config = Docker {
                user: configured.map(Into::into),
                allowed_users: allowed.iter().map(ToString::to_string).collect(),
                ..Docker::default()
            };
            let said = refusal(&config, user);
            let is_right = match (&said, refused) {
                (Some(said), Some(part)) => said.contains(part),
                (said, part) => said.is_none() && part.is_none(),
            };
            assert!(is_right, "{configured:?} {allowed:?} {user:?}: {said:?}");
        }
    }
}
