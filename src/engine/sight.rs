//! What the fleet shows, as far as it can be seen: a look that fails leaves what was last seen, and since when nothing was
//! seen any more; what is missing from one look is gone only when a second one says the same.

use super::{Engine, observe::lifecycle};
use crate::{
    fleet::{FleetError, autoscaling::GroupSight, balancer::TargetGroup},
    rollout::{
        snapshot::{Blind, Lifecycle, Sight},
        state::{Instance, InstanceState},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
};
use tracing::warn;

/// DescribeAutoScalingGroups is eventually consistent: what one look misses must be missing from another so much later.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(10);

/// Auto Scaling's history is read this often at most, for a group.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// One whole look at a deployment's fleet.
#[derive(Clone, Default)]
pub(super) struct Look {
    pub(super) groups: Vec<GroupSight>,
    pub(super) target_groups: Vec<TargetGroup>,
    pub(super) sights: BTreeMap<String, Sight>,
    /// Target groups that are there no more.
    pub(super) deleted: Vec<String>,
}

/// What each running deployment last saw of its fleet; since when it sees nothing; what it misses.
#[derive(Default)]
pub(super) struct Looks {
    last: HashMap<i64, Arc<Look>>,
    blind: HashMap<i64, Blind>,
    /// When an instance was first missed, by deployment.
    missed: HashMap<(i64, String), Timestamp>,
    /// Why Auto Scaling took an instance away, in its own words, once it said so.
    causes: HashMap<String, String>,
    /// When its history was last read, by Auto Scaling group.
    asked: HashMap<String, Timestamp>,
}

impl Looks {
    pub(super) fn forget(&mut self, deployment: i64) {
        self.last.remove(&deployment);
        self.blind.remove(&deployment);
        self.missed.retain(|(id, _), _| *id != deployment);
        if self.last.is_empty() {
            self.causes.clear();
            self.asked.clear();
        }
    }
}

/// The errors of a tick that only mean that something can't be seen now. AWS's own are such; any other is no mere look.
pub(super) fn only_unseen<T>(
    looked: anyhow::Result<T>,
    unseen: &mut Option<String>,
) -> anyhow::Result<Option<T>> {
    match looked {
        Ok(seen) => Ok(Some(seen)),
        Err(error) => match error.downcast::<FleetError>() {
            Ok(error) => {
                unseen.get_or_insert(error.words());
                Ok(None)
            }
            Err(error) => Err(error),
        },
    }
}

impl Engine {
    /// The last whole look, and since when there was none; the second is true once, when sight is back.
    pub(super) async fn remember_look(
        &self,
        deployment: i64,
        look: Option<Look>,
        unseen: Option<String>,
    ) -> anyhow::Result<(Arc<Look>, Option<Blind>, bool)> {
        let before = {
            let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.blind.get(&deployment).map(|blind| blind.why.clone())
        };
        let note = match (&before, &unseen) {
            (before, Some(why)) if before.as_ref() != Some(why) => Some(format!(
                "waiting: {why}; what is in work goes on, nothing new is begun, and it is tried again"
            )),
            (Some(_), None) => Some("the fleet can be seen again: going on".to_owned()),
            _ => None,
        };
        if let Some(note) = note {
            self.logs.note(deployment, None, &note).await?;
        }
        Ok(self.keep_look(deployment, look, unseen))
    }

    fn keep_look(
        &self,
        deployment: i64,
        look: Option<Look>,
        unseen: Option<String>,
    ) -> (Arc<Look>, Option<Blind>, bool) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = look {
            looks.last.insert(deployment, Arc::new(look));
        }
        let last = looks.last.get(&deployment).cloned().unwrap_or_default();
        match unseen {
            None => {
                let regained = looks.blind.remove(&deployment).is_some();
                (last, None, regained)
            }
            Some(why) => {
                let blind = looks.blind.entry(deployment).or_insert_with(|| {
                    warn!("the fleet can't be seen: {why}");
                    Blind { since: Timestamp::now(), why: why.clone() }
                });
                blind.why = why;
                (last, Some(blind.clone()), false)
            }
        }
    }

    /// What is missing from one look is not gone: it is left alone until a second look, or Auto Scaling's own history,
    /// says the same. Of what leaves the history says why.
    pub(super) async fn see_who_left(
        &self,
        deployment: i64,
        groups: &[GroupSight],
        members: &[Instance],
        sights: &mut BTreeMap<String, Sight>,
    ) {
        for member in members {
            let Some(sight) = sights.get_mut(&member.id) else { continue };
            let group = groups.iter().find(|group| group.name == member.group);
            let listed = group.and_then(|group| group.instances.iter().find(|seen| seen.id == member.id));
            if sight.lifecycle != Lifecycle::Leaving {
                self.is_seen(deployment, &member.id);
                continue;
            }
            if member.state() == InstanceState::Gone {
                continue;
            }
            let cause = match group {
                Some(group) => self.cause_of_leaving(&group.name, &member.id).await,
                None => None,
            };
            // Why matters once it was taken in hand; the history may be a moment behind.
            let waits = listed.is_none() || member.batch.is_some();
            if waits && cause.is_none() && !self.is_missed_twice(deployment, &member.id) {
                sight.lifecycle = Lifecycle::Unknown("leaving, or missing from the last look".into());
                continue;
            }
            sight.given_up = cause.as_ref().is_some_and(|cause| cause.contains(SHRINKING));
            sight.condemned = match (cause, listed) {
                (Some(cause), _) => condemning(&cause),
                (None, Some(seen)) if seen.unhealthy => Some("a health check found it unhealthy".into()),
                _ => None,
            };
        }
    }

    /// It is not missed any more.
    pub(super) fn is_seen(&self, deployment: i64, what: &str) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if !looks.missed.is_empty() {
            looks.missed.remove(&(deployment, what.to_owned()));
        }
    }

    /// Whether something that is missed now was missed before, long enough ago.
    pub(super) fn is_missed_twice(&self, deployment: i64, what: &str) -> bool {
        let now = Timestamp::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        now >= *looks.missed.entry((deployment, what.to_owned())).or_insert(now) + SECOND_LOOK
    }

    /// Why Auto Scaling took an instance away, if its history says so. Asked until it does: the entry may come late.
    async fn cause_of_leaving(&self, group: &str, instance: &str) -> Option<String> {
        {
            let now = Timestamp::now();
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            let known = looks.causes.get(instance).cloned();
            if known.is_some() || looks.asked.get(group).is_some_and(|asked| now < *asked + ASK_AGAIN) {
                return known;
            }
            looks.asked.insert(group.to_owned(), now);
        }
        let ended = match self.fleet.terminations(group).await {
            Ok(ended) => ended,
            Err(error) => {
                warn!(instance, "why it leaves can't be seen: {error}");
                return None;
            }
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        for termination in ended {
            looks.causes.insert(termination.instance, termination.cause);
        }
        looks.causes.get(instance).cloned()
    }

    /// The lifecycle state of an instance, or none where no two looks have shown the same: that it is gone.
    pub(super) fn is_gone(&self, deployment: i64, group: &GroupSight, instance: &str) -> bool {
        match group.instances.iter().find(|seen| seen.id == instance) {
            Some(seen) => lifecycle(&seen.lifecycle) == Lifecycle::Leaving,
            None => self.is_missed_twice(deployment, instance),
        }
    }
}

/// In Auto Scaling's words for an end with which somebody wanted the group smaller: "… in response to a user request,
/// shrinking the capacity from 3 to 2."
const SHRINKING: &str = "shrinking the capacity";

/// Auto Scaling's words for an end that the balancer's health check brought. That of EC2 itself says nothing about the
/// revision: the machine was stopped, ended or broke.
fn condemning(cause: &str) -> Option<String> {
    cause.contains("ELB").then(|| cause.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_balancers_health_check_condemns() {
        let by_balancer = "At 2026-01-01T00:00:00Z an instance was taken out of service in response to an ELB system health check failure.";
        assert_eq!(condemning(by_balancer).as_deref(), Some(by_balancer));
        for other in [
            "At 2026-01-01T00:00:00Z an instance was taken out of service in response to an EC2 health check indicating it has been terminated or stopped.",
            "At 2026-01-01T00:00:00Z a user request update of AutoScalingGroup constraints changing the desired capacity from 4 to 3.",
        ] {
            assert_eq!(condemning(other), None);
        }
    }
}
