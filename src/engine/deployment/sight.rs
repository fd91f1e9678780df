//! What the fleet shows, as far as it can be seen: a look that fails leaves what was last seen, and since when nothing was
//! seen any more; what is missing from one look is gone only when a second one says the same.

use super::{Deployment, looks::Look};
use crate::{
    fleet::autoscaling::{GroupSight, InstanceSight},
    rollout::{
        snapshot::{Lifecycle, Member, Outage, Sight},
        state::InstanceState,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};
use tracing::warn;

/// Auto Scaling's history is read this often at most, for a group.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(2);

impl Deployment<'_> {
    /// The last whole look, and since when there was none; the second is true once, when sight is back.
    pub(super) async fn remember_look(
        &mut self,
        look: Option<Look>,
        unseen: Option<String>,
    ) -> anyhow::Result<(Arc<Look>, Option<Outage>, bool)> {
        let before = self.looks.blind.as_ref().map(|blind| &blind.why);
        let note = match (before, &unseen) {
            (before, Some(why)) if before != Some(why) => Some(format!(
                "waiting: {why}; what is in work goes on, nothing new is begun, and it is tried again"
            )),
            (Some(_), None) => Some("the fleet can be seen again: going on".to_owned()),
            _ => None,
        };
        if let Some(note) = note {
            self.engine.logs.note(self.id, None, &note).await?;
        }
        if let Some(look) = look {
            self.looks.last = Arc::new(look);
            self.looks.looked = Some(Instant::now());
        }
        let last = Arc::clone(&self.looks.last);
        let Some(why) = unseen else {
            let regained = self.looks.blind.take().is_some();
            return Ok((last, None, regained));
        };
        let blind = self.looks.blind.get_or_insert_with(|| {
            warn!("the fleet can't be seen: {why}");
            Outage { since: Timestamp::now(), why: why.clone() }
        });
        blind.why = why;
        Ok((last, Some(blind.clone()), false))
    }

    /// What is missing from one look is not gone: it is left alone until a second look, or Auto Scaling's own history,
    /// says the same. Of what leaves the history says why.
    pub(super) async fn note_departures(
        &mut self,
        groups: &[GroupSight],
        members: &[Member],
        sights: &mut BTreeMap<String, Sight>,
    ) {
        let listed: HashMap<(&str, &str), &InstanceSight> = groups
            .iter()
            .flat_map(|group| group.instances.iter().map(move |seen| (group.name.as_str(), seen)))
            .map(|(group, seen)| ((group, seen.id.as_str()), seen))
            .collect();
        for member in members.iter().map(|member| &member.record) {
            let Some(sight) = sights.get_mut(&member.id) else { continue };
            if sight.lifecycle != Lifecycle::Leaving {
                self.looks.missed.is_seen(|| member.id.clone());
                continue;
            }
            if member.state() == InstanceState::Gone {
                continue;
            }
            let listed = listed.get(&(member.group.as_str(), member.id.as_str()));
            let cause = match groups.iter().any(|group| group.name == member.group) {
                true => self.cause_of_leaving(&member.group, &member.id).await,
                false => None,
            };
            // Why matters once it was taken in hand; the history may be a moment behind.
            let waits = listed.is_none() || member.batch.is_some();
            if waits && cause.is_none() && !self.looks.missed.is_missed_twice(&member.id) {
                sight.lifecycle = Lifecycle::Unknown("leaving, or missing from the last look".into());
                continue;
            }
            sight.scaled_in = cause.as_ref().is_some_and(|cause| cause.contains(SHRINKING));
            sight.failed_health_check = match (cause, listed) {
                (Some(cause), _) => condemning(&cause),
                (None, Some(seen)) if seen.unhealthy => Some("a health check found it unhealthy".into()),
                _ => None,
            };
        }
    }

    /// Why Auto Scaling took an instance away, if its history says so. Asked until it does: the entry may come late.
    async fn cause_of_leaving(&mut self, group: &str, instance: &str) -> Option<String> {
        let now = Timestamp::now();
        let known = self.looks.causes.get(instance).cloned();
        if known.is_some() || self.looks.asked.get(group).is_some_and(|asked| now < *asked + ASK_AGAIN) {
            return known;
        }
        self.looks.asked.insert(group.to_owned(), now);
        let ended = match self.engine.fleet.terminations(group).await {
            Ok(ended) => ended,
            Err(error) => {
                warn!(instance, "why it leaves can't be seen: {error}");
                return None;
            }
        };
        let causes = ended.into_iter().map(|termination| (termination.instance, termination.cause));
        self.looks.causes.extend(causes);
        self.looks.causes.get(instance).cloned()
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
