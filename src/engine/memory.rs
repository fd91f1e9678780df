//! What the engine remembers for a while, and finds out again after a restart.

use crate::fleet::{autoscaling::GroupSight, balancer::TargetSight};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::Instant,
};

/// An estimate of a rollout's end.
#[derive(Clone, Copy)]
pub(super) struct Left {
    /// When it is through if all goes well; none where that can't be said.
    pub(super) until: Option<Timestamp>,
    /// When to estimate anew.
    pub(super) due: Timestamp,
}

/// What is known of the uploads, outside the reader.
#[derive(Default)]
pub(super) struct Uploads {
    /// How many logs are being read.
    pub(super) open: AtomicU32,
    /// Deployments whose log says that it can't be read, or that no stream is there.
    pub(super) said: Mutex<HashSet<i64>>,
}

/// The ids of instances, as several deployments look at them.
pub(super) type InstanceIds = Arc<HashSet<String>>;

/// What was seen, and when.
type Seen<T> = (Instant, Vec<T>);

/// What was seen lately, by what was asked for. Held while it is asked: the others wait for that answer.
#[derive(Default)]
pub(super) struct Shared {
    /// Auto Scaling groups that somebody wants to see, by name: the next call asks for them all.
    pub(super) wanted_groups: Mutex<BTreeSet<String>>,
    /// What the last call showed of each, if there is such a group, and when it was made. Held while it is made.
    pub(super) seen_groups: tokio::sync::Mutex<HashMap<String, (Instant, Option<GroupSight>)>>,
    /// Instances registered with target groups of others, by ARN. Held while they are looked through.
    pub(super) members: tokio::sync::Mutex<HashMap<String, (Instant, InstanceIds)>>,
    pub(super) targets: tokio::sync::Mutex<HashMap<String, Seen<TargetSight>>>,
}
