//! Allow-lists of images, and what a job is told whose image is on none.

use std::sync::Arc;

use crate::docker::glob;
use crate::docker::site::failed;
use crate::docker::stage::{Notes, StageFailure};

/// Whether an allow-list lets a job's image through; an empty list lets every image through.
pub(in crate::docker) fn is_allowed(
    image: &str,
    allowed: &[String],
    configured: Option<&str>,
) -> bool {
    allowed.is_empty()
        || configured == Some(image)
        || allowed.iter().any(|pattern| glob::matches(pattern, image))
}

/// Says in the job log what is allowed; `what` is the plural of the thing, `images` or `services`.
pub(in crate::docker) fn refusal(
    image: &str,
    what: &str,
    allowed: &[String],
    notes: &Arc<dyn Notes>,
) -> StageFailure {
    notes.info("");
    notes.error(&format!(
        "The {image:?} image is not present on list of allowed {what}:"
    ));
    for pattern in allowed {
        notes.info(&format!("- {pattern}"));
    }
    notes.info("");
    notes.info(&format!(
        "Use one of these, or ask whoever runs this runner to add yours to allowed_{what} in [runners.docker]"
    ));
    failed(format!(
        "disallowed image: {image:?} is not among the runner's allowed_{what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_image_is_always_allowed() {
        let only = ["ruby:*".to_owned()];
        assert!(is_allowed("ruby:3", &only, None));
        assert!(!is_allowed("node:3", &only, None));
        assert!(is_allowed("node:3", &only, Some("node:3")));
        assert!(is_allowed("node:3", &[], None));
    }
}
