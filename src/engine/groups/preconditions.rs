//! What must hold of the Auto Scaling groups and target groups before anything is taken out of them: checked when a
//! deployment is prepared, when it goes on after a pause or a halt, and by `drover check --aws`.

use crate::{
    config::Group,
    engine::{marks::RESTORE_TAG, marks::hook_name},
    fleet::{Fleet, autoscaling::GroupSight, balancer::TargetGroup, launch::LaunchHook},
};
use std::collections::BTreeSet;

/// Processes without which an instance that left can't come back.
const NEEDED: [&str; 2] = ["Launch", "AddToLoadBalancer"];

/// Wrong for good (the deployment fails) or just now (it waits).
pub(in crate::engine) enum Trouble {
    Final(String),
    Passing(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Passing(error.into())
    }
}

pub(in crate::engine) fn refuse<T>(reason: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Final(reason.into()))
}

pub(in crate::engine) async fn check_group(fleet: &Fleet, group: &GroupSight) -> Result<(), Trouble> {
    let name = &group.name;
    if let Some(process) = NEEDED.iter().find(|process| group.suspended.iter().any(|s| s == *process)) {
        return refuse(format!(
            "{process} is suspended on Auto Scaling group {name}: an instance taken out could not come back; resume it first: \
             aws autoscaling resume-processes --auto-scaling-group-name {name} --scaling-processes {process}"
        ));
    }
    if group.warm_pool {
        return refuse(format!(
            "Auto Scaling group {name} has a warm pool, which drover does not deploy to; delete it first"
        ));
    }
    if let Some(refresh) = fleet.instance_refresh(name).await? {
        return refuse(format!(
            "instance refresh {refresh} is under way on Auto Scaling group {name}; wait for it or cancel it"
        ));
    }
    match code_deploys(&fleet.launch_hooks(name).await?, name) {
        Some(why) => refuse(why),
        None => Ok(()),
    }
}

/// Why nothing goes while CodeDeploy's own launch hook is on a group, and the commands about it; none where it isn't.
pub(in crate::engine) fn code_deploys(hooks: &[LaunchHook], group: &str) -> Option<String> {
    let hook = hooks.iter().find(|hook| hook.is_code_deploys())?;
    let (remove, restore) = hook.commands(group);
    Some(format!(
        "CodeDeploy's launch hook {} is on Auto Scaling group {group}: it installs CodeDeploy's last revision on every \
         new instance. Remove it: {remove}; what puts it back: {restore}",
        hook.name
    ))
}

/// The ARNs of a deployment group's target groups: those attached to its Auto Scaling groups, and the configured ones.
pub(in crate::engine) fn target_group_arns(groups: &[GroupSight], group: &Group) -> Vec<String> {
    attached_and(groups, &group.target_groups)
}

/// The same, where the configured ones are these.
pub(in crate::engine) fn attached_and(groups: &[GroupSight], configured: &[String]) -> Vec<String> {
    let attached = groups.iter().flat_map(|seen| &seen.target_groups);
    let arns: BTreeSet<String> = attached.chain(configured).cloned().collect();
    arns.into_iter().collect()
}

pub(in crate::engine) fn check_target_groups(arns: &[String], seen: &[TargetGroup]) -> Result<(), Trouble> {
    if arns.is_empty() {
        return refuse(
            "no target group: the Auto Scaling groups have none attached, and the configuration names none",
        );
    }
    for arn in arns {
        let Some(group) = seen.iter().find(|group| group.arn == *arn) else {
            return refuse(format!("there is no target group {arn}"));
        };
        if !group.of_instances {
            return refuse(format!(
                "target group {} has targets that are not instances; drover deploys to instances only",
                group.name
            ));
        }
        if !group.in_use {
            return refuse(format!(
                "target group {} is used by no listener: its health says nothing; attach it to a load balancer first",
                group.name
            ));
        }
    }
    Ok(())
}

/// What `drover check` says of one thing, such as a deployment group: what is wrong, and what is worth knowing.
#[derive(Debug, Default)]
pub struct Findings {
    /// What a deployment would be refused for.
    pub wrong: Vec<String>,
    /// How it is otherwise.
    pub notes: Vec<String>,
}

/// Looks at a deployment group's Auto Scaling groups, target groups and launch hooks. Changes nothing.
pub async fn examine(fleet: &Fleet, name: &str, group: &Group) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let groups = fleet.groups(&group.auto_scaling_groups).await?;
    for wanted in &group.auto_scaling_groups {
        let Some(seen) = groups.iter().find(|seen| seen.name == *wanted) else {
            findings.wrong.push(no_such_group(wanted));
            continue;
        };
        findings.take(check_group(fleet, seen).await)?;
        let hook = hook_name(name);
        let hooks = fleet.launch_hooks(&seen.name).await?;
        findings.notes.push(match hooks.iter().find(|there| there.name == hook) {
            Some(there) if there.is_as_installed() => format!("{wanted}: launch hook {hook} is installed"),
            Some(there) => format!(
                "{wanted}: launch hook {hook} was changed: heartbeat time-out {} s, default result {}; 'drover group hook \
                 remove {name}' and 'install' put it as drover wants it",
                there.heartbeat_timeout.unwrap_or_default(),
                there.default_result.as_deref().unwrap_or("unknown")
            ),
            None => format!(
                "{wanted}: no launch hook: new instances go into service as their image makes them; \
                 'drover group hook install {name}' has them wait for the group's revision"
            ),
        });
        if let Some(tag) = seen.tag(RESTORE_TAG) {
            findings.notes.push(format!(
                "{wanted}: the tag {RESTORE_TAG} is on it: a rollout is under way, or a daemon's disk is gone ('drover group \
                 restore {name}' puts back what it says): {tag}"
            ));
        }
        findings.notes.push(format!("{wanted}: {} instances, MinSize {}", seen.instances.len(), seen.min));
    }
    let arns = target_group_arns(&groups, group);
    let seen = fleet.target_groups(&arns).await?;
    findings.take(check_target_groups(&arns, &seen))?;
    Ok(findings)
}

impl Findings {
    /// One thing that is as it is.
    pub fn note(words: String) -> Findings {
        Findings { notes: vec![words], ..Findings::default() }
    }

    /// One thing that is wrong.
    pub fn wrong(words: String) -> Findings {
        Findings { wrong: vec![words], ..Findings::default() }
    }

    fn take(&mut self, checked: Result<(), Trouble>) -> anyhow::Result<()> {
        match checked {
            Ok(()) => Ok(()),
            Err(Trouble::Final(why)) => {
                self.wrong.push(why);
                Ok(())
            }
            Err(Trouble::Passing(error)) => Err(error),
        }
    }
}

/// In words.
pub(in crate::engine) fn left_behind(auto_scaling_group: &str, group: &str) -> String {
    format!(
        "the tag {RESTORE_TAG} is on Auto Scaling group {auto_scaling_group}, and this daemon did not put it there: another \
         daemon is at work on it, or its disk is gone; if none is, put the group back first: drover group restore {group}"
    )
}

/// In words.
pub(in crate::engine) fn no_such_group(name: &str) -> String {
    format!("there is no Auto Scaling group '{name}' in this account and region")
}
