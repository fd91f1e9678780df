//! What was last seen of a deployment's fleet, and what a look has missed.

use crate::{
    engine::groups::{seen::lifecycle, targets::Targets},
    fleet::{FleetError, autoscaling::GroupSight, balancer::TargetGroup},
    rollout::snapshot::{Lifecycle, Outage, Sight},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// DescribeAutoScalingGroups is eventually consistent: what one look misses must be missing from another so much later.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(10);

/// What a tick is for, and with that how old a look at AWS may be that it goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Something is due, or a look is.
    #[default]
    Due,
    /// The tick before has changed something.
    Changed,
    /// A host or a person has woken the deployment.
    Woken,
}

/// Where the tick before has changed something, its look does for this long.
const RECENT: Duration = Duration::from_millis(450);
/// Hosts wake a deployment one after the other, since hooks have ended there, which no look at AWS shows: for so long one look
/// does for them all.
const RECENT_FOR_WOKEN: Duration = Duration::from_millis(950);
/// As long as nothing is waited for but hosts, one look does for this long.
const RECENT_FOR_HOSTS: Duration = Duration::from_secs(3);

/// One whole look at a deployment's fleet.
#[derive(Clone, Default)]
pub(super) struct Look {
    pub(super) groups: Vec<GroupSight>,
    pub(super) target_groups: Vec<TargetGroup>,
    pub(super) sights: BTreeMap<String, Sight>,
    /// Target groups that are there no more.
    pub(super) deleted: Vec<String>,
}

/// What was last seen of the fleet; since when nothing is seen; what is missed.
#[derive(Default)]
pub(super) struct Looks {
    pub(super) last: Arc<Look>,
    /// When that was; none: what drover itself has changed since can't be seen in it.
    pub(super) looked: Option<Instant>,
    pub(super) blind: Option<Outage>,
    /// What the tick in work is for.
    pub(super) occasion: Occasion,
    /// The targets as last looked at, and when.
    pub(super) targets: Option<(Instant, Arc<Targets>)>,
    /// The last look was made because the one before it was too old.
    is_second: bool,
    pub(super) missed: Missed,
    /// Why Auto Scaling took an instance away, in its own words, once it said so.
    pub(super) causes: HashMap<String, String>,
    /// When its history was last read, by Auto Scaling group.
    pub(super) asked: HashMap<String, Timestamp>,
}

/// What a look didn't show, and since when.
#[derive(Default)]
pub(in crate::engine) struct Missed(HashMap<String, Timestamp>);

impl Missed {
    /// It is not missed any more.
    pub(super) fn is_seen(&mut self, what: impl FnOnce() -> String) {
        if !self.0.is_empty() {
            self.0.remove(&what());
        }
    }

    /// Whether something that is missed now was missed before, long enough ago.
    pub(super) fn is_missed_twice(&mut self, what: &str) -> bool {
        let now = Timestamp::now();
        now >= *self.0.entry(what.to_owned()).or_insert(now) + SECOND_LOOK
    }

    /// Whether an instance has left its group: it is seen leaving, or two looks have missed it.
    pub(in crate::engine) fn is_gone(&mut self, group: &GroupSight, instance: &str) -> bool {
        match group.instances.iter().find(|seen| seen.id == instance) {
            Some(seen) => lifecycle(&seen.lifecycle) == Lifecycle::Leaving,
            None => self.is_missed_twice(instance),
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

impl Looks {
    /// The last look, where another one would hardly show more: it is from a moment ago (`waits_for_hosts`: from a while ago,
    /// since what is waited for happens on hosts), and drover has changed nothing on the groups since.
    pub(super) fn recent(&self, waits_for_hosts: bool) -> Option<Arc<Look>> {
        let enough = match (self.occasion, waits_for_hosts) {
            (Occasion::Due, _) => return None,
            (Occasion::Changed, _) => RECENT,
            (Occasion::Woken, false) => RECENT_FOR_WOKEN,
            (Occasion::Woken, true) => RECENT_FOR_HOSTS,
        };
        let fresh = self.looked.is_some_and(|at| at.elapsed() < enough);
        (fresh && self.blind.is_none()).then(|| Arc::clone(&self.last))
    }

    /// The targets, if they were looked at within this time.
    pub(super) fn targets_since(&self, within: SignedDuration) -> Option<Arc<Targets>> {
        let within = Duration::try_from(within).unwrap_or_default();
        let (_, targets) = self.targets.as_ref().filter(|(at, _)| at.elapsed() < within)?;
        Some(Arc::clone(targets))
    }

    /// Whether groups and targets were looked at a moment ago. Where they were not, the next look is at everything, and what it
    /// shows is good enough, however long it takes.
    pub(super) fn are_fresh(&mut self) -> bool {
        let is_fresh = |at: Instant| at.elapsed() < RECENT;
        let fresh =
            self.looked.is_some_and(is_fresh) && self.targets.as_ref().is_none_or(|(at, _)| is_fresh(*at));
        if fresh || std::mem::take(&mut self.is_second) {
            return true;
        }
        (self.looked, self.targets, self.is_second) = (None, None, true);
        false
    }

    /// Something was changed on the groups.
    pub(super) fn expire(&mut self) {
        self.looked = None;
    }
}
