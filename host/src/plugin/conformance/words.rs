//! What a plugin says of itself, and what it does with its configuration: needs no cloud.

use serde_json::{Value, json};

use super::{Outcome, Trial, failed, inapplicable};
use crate::fleet::group::ProblemKind;
use crate::plugin::actor::NotBuilt;
use crate::plugin::bindings::Description;
use crate::plugin::grants::Template;

impl Trial<'_> {
    pub(super) async fn describe_is_pure(&mut self) -> Outcome {
        let said = self.subject.describe(3).await.map_err(failed)?;
        let again = self.subject.describe(1).await.map_err(failed)?;
        if said.iter().chain(&again).any(|one| *one != said[0]) {
            return Err(failed("it does not always answer the same"));
        }
        if let Some(asked) = self.wire.asked().first() {
            return Err(failed(format!(
                "it asked for {asked}; next: describe from what is compiled in"
            )));
        }
        match self.wire.denied().first() {
            Some((what, _)) => Err(failed(format!(
                "it asked the host: {what}; next: describe from what is compiled in"
            ))),
            None => Ok(()),
        }
    }

    pub(super) async fn description_is_usable(&mut self) -> Outcome {
        let description = self.description().await?;
        let name = &description.name;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(failed(format!(
                "its name is {name:?}; next: lower-case letters, digits and `-`"
            )));
        }
        let version = &description.version;
        if !is_semantic(version) {
            return Err(failed(format!(
                "its version is {version:?}; next: three numbers, as in 1.2.3"
            )));
        }
        schema(&description)?;
        for wanted in &description.wants {
            if let Err(problem) = Template::parse(wanted) {
                return Err(failed(format!("it wants what nobody can grant: {problem}")));
            }
        }
        Ok(())
    }

    pub(super) async fn init_refuses(&mut self) -> Outcome {
        let description = self.description().await?;
        let required = schema(&description)?["required"].clone();
        if required.as_array().is_none_or(Vec::is_empty) {
            return Err(inapplicable("its schema requires no key"));
        }
        match self.subject.start(&json!({})).await {
            Err(NotBuilt::Refused(problem)) if problem.kind == ProblemKind::InvalidConfig => Ok(()),
            Err(NotBuilt::Refused(problem)) => Err(failed(format!(
                "an empty configuration is refused as {}; next: say invalid-config",
                problem.kind
            ))),
            Err(NotBuilt::Lost(lost)) => Err(failed(lost.0)),
            Ok(_) => Err(failed(format!(
                "its schema requires {required}, and an empty configuration is accepted"
            ))),
        }
    }

    pub(super) async fn init_is_quiet(&mut self) -> Outcome {
        self.seat = Some(self.fresh().await?);
        self.init_was_quiet()
    }

    pub(super) fn init_was_quiet(&self) -> Outcome {
        match self.wire.asked().first() {
            Some(asked) => Err(failed(format!(
                "it asked for {asked}; next: leave requests to `open`, because `init` runs after every rebuild"
            ))),
            None => Ok(()),
        }
    }

    async fn description(&mut self) -> Result<Description, super::Stop> {
        let said = self.subject.describe(1).await.map_err(failed)?;
        said.into_iter()
            .next()
            .ok_or_else(|| failed("it describes nothing"))
    }
}

fn schema(description: &Description) -> Result<Value, super::Stop> {
    let schema: Value = serde_json::from_str(&description.config_schema)
        .map_err(|problem| failed(format!("its config schema is no JSON: {problem}")))?;
    if schema.is_object() {
        return Ok(schema);
    }
    Err(failed("its config schema is no JSON object"))
}

/// Three numbers, then perhaps what else semantic versioning allows.
fn is_semantic(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts
        .by_ref()
        .take(3)
        .filter(|part| is_number(part))
        .count()
        == 3
        && parts.next().is_none()
}
