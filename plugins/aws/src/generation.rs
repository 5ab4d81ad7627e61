//! What instances are made of: a launch template with the number of its version, or a launch configuration.

use crate::xml::autoscaling::{AutoScalingGroup, LaunchTemplate, Member};
use crate::xml::ec2::TemplateVersions;

/// What the group would make its next member of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Current {
    Is(String),
    /// A version of this launch template that only EC2 knows by its number.
    Follows(String, Word),
    /// Where instance types have templates of their own there is more than one answer.
    Unknown,
}

/// `$Latest` or `$Default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Latest,
    Default,
}

impl Word {
    /// The generation that it stands for.
    pub(crate) fn of(self, template: &str, versions: &TemplateVersions) -> String {
        let number = match self {
            Self::Latest => versions.latest_version_number,
            Self::Default => versions.default_version_number,
        };
        format!("{template}:{number}")
    }
}

/// What a member was made of.
pub(crate) fn of_member(member: &Member) -> Option<String> {
    match &member.launch_template {
        Some(template) => match of_template(template) {
            Current::Is(generation) => Some(generation),
            Current::Follows(..) | Current::Unknown => None,
        },
        None => member.launch_configuration_name.clone(),
    }
}

pub(crate) fn of_group(group: &AutoScalingGroup) -> Current {
    let mixed = group.mixed_instances_policy.as_ref();
    if let Some(template) = mixed.and_then(|policy| policy.launch_template.as_ref()) {
        let mut overrides = template.overrides.member.iter();
        if overrides.any(|one| one.launch_template_specification.is_some()) {
            return Current::Unknown;
        }
        let specification = template.launch_template_specification.as_ref();
        return specification.map_or(Current::Unknown, of_template);
    }
    match &group.launch_template {
        Some(template) => of_template(template),
        None => group
            .launch_configuration_name
            .clone()
            .map_or(Current::Unknown, Current::Is),
    }
}

/// A group names no version where it follows the default one.
fn of_template(template: &LaunchTemplate) -> Current {
    let Some(id) = template.launch_template_id.clone() else {
        return Current::Unknown;
    };
    match template.version.as_deref() {
        Some("$Latest") => Current::Follows(id, Word::Latest),
        Some("$Default") | None => Current::Follows(id, Word::Default),
        Some(number) if number.parse::<u64>().is_ok() => Current::Is(format!("{id}:{number}")),
        Some(_) => Current::Unknown,
    }
}
