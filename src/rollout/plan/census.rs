//! Who is looked at one by one, and who is only counted. While a rollout goes on most instances rest: their turn has not
//! come, or they are through and serve. A plan costs work in proportion to the others.

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

/// Of a snapshot: its members that are looked at, and the others counted together.
#[derive(Clone, Debug)]
pub struct Census {
    /// Whether any may rest at all: else each is looked at.
    any_may_rest: bool,
    /// How each member rests; none: it is looked at.
    rests: Vec<Option<Rest>>,
    moving: BTreeSet<usize>,
    /// Members that stand in for each other.
    pub(super) classes: Vec<Class>,
    class_of: Vec<usize>,
    known: HashMap<u64, Vec<usize>>,
    /// Those whose turn has not come, by zone; in the order of their numbers.
    waiting: Vec<(String, BTreeSet<usize>)>,
    /// The members are in the order of their ids.
    sorted: bool,
    /// When one of those that rest last changed its state.
    pub(super) latest: Option<Timestamp>,
}

/// Members of one Auto Scaling group with the same memberships.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) group: String,
    pub(super) memberships: Vec<Membership>,
    /// Of those that rest.
    pub(super) sums: Sums,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) all: u32,
    /// Their turn has not come.
    pub(super) waiting: u32,
    pub(super) succeeded: u32,
    pub(super) skipped: u32,
    /// They were in a batch.
    pub(super) started: u32,
    /// They were in service when the deployment began.
    pub(super) served_at_start: u32,
    pub(super) room: Room,
}

/// How a member rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    /// Its turn has not come.
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

    /// Each number by itself, of both.
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

/// It counted towards its group's desired capacity when the deployment began.
pub(super) fn served_at_start(record: &Instance) -> bool {
    !record.joined && (record.state() != S::Skipped || record.healthy_at_start)
}

impl Census {
    /// A snapshot's.
    pub fn of(snapshot: &Snapshot) -> Census {
        Census::taken(snapshot, any_may_rest(snapshot))
    }

    /// The same with nobody at rest: each is looked at.
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

    /// Whether it still fits what the snapshot's deployment is at; if not, another is to be taken.
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

    /// A member has changed; not its memberships.
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

    /// Those that are looked at one by one, in order.
    pub fn moving(&self) -> impl Iterator<Item = usize> {
        self.moving.iter().copied()
    }

    /// How many rest: they all serve.
    pub fn resting(&self) -> usize {
        self.rests.len() - self.moving.len()
    }

    /// Those whose turn may be next: of each zone so many, the first by id.
    pub(super) fn waiting_members(&self, of_each_zone: usize) -> impl Iterator<Item = usize> {
        let most = if self.sorted { of_each_zone } else { usize::MAX };
        self.waiting.iter().flat_map(move |(_, waiting)| waiting.iter().copied().take(most))
    }

    /// The class of one that rests, and what it counts for there.
    pub(super) fn share(&self, index: usize) -> Option<(usize, Sums)> {
        Some((*self.class_of.get(index)?, self.rests[index]?.sums))
    }
}

/// Cancelled, halted, outage and at the end, each one is looked at; and the one instance of a launch.
fn any_may_rest(snapshot: &Snapshot) -> bool {
    let deployment = &snapshot.deployment;
    deployment.state == DeploymentState::Rolling
        && deployment.cancel.is_none()
        && deployment.launch.is_none()
        && snapshot.outage.is_none()
        && !snapshot.outage_ended
}

/// In service and healthy, with nothing under way, nothing done to it yet or all done.
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
