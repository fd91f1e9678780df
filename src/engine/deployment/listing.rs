//! What Systems Manager says of commands, asked for beside the ticks: a listing of a thousand invocations takes twenty
//! pages, and nothing else waits for it.

use crate::fleet::{self, Fleet, FleetError, commands::Invocation};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// So many commands are asked about one by one; of more, one listing of all since the oldest takes fewer calls.
const ONE_BY_ONE: usize = 5;
/// AWS's clock and ours differ by less.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// Where hosts push their own word, Systems Manager is asked this many times less often.
const SELDOM: u32 = 5;
/// A page of a listing; a listing of so many pages is not wanted again for as many seconds.
const PAGE: usize = 50;

/// Commands by what they are for, and how each goes on its instances; one that can't be asked about keeps nobody from
/// asking about the others.
pub(super) type Listed = Vec<(For, fleet::Result<Vec<Invocation>>)>;

/// What a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// This dispatch.
    Dispatch(String),
    /// To stop this attempt.
    Stop(i64),
}

/// The last listing, and the one that is under way.
#[derive(Default)]
pub(super) struct Listing {
    under_way: Option<AbortOnDropHandle<Listed>>,
    begun: Option<Instant>,
    /// Why the last one failed, or a part of it.
    failed: Option<FleetError>,
}

impl Listing {
    /// What has been listed since the last time; nothing while it is under way.
    pub(super) async fn take(&mut self) -> Listed {
        let Some(done) = self.under_way.take_if(|under_way| under_way.is_finished()) else {
            return Vec::new();
        };
        let listed = done.await.unwrap_or_default();
        self.failed = listed.iter().find_map(|(_, listed)| listed.as_ref().err().cloned());
        listed
    }

    /// Why it isn't known how commands go, if so.
    pub(super) fn failed(&self) -> Option<FleetError> {
        self.failed.clone()
    }

    /// Nothing is to be asked about.
    pub(super) fn rest(&mut self) {
        *self = Listing::default();
    }

    /// Whether it is time to ask again, about so many attempts.
    pub(super) fn is_due(&self, attempts: usize, poll: Duration, hosts_push: bool) -> bool {
        let pages = u32::try_from(attempts / PAGE).unwrap_or(u32::MAX);
        let pause = if hosts_push { poll * SELDOM } else { poll };
        let pause = pause + Duration::from_secs(1) * pages;
        self.under_way.is_none() && self.begun.is_none_or(|begun| begun.elapsed() >= pause)
    }

    /// Begins to ask about these commands, of which the oldest was sent then; `told` is told when it is done.
    pub(super) fn begin(
        &mut self,
        fleet: &Fleet,
        commands: Vec<(For, String)>,
        oldest: Timestamp,
        told: Arc<Notify>,
    ) {
        let fleet = fleet.clone();
        self.begun = Some(Instant::now());
        self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let listed = list(&fleet, commands, oldest).await;
            told.notify_one();
            listed
        })));
    }
}

async fn list(fleet: &Fleet, commands: Vec<(For, String)>, oldest: Timestamp) -> Listed {
    let mut listed = Vec::new();
    if commands.len() <= ONE_BY_ONE {
        for (what, command) in commands {
            listed.push((what, fleet.invocations(&command).await));
        }
        return listed;
    }
    let all = match fleet.invocations_since(oldest - CLOCKS_DIFFER).await {
        Ok(all) => all,
        Err(error) => return commands.into_iter().map(|(what, _)| (what, Err(error.clone()))).collect(),
    };
    let mut by_command: HashMap<String, Vec<Invocation>> = HashMap::new();
    for (command, invocation) in all {
        by_command.entry(command).or_default().push(invocation);
    }
    for (what, command) in commands {
        listed.push((what, Ok(by_command.remove(&command).unwrap_or_default())));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_manager_is_asked_seldom_where_hosts_push_and_for_many() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let due = |seconds, attempts, hosts_push| {
            let listing = Listing { begun: ago(seconds), ..Listing::default() };
            listing.is_due(attempts, Duration::from_secs(1), hosts_push)
        };
        assert!(Listing::default().is_due(5_000, Duration::from_secs(1), true), "the first time at once");
        assert!(due(1, 10, false) && !due(1, 10, true) && due(5, 10, true));
        assert!(!due(20, 1_000, true) && due(25, 1_000, true));
    }
}
