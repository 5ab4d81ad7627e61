//! GitLab Runner's feature flags: their names and defaults, and what each does here. Pure.

/// One flag, as GitLab Runner 19.4 knows it.
pub struct FeatureFlag {
    pub name: &'static str,
    /// GitLab Runner's own default.
    pub default: bool,
    pub effect: Effect,
}

/// What a flag changes here; the words are for README and `config lint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Does what GitLab documents.
    Honoured,
    /// Accepted, and nothing comes of it: why.
    Without(&'static str),
}

pub const BASH_EXIT_CODE_CHECK: &str = "FF_ENABLE_BASH_EXIT_CODE_CHECK";
pub const DISABLE_UMASK: &str = "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR";
pub const EXPONENTIAL_BACKOFF: &str = "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY";
pub const FLEETING_HEARTBEATS: &str = "FF_USE_FLEETING_ACQUIRE_HEARTBEATS";
pub const GITALY_CORRELATION_ID: &str = "FF_USE_GITALY_CORRELATION_ID";
pub const GIT_BUNDLE_URIS: &str = "FF_USE_GIT_BUNDLE_URIS";
pub const GIT_NATIVE_CLONE: &str = "FF_USE_GIT_NATIVE_CLONE";
pub const GIT_PROACTIVE_AUTH: &str = "FF_USE_GIT_PROACTIVE_AUTH";
pub const GIT_URLS_WITHOUT_TOKENS: &str = "FF_GIT_URLS_WITHOUT_TOKENS";
pub const INIT: &str = "FF_USE_INIT_WITH_DOCKER_EXECUTOR";
pub const JOB_CLEANUP: &str = "FF_ENABLE_JOB_CLEANUP";
pub const LEGACY_BASH_EVAL: &str = "FF_USE_LEGACY_BASH_EVAL";
pub const LOG_IMAGES: &str = "FF_LOG_IMAGES_CONFIGURED_FOR_JOB";
pub const MASK_ALL_DEFAULT_TOKENS: &str = "FF_MASK_ALL_DEFAULT_TOKENS";
pub const NATIVE_CONTAINER_STOP: &str = "FF_USE_NATIVE_CONTAINER_STOP";
pub const NETWORK_PER_BUILD: &str = "FF_NETWORK_PER_BUILD";
pub const SCRIPT_SECTIONS: &str = "FF_SCRIPT_SECTIONS";
pub const TIMESTAMPS: &str = "FF_TIMESTAMPS";

const ARTIFACTS: &str = "there are no artifacts yet";
const CACHE: &str = "there is no cache yet";
const KUBERNETES: &str = "it concerns the Kubernetes executor";
const MANAGER: &str = "the manager does this in its own way";
const STEPS: &str = "there is no step runner";
const WINDOWS: &str = "it concerns Windows and PowerShell";

const fn honoured(name: &'static str, default: bool) -> FeatureFlag {
    FeatureFlag {
        name,
        default,
        effect: Effect::Honoured,
    }
}

const fn without(name: &'static str, default: bool, why: &'static str) -> FeatureFlag {
    FeatureFlag {
        name,
        default,
        effect: Effect::Without(why),
    }
}

/// Every flag of GitLab Runner 19.4, by name.
pub const ALL: &[FeatureFlag] = &[
    without("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", false, CACHE),
    without("FF_CONCRETE", false, STEPS),
    without(
        "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
        false,
        "tokens are not rotated",
    ),
    without("FF_DISABLE_POWERSHELL_STDIN", false, WINDOWS),
    honoured(DISABLE_UMASK, false),
    without(
        "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
        false,
        KUBERNETES,
    ),
    honoured(BASH_EXIT_CODE_CHECK, false),
    honoured(JOB_CLEANUP, false),
    without(
        "FF_ENABLE_JOB_INPUTS_INTERPOLATION",
        true,
        "there are no job inputs yet; a job that has some fails at once",
    ),
    without("FF_EXPORT_HIGH_CARDINALITY_METRICS", false, MANAGER),
    honoured(GIT_URLS_WITHOUT_TOKENS, false),
    without("FF_HASH_CACHE_KEYS", false, CACHE),
    without("FF_KUBERNETES_HONOR_ENTRYPOINT", false, KUBERNETES),
    honoured(LOG_IMAGES, false),
    honoured(MASK_ALL_DEFAULT_TOKENS, true),
    honoured(NETWORK_PER_BUILD, false),
    without(
        "FF_POSIXLY_CORRECT_ESCAPES",
        false,
        "scripts are always quoted as POSIX has it",
    ),
    without("FF_PRINT_POD_EVENTS", false, KUBERNETES),
    without(
        "FF_RESOLVE_FULL_TLS_CHAIN",
        false,
        "the chain that jobs get always ends at a root that this machine trusts, and no issuer is fetched from elsewhere",
    ),
    honoured(SCRIPT_SECTIONS, false),
    without("FF_SCRIPT_TO_STEP_MIGRATION", false, STEPS),
    without(
        "FF_SECRET_RESOLVING_FAILS_IF_MISSING",
        true,
        "there are no secrets yet",
    ),
    without(
        "FF_SUSPENDABLE_ENVIRONMENTS",
        false,
        "nothing is suspended yet",
    ),
    without("FF_TEST_FEATURE", false, "GitLab Runner tests itself by it"),
    honoured(TIMESTAMPS, true),
    without("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", true, MANAGER),
    without("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", false, KUBERNETES),
    without("FF_USE_DIRECT_DOWNLOAD", true, ARTIFACTS),
    without(
        "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO",
        true,
        "the way to Docker's socket is found by trying: forwarded, else `docker system dial-stdio`",
    ),
    without(
        "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR",
        false,
        KUBERNETES,
    ),
    without("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL", false, MANAGER),
    honoured(EXPONENTIAL_BACKOFF, true),
    without("FF_USE_FASTZIP", true, ARTIFACTS),
    honoured(FLEETING_HEARTBEATS, false),
    honoured(GITALY_CORRELATION_ID, true),
    honoured(GIT_BUNDLE_URIS, true),
    honoured(GIT_NATIVE_CLONE, false),
    honoured(GIT_PROACTIVE_AUTH, false),
    honoured(INIT, false),
    without(
        "FF_USE_JOB_ROUTER",
        false,
        "GitLab is asked for jobs directly",
    ),
    honoured(LEGACY_BASH_EVAL, false),
    without("FF_USE_LEGACY_GCS_CACHE_ADAPTER", false, CACHE),
    without(
        "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY",
        false,
        KUBERNETES,
    ),
    without("FF_USE_LEGACY_S3_CACHE_ADAPTER", false, CACHE),
    honoured(NATIVE_CONTAINER_STOP, false),
    without("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false, ARTIFACTS),
    without("FF_USE_PARALLEL_CACHE_TRANSFER", false, CACHE),
    without("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true, KUBERNETES),
    without("FF_USE_POWERSHELL_PATH_RESOLVER", false, WINDOWS),
    without("FF_USE_WINDOWS_JOB_OBJECT", false, WINDOWS),
    without("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", false, WINDOWS),
    without("FF_WAIT_FOR_POD_TO_BE_REACHABLE", false, KUBERNETES),
];

/// The flag of this name, or `None` if GitLab Runner has no such flag.
pub fn find(name: &str) -> Option<&'static FeatureFlag> {
    ALL.iter().find(|flag| flag.name == name)
}

/// Why a flag that is set changes nothing, as a sentence's end; `None` where it has an effect.
pub fn why_without_effect(name: &str) -> Option<String> {
    match find(name) {
        Some(FeatureFlag {
            effect: Effect::Honoured,
            ..
        }) => None,
        Some(FeatureFlag {
            effect: Effect::Without(why),
            ..
        }) => Some(format!("has no effect here: {why}")),
        None => Some("is no feature flag of GitLab Runner 19.4 and has no effect".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_sorted_and_each_is_there_once() {
        for pair in ALL.windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
        }
        assert_eq!(ALL.len(), 52);
    }

    #[test]
    fn the_manual_lists_every_flag_where_it_belongs() {
        let manual = include_str!("../../../README.md");
        let (_, section) = manual
            .split_once("\n## Feature flags\n")
            .unwrap_or_default();
        let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
        let (honoured, others) = section.split_once("Without effect").unwrap_or_default();
        for flag in ALL {
            let named = format!("`{}`", flag.name);
            let (here, there) = match flag.effect {
                Effect::Honoured => (honoured, others),
                Effect::Without(_) => (others, honoured),
            };
            assert!(here.contains(&named), "{named} is missing in README.md");
            assert!(!there.contains(&named), "{named} is in both lists");
        }
    }

    #[test]
    fn what_has_no_effect_says_why() {
        assert_eq!(why_without_effect(SCRIPT_SECTIONS), None);
        assert_eq!(
            why_without_effect("FF_PRINT_POD_EVENTS").as_deref(),
            Some("has no effect here: it concerns the Kubernetes executor")
        );
        assert_eq!(
            why_without_effect("FF_SKIP_NOOP").as_deref(),
            Some("is no feature flag of GitLab Runner 19.4 and has no effect")
        );
    }
}
