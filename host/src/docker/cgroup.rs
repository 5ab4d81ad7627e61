//! Control groups of slots (`use_slot_cgroups`): the containers of one slot share one, whatever job they belong to.

use super::stage::Plan;
use crate::config::{scalars, usable};

/// By it a job finds its own group.
const VARIABLE: &str = "GITLAB_RUNNER_SLOT_CGROUP";

/// Puts the containers of a job into the groups of its slot, in place of the configured ones.
pub(super) fn settle(config: &mut usable::Docker, plan: &mut Plan, slot: u32) {
    if let Some(template) = &config.slot_cgroup {
        let group = of_slot(template, slot);
        plan.environment.push((VARIABLE.into(), group.clone()));
        config.resources.cgroup_parent = Some(group);
    }
    if let Some(template) = &config.service_slot_cgroup {
        config.service_resources.cgroup_parent = Some(of_slot(template, slot));
    }
}

/// `$slot` and `${slot}` are all that a template can name.
fn of_slot(template: &str, slot: u32) -> String {
    let variable = |name: &str| (name == "slot").then(|| slot.to_string());
    scalars::expand(template, variable, |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::container::tests::plan;

    #[test]
    fn templates_name_the_slot_and_nothing_else() {
        for (template, group) in [
            ("gitlab-runner/slot-${slot}", "gitlab-runner/slot-3"),
            ("a-$slot.slice", "a-3.slice"),
            ("$other/x", "/x"),
            ("fixed", "fixed"),
        ] {
            assert_eq!(of_slot(template, 3), group);
        }
    }

    #[test]
    fn the_slot_s_group_takes_the_place_of_the_configured_one() {
        let mut config = usable::Docker::default();
        config.resources.cgroup_parent = Some("configured".into());
        config.service_resources.cgroup_parent = Some("configured".into());
        let mut plan = plan();
        settle(&mut config, &mut plan, 3);
        assert_eq!(
            config.resources.cgroup_parent.as_deref(),
            Some("configured")
        );
        assert!(!plan.environment.iter().any(|(key, _)| key == VARIABLE));

        config.slot_cgroup = Some("jobs-$slot".into());
        config.service_slot_cgroup = Some("services-$slot".into());
        settle(&mut config, &mut plan, 3);
        let parent = |of: &usable::Resources| of.cgroup_parent.clone().unwrap_or_default();
        assert_eq!(parent(&config.resources), "jobs-3");
        assert_eq!(parent(&config.service_resources), "services-3");
        assert!(
            plan.environment
                .contains(&(VARIABLE.into(), "jobs-3".into()))
        );
    }
}
