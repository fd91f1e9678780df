//! The requests of a balancer: which are in flight to which target, and the counts of all that have been.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::outcome::{Counts, Ended, Outcome, Picked, Targets};

/// Counts requests and knows which are in flight.
pub(super) struct Ledger {
    targets: Arc<dyn Targets>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    counts: Counts,
    open: HashMap<String, Open>,
}

/// The requests in flight to one target.
#[derive(Default)]
struct Open {
    requests: usize,
    close: CancellationToken,
}

impl Ledger {
    /// Makes an empty ledger for requests to these targets.
    pub(super) fn new(targets: Arc<dyn Targets>) -> Ledger {
        Ledger { targets, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the target of a new request; `None` where there is none to send to.
    pub(super) fn pick_target(&self) -> Option<Picked> {
        self.targets.pick()
    }

    /// Counts a request that has arrived.
    pub(super) fn count_arrival(&self) {
        self.entries().counts.requests += 1;
    }

    /// Counts a request as one to this target; the token is cancelled when the target is closed.
    pub(super) fn assign(&self, instance_id: &str) -> CancellationToken {
        let mut entries = self.entries();
        *entries.counts.by_target.entry(instance_id.to_owned()).or_default() += 1;
        let open = entries.open.entry(instance_id.to_owned()).or_default();
        open.requests += 1;
        open.close.clone()
    }

    /// Counts the outcome of a request that has ended and passes it on.
    pub(super) fn record(&self, outcome: &Outcome) {
        {
            let mut entries = self.entries();
            let counts = &mut entries.counts;
            match (&outcome.balancer_error, outcome.status) {
                (Some(_), _) => counts.balancer_5xx += 1,
                (None, 500..) => counts.target_5xx += 1,
                _ => {}
            }
            match outcome.ended {
                Ended::TargetBroke => counts.broken += 1,
                Ended::Deregistered => counts.deregistered += 1,
                Ended::Complete | Ended::Idle | Ended::ClientLeft => {}
            }
            if let Some(id) = &outcome.instance_id
                && let Some(open) = entries.open.get_mut(id)
            {
                open.requests -= 1;
                if open.requests == 0 {
                    entries.open.remove(id);
                }
            }
        }
        self.targets.record(outcome.clone());
    }

    /// Ends the requests in flight to a target.
    pub(super) fn close_target(&self, instance_id: &str) {
        if let Some(open) = self.entries().open.get_mut(instance_id) {
            std::mem::take(&mut open.close).cancel();
        }
    }

    /// Returns the number of requests and tunnels in flight to a target.
    pub(super) fn in_flight(&self, instance_id: &str) -> usize {
        self.entries().open.get(instance_id).map_or(0, |open| open.requests)
    }

    /// Returns the counts so far.
    pub(super) fn counts(&self) -> Counts {
        self.entries().counts.clone()
    }
}
