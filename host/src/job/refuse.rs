//! Parts of a payload that cannot be honoured yet: they fail the job at once, by name, or are warned about.

use crate::coordinator::payload::{Image, Job};

/// Why the job cannot run here: a sentence that names every part. `None` if it can.
pub fn refusal(job: &Job) -> Option<String> {
    let mut parts = Vec::new();
    if !job.artifacts.is_empty() {
        parts.push("artifacts".into());
    }
    let with_artifacts: Vec<_> = job
        .dependencies
        .iter()
        .filter(|d| {
            let file = d.artifacts_file.as_ref().and_then(|f| f.get("filename"));
            file.and_then(|name| name.as_str())
                .is_some_and(|name| !name.is_empty())
        })
        .map(|d| d.name.as_str())
        .collect();
    if !with_artifacts.is_empty() {
        parts.push(format!(
            "dependencies with artifacts ({})",
            with_artifacts.join(", ")
        ));
    }
    if let Some(secrets) = job.secrets.as_ref().filter(|secrets| !secrets.is_empty()) {
        let names: Vec<_> = secrets.keys().map(String::as_str).collect();
        parts.push(format!("secrets ({})", names.join(", ")));
    }
    if job
        .run
        .as_ref()
        .is_some_and(|run| !matches!(run.trim(), "" | "null" | "[]"))
    {
        parts.push("run".into());
    }
    if !job.inputs.is_empty() {
        let names: Vec<_> = job.inputs.iter().map(|i| i.key.as_str()).collect();
        parts.push(format!("inputs ({})", names.join(", ")));
    }
    parts.extend(unknown_executor_options(job));
    if parts.is_empty() {
        return None;
    }
    Some(format!(
        "this job needs what Fleetling cannot do yet: {}. Remove it from the job, or run the job on another runner",
        parts.join("; ")
    ))
}

/// What is left out without failing the job.
pub fn warnings(job: &Job) -> Vec<String> {
    if job.cache.is_empty() {
        return Vec::new();
    }
    vec!["cache is not supported yet: this job runs without restoring or saving one".into()]
}

fn unknown_executor_options(job: &Job) -> Vec<String> {
    let of_image = job.image.iter().map(|image| ("image", image));
    let of_services = job.services.iter().map(|image| ("services", image));
    of_image
        .chain(of_services)
        .flat_map(|(part, image)| unknown_options(part, image))
        .collect()
}

fn unknown_options(part: &str, image: &Image) -> Vec<String> {
    let mut unknown = Vec::new();
    let options = image.executor_opts.as_ref().and_then(|o| o.as_object());
    for (executor, of_executor) in options.into_iter().flatten() {
        match executor.as_str() {
            // Meant for another executor.
            "kubernetes" => {}
            "docker" => {
                let keys = of_executor.as_object().into_iter().flat_map(|o| o.keys());
                let others = keys.filter(|key| !matches!(key.as_str(), "platform" | "user"));
                unknown.extend(others.map(|key| format!("{part}:docker:{key}")));
            }
            other => unknown.push(format!("{part}:{other}")),
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn job(part: &str) -> Job {
        serde_json::from_str(&format!(r#"{{"id":1,"token":"t"{part}}}"#)).unwrap()
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let cases = [
            (
                r#","services":[{"name":"a","executor_opts":{"docker":{"user":"1","size":2}}}]"#,
                "services:docker:size",
            ),
            (r#","artifacts":[{"paths":["a"]}]"#, "artifacts"),
            (
                r#","dependencies":[{"id":1,"name":"build","artifacts_file":{"filename":"a.zip"}}]"#,
                "dependencies with artifacts (build)",
            ),
            (r#","secrets":{"KEY":{"vault":{}}}"#, "secrets (KEY)"),
            (r#","run":"[{\"name\":\"x\"}]""#, "run"),
            (
                r#","inputs":[{"key":"env","value":{"type":"string","content":"a"}}]"#,
                "inputs (env)",
            ),
            (
                r#","image":{"name":"a","executor_opts":{"docker":{"user":"1","speed":2}}}"#,
                "image:docker:speed",
            ),
        ];
        for (part, named) in cases {
            let refusal = refusal(&job(part)).unwrap();
            assert!(
                refusal.contains(&format!("cannot do yet: {named}. Remove")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn what_is_empty_or_only_a_loss_of_speed_is_no_refusal() {
        let parts = r#","services":[{"name":"redis"}],"artifacts":null,"secrets":{},"dependencies":[{"id":1,"name":"a"}]"#;
        assert_eq!(refusal(&job(parts)), None);
        let cached = job(r#","cache":[{"key":"a"}]"#);
        assert_eq!(refusal(&cached), None);
        assert_eq!(warnings(&cached).len(), 1);
        assert!(warnings(&job("")).is_empty());
    }
}
