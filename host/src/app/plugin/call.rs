//! `fleetling plugin call`: one function of the contract, as a manager would call it.

use std::sync::Arc;

use anyhow::bail;
use rand::Rng as _;
use serde_json::{Value, json};

use super::chosen::{self, Chosen, ForRunner};
use super::{Answer, Places, json};
use crate::cli::plugin::{Call, Function};
use crate::fleet::group::{CallFailure, IncreaseRequest, InstanceGroup, InstanceId, InstanceRef};
use crate::plugin::egress::tap::Tap;
use crate::plugin::platform::Platform;
use crate::plugin::trace::Trace;

pub(super) async fn call(places: &Places<'_>, call: &Call) -> anyhow::Result<Answer> {
    let arguments = Arguments::of(call)?;
    if call.function == Function::Describe {
        return describe(places, call).await;
    }
    let tap = call
        .trace
        .then(|| Arc::new(Trace::new(|told| eprint!("{told}"))) as Arc<dyn Tap>);
    let of = ForRunner::of(&call.subject, &call.of, places)?;
    let platform = of.platform(places, tap)?;
    let rehearsal = of.rehearse(&platform).await?;
    let provider = match rehearsal.provider().await {
        Ok(provider) => provider,
        Err(why) => bail!(
            "`init` of {}: {}",
            of.chosen.plugin,
            super::clean(&why.to_string())
        ),
    };
    let (text, is_good) = match ask(&provider, call, arguments).await {
        Ok(answer) => (format!("{answer:#}\n"), true),
        Err(failure) => (format!("{:#}\n", json::failure(&failure)), false),
    };
    let text = text.chars().filter(|c| !c.is_control() || *c == '\n');
    let text = text.collect();
    Ok(Answer { text, is_good })
}

/// Pure, and so without a configuration.
async fn describe(places: &Places<'_>, call: &Call) -> anyhow::Result<Answer> {
    let options = chosen::options(places)?;
    let chosen = Chosen::of(&call.subject, &options)?;
    let platform = Platform::start(options)?;
    let examined = platform.examine(&chosen.plugin, chosen.file).await?;
    let said = json::description(&examined.description);
    Ok(Answer::good(format!("{said:#}\n")))
}

/// What stands behind the function.
struct Arguments {
    count: u32,
    ids: Vec<String>,
}

impl Arguments {
    fn of(call: &Call) -> anyhow::Result<Self> {
        let written = &call.arguments;
        let mut arguments = Self {
            count: 0,
            ids: Vec::new(),
        };
        match (call.function, &written[..]) {
            (Function::Increase, [count]) => {
                let Ok(parsed) = count.parse() else {
                    bail!("\"{count}\" is no count; next: `increase 1`");
                };
                arguments.count = parsed;
            }
            (Function::Increase, _) => bail!("increase takes one count; next: `increase 1`"),
            (Function::Decrease, ids) => arguments.ids = ids.to_vec(),
            (Function::ConnectInfo | Function::Heartbeat, [id]) => {
                arguments.ids = vec![id.clone()];
            }
            (Function::ConnectInfo | Function::Heartbeat, _) => {
                bail!("this function takes the ID of one instance; next: `update` lists them")
            }
            (_, []) => {}
            (_, [first, ..]) => {
                bail!("this function takes no argument; next: leave \"{first}\" out")
            }
        }
        Ok(arguments)
    }
}

async fn ask(
    group: &dyn InstanceGroup,
    call: &Call,
    arguments: Arguments,
) -> Result<Value, CallFailure> {
    let refs = refs(group, &arguments.ids).await?;
    let one = || {
        let first = refs.first().cloned();
        first.ok_or_else(|| CallFailure::NotCalled("no instance was named".to_owned()))
    };
    Ok(match call.function {
        Function::Describe => json!({}),
        Function::Open => json::group(&group.open().await?),
        Function::Update => json::snapshot(&group.update().await?),
        Function::Increase => {
            let made = || format!("call-{:016x}", rand::rng().random::<u64>());
            let request = IncreaseRequest {
                token: call.token.clone().unwrap_or_else(made),
                count: arguments.count,
                avoid_pools: Vec::new(),
            };
            json::increase(&group.increase(request).await?)
        }
        Function::Decrease => {
            let removals = group.decrease(refs).await?;
            removals.iter().map(json::removal).collect()
        }
        Function::ConnectInfo => json::connection(&group.connect_info(one()?).await?),
        Function::Heartbeat => {
            group.heartbeat(one()?).await?;
            json!({ "ok": true })
        }
        Function::Shutdown => {
            group.shutdown(call.for_good).await?;
            json!({ "ok": true })
        }
    })
}

/// The plugin's own memo goes with an instance, and `update` has it; one that is not listed has none.
async fn refs(group: &dyn InstanceGroup, ids: &[String]) -> Result<Vec<InstanceRef>, CallFailure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let listed = group.update().await?.instances;
    let memo = |id: &String| {
        let found = listed.iter().find(|one| one.id.0 == *id);
        found.map_or_else(String::new, |one| one.memo.clone())
    };
    let refs = ids.iter().map(|id| InstanceRef {
        memo: memo(id),
        id: InstanceId(id.clone()),
    });
    Ok(refs.collect())
}
