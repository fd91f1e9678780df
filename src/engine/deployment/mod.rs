//! One deployment under way, as one value: what is known of it, and the ticks that bring it on.
//!
//! A tick observes the fleet, has a plan made, records it and performs its effects; a file each. What the store has of the
//! deployment is loaded once and kept in step by writing through. Where a person's verb has changed it (the row's
//! `version` tells), or a tick has failed, it is loaded anew: so a start is an ordinary tick.

mod act;
mod changes;
mod commands;
mod dispatch;
mod join;
mod listing;
mod lost_agents;
mod members;
mod observe;
mod release;
mod sight;
mod tick;
mod unsure;

pub(super) use sight::Missed;

use super::Engine;
use crate::fleet::balancer::TargetGroup;
use act::Refusals;
use jiff::Timestamp;
use listing::Listing;
use lost_agents::Silences;
use members::Members;
use sight::Looks;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::Notify;

/// A deployment under way. What is not in the store is only worth knowing while this daemon runs it.
pub(super) struct Deployment<'e> {
    engine: &'e Engine,
    id: i64,
    /// Wakes it before its next look is due.
    notify: Arc<Notify>,
    /// Its instances and attempts, as the store has them; none: to be loaded.
    members: Option<Members>,
    /// What was last seen of its fleet.
    looks: Looks,
    /// Effects that were refused in a row; a restart tries afresh.
    refusals: Refusals,
    /// Settings of its target groups, which seldom change; a restart asks afresh.
    target_groups: Vec<TargetGroup>,
    /// Agents that went away in mid-command.
    silences: Silences,
    /// How its commands go, as Systems Manager says.
    listing: Listing,
    /// Commands that ask attempts to stop: by attempt.
    stops: HashMap<i64, String>,
    /// When dispatches of unknown fate were last sent again, by id.
    sent_again: HashMap<String, Timestamp>,
    /// When a command was first seen to be over, by attempt, while its log is behind.
    over: HashMap<i64, Timestamp>,
}

impl<'e> Deployment<'e> {
    pub(super) fn new(engine: &'e Engine, id: i64, notify: Arc<Notify>) -> Deployment<'e> {
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
