//! The value that a deployment under way is.

use super::{listing::Listing, looks::Looks, members::Members, refusals::Refusals, silences::Silences};
use crate::{engine::Engine, fleet::balancer::TargetGroup};
use jiff::Timestamp;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::Notify;

/// A deployment under way. What is not in the store is only worth knowing while this daemon runs it.
pub(in crate::engine) struct Deployment<'e> {
    pub(super) engine: &'e Engine,
    pub(super) id: i64,
    /// Wakes it before its next look is due.
    pub(super) notify: Arc<Notify>,
    /// Its instances and attempts, as the store has them; none: to be loaded.
    pub(super) members: Option<Members>,
    /// What was last seen of its fleet.
    pub(super) looks: Looks,
    /// Effects that were refused in a row; a restart tries afresh.
    pub(super) refusals: Refusals,
    /// Settings of its target groups, which seldom change; a restart asks afresh.
    pub(super) target_groups: Vec<TargetGroup>,
    /// Agents that went away in mid-command.
    pub(super) silences: Silences,
    /// How its commands go, as Systems Manager says.
    pub(super) listing: Listing,
    /// Commands that ask attempts to stop: by attempt.
    pub(super) stops: HashMap<i64, String>,
    /// When dispatches of unknown fate were last sent again, by id.
    pub(super) sent_again: HashMap<String, Timestamp>,
    /// When a command was first seen to be over, by attempt, while its log is behind.
    pub(super) over: HashMap<i64, Timestamp>,
}

impl<'e> Deployment<'e> {
    pub(in crate::engine) fn new(engine: &'e Engine, id: i64, notify: Arc<Notify>) -> Deployment<'e> {
        Deployment {
            engine,
            id,
            notify,
            members: None,
            looks: Looks::default(),
            refusals: Refusals::default(),
            target_groups: Vec::new(),
            silences: Silences::default(),
            listing: Listing::default(),
            stops: HashMap::new(),
            sent_again: HashMap::new(),
            over: HashMap::new(),
        }
    }
}
