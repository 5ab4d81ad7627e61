//! Without a cloud: a made-up configuration, and a network on which every answer is trouble.
//!
//! Nothing leaves this machine, so the plugin is granted every origin that it says it wants; what it asks for besides is
//! found. A plugin that needs a secret makes no request here, and is not called sound for that.

use serde_json::{Map, Value, json};

use super::wire::Fault;
use super::{Outcome, Stop, Trial, failed, not_checked};
use crate::fleet::group::{CallFailure, InstanceId, InstanceRef, ProblemKind};
use crate::plugin::actor::NotBuilt;
use crate::plugin::bindings::Description;
use crate::plugin::grants::{Grants, Target, Template};

const NEEDS_CONFIG: &str = "needs --config";

/// A configuration that the schema allows, as far as it says so.
pub fn made_up(description: &Description) -> Value {
    let schema: Value = serde_json::from_str(&description.config_schema).unwrap_or_default();
    let required = schema["required"].as_array().into_iter().flatten();
    let mut keys: Vec<&str> = required.filter_map(Value::as_str).collect();
    let named = description
        .wants
        .iter()
        .flat_map(|want| want.split('{').skip(1));
    keys.extend(named.filter_map(|rest| Some(rest.split_once('}')?.0)));
    let config: Map<_, _> = keys
        .into_iter()
        .map(|key| (key.to_owned(), example(&schema["properties"][key])))
        .collect();
    Value::Object(config)
}

fn example(property: &Value) -> Value {
    let told = [
        property.get("const"),
        property.get("default"),
        property["examples"].get(0),
        property["enum"].get(0),
    ];
    if let Some(told) = told.into_iter().flatten().next() {
        return told.clone();
    }
    let kind = match &property["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("integer" | "number") => property.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(false),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("x"),
    }
}

/// Every origin that it wants, and nothing else.
pub fn wanted(description: &Description) -> Grants {
    let wants = &description.wants;
    let templates = wants.iter().filter_map(|want| Template::parse(want).ok());
    let mut targets = wants.iter().filter_map(|want| Target::parse(want));
    Grants {
        http: templates.collect(),
        metadata: Some(targets.any(|target| target.is_metadata())),
        plaintext: Some(wants.iter().any(|want| want.starts_with("http://"))),
        ..Grants::default()
    }
}

impl Trial<'_> {
    /// As [`Trial::fresh`], where a refusal is the made-up configuration's fault.
    async fn made_up_seat(&mut self) -> Result<(), Stop> {
        if self.seat.is_some() {
            return Ok(());
        }
        match self.subject.start(self.config).await {
            Ok(seat) => {
                self.seat = Some(seat);
                Ok(())
            }
            Err(NotBuilt::Refused(problem)) => Err(not_checked(format!(
                "{NEEDS_CONFIG}; a made-up configuration is refused: {problem}"
            ))),
            Err(NotBuilt::Lost(lost)) => Err(failed(lost.0)),
        }
    }

    pub(super) async fn scripted_init_is_quiet(&mut self) -> Outcome {
        self.made_up_seat().await?;
        self.init_was_quiet()
    }

    pub(super) async fn scripted_survives(&mut self, fault: Fault) -> Outcome {
        if fault.needs_an_answer() {
            return Err(not_checked(NEEDS_CONFIG));
        }
        let mut asked = 0;
        for call in [
            "open",
            "update",
            "increase",
            "decrease",
            "connect-info",
            "heartbeat",
        ] {
            self.made_up_seat().await?;
            self.wire.spoil(fault, 0);
            let verdict = self.scripted_call(call).await;
            asked += self.wire.asked().len();
            self.wire.open();
            verdict?;
        }
        if asked == 0 {
            return Err(not_checked(format!(
                "{NEEDS_CONFIG}; with a made-up configuration it makes no request"
            )));
        }
        Ok(())
    }

    async fn scripted_call(&mut self, call: &'static str) -> Outcome {
        let of = InstanceRef {
            id: InstanceId("i-0".to_owned()),
            memo: String::new(),
        };
        let request = self.request(1);
        let seat = self.seat().await?;
        let answer = match call {
            "open" => seat.open().await.map(drop),
            "update" => seat.update().await.map(drop),
            "increase" => seat.increase(request).await.map(drop),
            "decrease" => seat.decrease(vec![of]).await.map(drop),
            "connect-info" => seat.connect_info(of).await.map(drop),
            _ => seat.heartbeat(of).await.map(drop),
        };
        let is_asked = !self.wire.asked().is_empty();
        match answer {
            Ok(()) if call == "update" && is_asked => Err(failed(
                "`update` answers with a snapshot, and knows of no instance: all would count as gone; next: refuse",
            )),
            Err(CallFailure::Refused(problem))
                if problem.kind == ProblemKind::NotFound && is_asked =>
            {
                Err(failed(format!(
                    "`{call}`: the answer is {problem}; next: say unavailable, because nothing is known to be gone"
                )))
            }
            Ok(()) | Err(CallFailure::Refused(_)) => Ok(()),
            Err(failure) => {
                self.seat = None;
                Err(failed(format!("`{call}`: {failure}")))
            }
        }
    }

    /// Hosts alone: which secrets it needs, its description does not say.
    pub(super) fn scripted_grants_suffice(&self) -> Outcome {
        let hosts = self.wire.hosts_denied();
        if hosts.is_empty() {
            return Err(not_checked(NEEDS_CONFIG));
        }
        Err(failed(format!(
            "{}; next: name it among the wants of `describe`, or do not ask it",
            hosts.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_made_up_from_the_schema_and_the_wants() {
        let description = Description {
            name: "p".to_owned(),
            version: "1.0.0".to_owned(),
            config_schema: r#"{"required": ["name", "size", "mode", "hosts", "url"], "properties": {
                "name": {"type": "string"}, "size": {"type": "integer", "minimum": 3},
                "mode": {"enum": ["a", "b"]}, "hosts": {"type": ["array", "null"]},
                "url": {"type": "string", "examples": ["https://c.example"]}, "more": {"type": "string"}}}"#
                .to_owned(),
            wants: vec!["https://ec2.{region}.cloud.example".to_owned()],
            variables: Vec::new(),
        };
        let config = made_up(&description);
        assert_eq!(
            config,
            json!({ "name": "x", "size": 3, "mode": "a", "hosts": [], "url": "https://c.example", "region": "x" })
        );
        let reach = wanted(&description).reach(&config);
        let target = |url| crate::plugin::grants::Target::parse(url).expect("a URL");
        assert!(reach.admits(&target("https://ec2.x.cloud.example")).is_ok());
        assert!(reach.admits(&target("https://cloud.example")).is_err());
    }
}
