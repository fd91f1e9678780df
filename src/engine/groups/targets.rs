//! Targets and their health: where an instance is registered, and what is seen of it over all its target groups.

use crate::{
    engine::groups::seen::lifecycle,
    fleet::{
        autoscaling::{GroupSight, InstanceSight},
        balancer::{TargetGroup, TargetSight},
    },
    rollout::{
        snapshot::{Health, Lifecycle, Sight},
        state::{Instance, Membership},
    },
};
use std::collections::{BTreeMap, HashMap};

/// The targets of some target groups, as last seen.
#[derive(Default)]
pub(in crate::engine) struct Targets {
    /// By ARN and instance: each port that the instance is registered on.
    found: HashMap<(String, String), Vec<TargetSight>>,
    /// Target groups that are there no more.
    pub(in crate::engine) deleted: Vec<String>,
}

impl Targets {
    pub(in crate::engine) fn add(&mut self, arn: &str, targets: Vec<TargetSight>) {
        for target in targets {
            self.found.entry((arn.to_owned(), target.instance.clone())).or_default().push(target);
        }
    }

    fn of(&self, arn: &str, instance: &str) -> &[TargetSight] {
        self.found.get(&(arn.to_owned(), instance.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Where an instance is registered: by its Auto Scaling group, or found in another of these target groups. An Auto
    /// Scaling group registers and deregisters the target group's own port alone.
    pub(in crate::engine) fn memberships(
        &self,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        record: &Instance,
    ) -> Vec<Membership> {
        let group = groups.iter().find(|group| group.name == record.group);
        let mut memberships = Vec::new();
        for target_group in target_groups {
            let (arn, own_port) = (&target_group.arn, target_group.port);
            let attached = group.is_some_and(|group| group.target_groups.contains(arn));
            let mut ports: BTreeMap<u16, bool> =
                self.of(arn, &record.id).iter().map(|target| (target.port, true)).collect();
            if attached {
                ports.entry(own_port).or_insert(false);
            }
            memberships.extend(ports.into_iter().map(|(port, seen)| Membership {
                target_group: arn.clone(),
                port,
                owned: attached && port == own_port,
                seen,
                unwatched: false,
            }));
        }
        memberships
    }

    /// Whether an instance is healthy there.
    pub(in crate::engine) fn is_healthy(&self, membership: &Membership, instance: &str) -> bool {
        let targets = self.of(&membership.target_group, instance).iter();
        targets.clone().any(|target| target.port == membership.port && target.state == "healthy")
    }

    /// What the fleet shows of each of these instances.
    pub(in crate::engine) fn sights<'a>(
        &self,
        groups: &[GroupSight],
        members: impl IntoIterator<Item = &'a Instance>,
    ) -> BTreeMap<String, Sight> {
        let listed: HashMap<(&str, &str), &InstanceSight> = groups
            .iter()
            .flat_map(|group| group.instances.iter().map(move |seen| (group.name.as_str(), seen)))
            .map(|(group, seen)| ((group, seen.id.as_str()), seen))
            .collect();
        let sight_of = |member: &Instance| {
            let state = listed.get(&(member.group.as_str(), member.id.as_str()));
            let lifecycle = state.map_or(Lifecycle::Leaving, |instance| lifecycle(&instance.lifecycle));
            let mut registered = Vec::new();
            let mut states = Vec::new();
            let there = |membership: &&Membership| !self.deleted.contains(&membership.target_group);
            for membership in member.memberships.iter().filter(there) {
                let targets = self.of(&membership.target_group, &member.id);
                let found = targets.iter().find(|target| target.port == membership.port);
                let (state, reason) =
                    found.map_or(("unused", ""), |target| (target.state.as_str(), target.reason.as_str()));
                if !membership.owned && !["unused", "draining", "unhealthy.draining"].contains(&state) {
                    registered.push(membership.target());
                }
                let in_order = ["unused", "draining", "unhealthy.draining"].contains(&state);
                // Registered there, and that is all that counts.
                states.push(if membership.unwatched && !in_order {
                    ("healthy", "")
                } else {
                    (state, reason)
                });
            }
            Sight {
                lifecycle,
                health: worst(&states),
                registered,
                failed_health_check: None,
                scaled_in: false,
            }
        };
        members.into_iter().map(|member| (member.id.clone(), sight_of(member))).collect()
    }
}

/// The health over all target groups, from each one's state and reason.
fn worst(states: &[(&str, &str)]) -> Health {
    let with = |names: &[&str]| states.iter().find(|(state, _)| names.contains(state)).copied();
    if with(&["draining", "unhealthy.draining"]).is_some() {
        return Health::Draining;
    }
    if states.iter().all(|(state, _)| *state == "unused") {
        return Health::Out;
    }
    if let Some((state, reason)) = with(&["unhealthy", "unavailable"]) {
        return Health::Unhealthy(if reason.is_empty() { state.into() } else { reason.into() });
    }
    match states.iter().find(|(state, _)| *state != "healthy") {
        Some(("unused", _)) => Health::Initial("not yet registered in every target group".into()),
        Some((state, reason)) => {
            Health::Initial(if reason.is_empty() { (*state).into() } else { (*reason).into() })
        }
        None => Health::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};

    /// Finding 21.
    #[test]
    fn an_instance_on_two_ports_is_two_targets() {
        let target = |port, state: &str| TargetSight {
            instance: "i-1".into(),
            port,
            state: state.into(),
            reason: String::new(),
        };
        let mut targets = Targets::default();
        targets.add("tg", vec![target(80, "healthy"), target(8080, "draining")]);
        let group = GroupSight {
            name: "asg".into(),
            min: 1,
            max: 2,
            desired: 1,
            suspended: Vec::new(),
            target_groups: vec!["tg".into()],
            instances: vec![InstanceSight {
                id: "i-1".into(),
                zone: "a".into(),
                lifecycle: "InService".into(),
                unhealthy: false,
            }],
            warm_pool: false,
            tags: Vec::new(),
        };
        let target_group = TargetGroup {
            arn: "tg".into(),
            name: "tg".into(),
            of_instances: true,
            in_use: true,
            network: None,
            port: 80,
            deregistration_delay: SignedDuration::ZERO,
            interval: SignedDuration::ZERO,
            threshold: 2,
        };
        let mut record = Instance::new("i-1", "a", "asg", Timestamp::UNIX_EPOCH);
        record.memberships = targets.memberships(std::slice::from_ref(&group), &[target_group], &record);
        let ports: Vec<_> = record.memberships.iter().map(|m| (m.port, m.owned, m.seen)).collect();
        // Auto Scaling takes its own port along; the other is drover's to deregister.
        assert_eq!(ports, [(80, true, true), (8080, false, true)]);
        assert!(targets.is_healthy(&record.memberships[0], "i-1"));
        assert!(!targets.is_healthy(&record.memberships[1], "i-1"), "one port's health is not the other's");
        let sights = targets.sights(&[group], std::slice::from_ref(&record));
        assert_eq!(sights["i-1"].health, Health::Draining);
        assert!(sights["i-1"].registered.is_empty(), "what drains is not deregistered once more");
    }

    #[test]
    fn the_worst_of_several_target_groups_counts() {
        assert_eq!(worst(&[("healthy", ""), ("healthy", "")]), Health::Healthy);
        assert_eq!(
            worst(&[("healthy", ""), ("unused", "")]),
            Health::Initial("not yet registered in every target group".into())
        );
        assert_eq!(worst(&[("healthy", ""), ("draining", "")]), Health::Draining);
        assert_eq!(worst(&[("unused", ""), ("unused", "")]), Health::Out);
        assert_eq!(
            worst(&[("healthy", ""), ("unhealthy", "Target.Timeout")]),
            Health::Unhealthy("Target.Timeout".into())
        );
    }
}
