//! Which members are examined one by one, and which are only counted. During a rollout most
//! instances rest: their turn has not come, or they have finished and serve. A plan costs work in proportion to the others.

use super::pool::Room;
use crate::rollout::{
    snapshot::{Member, Snapshot},
    state::{DeploymentState, Instance, InstanceState as S, Membership},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

/// The members of a snapshot that are examined one by one, and counts of the others, which rest.
#[derive(Clone, Debug)]
pub struct Census {
    /// Whether any member may rest at all; otherwise each is examined.
    any_may_rest: bool,
    /// How each member rests; none for one that is examined.
    rests: Vec<Option<Rest>>,
    moving: BTreeSet<usize>,
    /// Members that stand in for each other.
    pub(super) classes: Vec<Class>,
    class_of: Vec<usize>,
    known: HashMap<u64, Vec<usize>>,
    /// Those whose turn has not come, by zone, in the order of their indexes.
    waiting: Vec<(String, BTreeSet<usize>)>,
    /// Whether the members are in the order of their ids.
    sorted: bool,
    /// When a member at rest last changed its state.
    pub(super) latest: Option<Timestamp>,
}

/// Members of one Auto Scaling group with the same memberships.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) group: String,
    pub(super) memberships: Vec<Membership>,
    /// Counts of those that rest.
    pub(super) sums: Sums,
}

/// Counts of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) all: u32,
    /// Those whose turn has not come.
    pub(super) waiting: u32,
    pub(super) succeeded: u32,
    pub(super) skipped: u32,
    /// Those that were in a batch.
    pub(super) started: u32,
    /// Those that were in service when the deployment began.
    pub(super) served_at_start: u32,
    pub(super) room: Room,
}

/// How a member rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    /// Whether its turn has not come.
    waits: bool,
    sums: Sums,
}

impl Sums {
    fn of(member: &Member) -> Sums {
        let (record, state) = (&member.record, member.record.state());
        let mut sums = Sums {
            all: 1,
            waiting: u32::from(state == S::Staged),
            succeeded: u32::from(state == S::Succeeded),
            skipped: u32::from(state == S::Skipped),
            started: u32::from(record.batch.is_some()),
            served_at_start: u32::from(served_at_start(record)),
            room: Room::default(),
        };
        sums.room.count(record, &member.sight);
        sums
    }

    /// Combines each count with that of `other`.
    fn combine(self, other: Sums, both: impl Fn(u32, u32) -> u32) -> Sums {
        Sums {
            all: both(self.all, other.all),
            waiting: both(self.waiting, other.waiting),
            succeeded: both(self.succeeded, other.succeeded),
            skipped: both(self.skipped, other.skipped),
            started: both(self.started, other.started),
            served_at_start: both(self.served_at_start, other.served_at_start),
            room: self.room.combine(other.room, &both),
        }
    }

    pub(super) fn plus(self, other: Sums) -> Sums {
        self.combine(other, |ours, theirs| ours + theirs)
    }

    pub(super) fn less(self, other: Sums) -> Sums {
        self.combine(other, |ours, theirs| ours.saturating_sub(theirs))
    }
}

/// Whether it counted towards its group's desired capacity when the deployment began.
pub(super) fn served_at_start(record: &Instance) -> bool {
    !record.joined && (record.state() != S::Skipped || record.healthy_at_start)
}

impl Census {
    /// Takes the census of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Census {
        Census::taken(snapshot, any_may_rest(snapshot))
    }

    /// Takes the census of a snapshot with no member at rest: each is examined.
    #[cfg(test)]
    pub(super) fn of_all(snapshot: &Snapshot) -> Census {
        Census::taken(snapshot, false)
    }

    fn taken(snapshot: &Snapshot, any_may_rest: bool) -> Census {
        let members = &snapshot.members;
        let mut census = Census {
            any_may_rest,
            rests: vec![None; members.len()],
            moving: BTreeSet::new(),
            classes: Vec::new(),
            class_of: Vec::with_capacity(members.len()),
            known: HashMap::new(),
            waiting: Vec::new(),
            sorted: members.is_sorted_by(|one, next| one.record.id <= next.record.id),
            latest: None,
        };
        if !any_may_rest {
            census.moving = (0..members.len()).collect();
            return census;
        }
        for (index, member) in members.iter().enumerate() {
            let class = census.class(&member.record);
            census.class_of.push(class);
            census.moving.insert(index);
            census.update(index, member);
        }
        census
    }

    /// Whether it still fits the state of the snapshot's deployment; if not, another must be taken.
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        self.any_may_rest == any_may_rest(snapshot) && self.rests.len() == snapshot.members.len()
    }

    fn class(&mut self, record: &Instance) -> usize {
        let is = |class: &Class| class.group == record.group && class.memberships == record.memberships;
        // Neighbours are mostly alike.
        if let Some(last) = self.class_of.last().copied().filter(|&last| is(&self.classes[last])) {
            return last;
        }
        let mut hasher = DefaultHasher::new();
        (&record.group, &record.memberships).hash(&mut hasher);
        let known = self.known.entry(hasher.finish()).or_default();
        if let Some(&class) = known.iter().find(|&&class| is(&self.classes[class])) {
            return class;
        }
        known.push(self.classes.len());
        let (group, memberships) = (record.group.clone(), record.memberships.clone());
        self.classes.push(Class { group, memberships, sums: Sums::default() });
        self.classes.len() - 1
    }

    /// Updates the census after a member has changed in anything but its memberships.
    pub fn update(&mut self, index: usize, member: &Member) {
        if !self.any_may_rest {
            return;
        }
        let rest = rest_of(member);
        let before = self.rests[index];
        if rest == before {
            return;
        }
        let class = self.class_of[index];
        if let Some(before) = before {
            self.classes[class].sums = self.classes[class].sums.less(before.sums);
            if before.waits {
                self.zone(&member.record.zone).remove(&index);
            }
        }
        match rest {
            Some(rest) => {
                self.moving.remove(&index);
                self.classes[class].sums = self.classes[class].sums.plus(rest.sums);
                if rest.waits {
                    self.zone(&member.record.zone).insert(index);
                }
                self.latest = self.latest.max(Some(member.record.since));
            }
            None => drop(self.moving.insert(index)),
        }
        self.rests[index] = rest;
    }

    fn zone(&mut self, zone: &str) -> &mut BTreeSet<usize> {
        let at = self.waiting.iter().position(|(name, _)| name == zone).unwrap_or_else(|| {
            self.waiting.push((zone.to_owned(), BTreeSet::new()));
            self.waiting.len() - 1
        });
        &mut self.waiting[at].1
    }

    /// Returns the indexes of the members that are examined one by one, in order.
    pub fn moving(&self) -> impl Iterator<Item = usize> {
        self.moving.iter().copied()
    }

    /// Counts the members at rest, all of which serve.
    pub fn resting(&self) -> usize {
        self.rests.len() - self.moving.len()
    }

    /// Returns members at rest whose turn may be next: of each zone at most `of_each_zone`, the first by id.
    pub(super) fn waiting_members(&self, of_each_zone: usize) -> impl Iterator<Item = usize> {
        let most = if self.sorted { of_each_zone } else { usize::MAX };
        self.waiting.iter().flat_map(move |(_, waiting)| waiting.iter().copied().take(most))
    }

    /// Returns the class of a member at rest, and its share of that class's counts.
    pub(super) fn share(&self, index: usize) -> Option<(usize, Sums)> {
        Some((*self.class_of.get(index)?, self.rests[index]?.sums))
    }
}

/// Whether members may rest: not while the deployment is cancelled, halted or over, nor during an outage, nor for a launch.
fn any_may_rest(snapshot: &Snapshot) -> bool {
    let deployment = &snapshot.deployment;
    deployment.state == DeploymentState::Rolling
        && deployment.cancel.is_none()
        && deployment.launch.is_none()
        && snapshot.outage.is_none()
        && !snapshot.outage_ended
}

/// Returns how a member rests: it is in service and healthy, with nothing under way, and either untouched or finished.
fn rest_of(member: &Member) -> Option<Rest> {
    let Member { record, sight, attempt } = member;
    if !sight.serves() || attempt.is_some() {
        return None;
    }
    let waits = match record.state() {
        S::Staged if record.awaits_turn() && !record.touched => true,
        S::Succeeded | S::Skipped => false,
        _ => return None,
    };
    Some(Rest { waits, sums: Sums::of(member) })
}
