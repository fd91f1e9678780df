//! What Systems Manager says of commands, asked for beside the ticks: a listing of a thousand invocations takes twenty
//! pages, and nothing else waits for it.

use crate::fleet::{self, Fleet, FleetError, commands::Invocation};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// So many commands are asked about one by one; of more, one listing of all since the oldest takes fewer calls.
const ONE_BY_ONE: usize = 5;
/// Where hosts push their own word, Systems Manager is asked this many times less often.
const SELDOM: u32 = 5;
/// Invocations on a page of a listing; one of so many pages is not wanted again for as many seconds.
const PAGE: usize = 50;

/// Commands by what they are for, and how each goes on its instances; one that can't be asked about keeps nobody from
/// asking about the others.
pub(super) type Listed = Vec<(For, fleet::Result<Vec<Invocation>>)>;

/// A listing, and how many invocations there were in it, whosever.
type Done = (Listed, usize);

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
    under_way: Option<AbortOnDropHandle<Done>>,
    begun: Option<Instant>,
    /// Invocations in the last one.
    size: usize,
    /// Why the last one failed, or a part of it.
    failed: Option<FleetError>,
}

impl Listing {
    /// What has been listed since the last time; nothing while it is under way.
    pub(super) async fn take(&mut self) -> Listed {
        let Some(done) = self.under_way.take_if(|under_way| under_way.is_finished()) else {
            return Vec::new();
        };
        let (listed, size) = done.await.unwrap_or_default();
        self.size = size;
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

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, poll: Duration, hosts_push: bool) -> bool {
        let pages = u32::try_from(self.size / PAGE).unwrap_or(u32::MAX);
        let pause = match (&self.failed, hosts_push) {
            // Until it is known again the fleet counts as unseen.
            (Some(_), _) => poll,
            (None, true) => poll * SELDOM + Duration::from_secs(1) * pages,
            (None, false) => poll + Duration::from_secs(1) * pages,
        };
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

async fn list(fleet: &Fleet, commands: Vec<(For, String)>, oldest: Timestamp) -> Done {
    let (mut listed, mut size) = (Vec::new(), 0);
    if commands.len() <= ONE_BY_ONE {
        for (what, command) in commands {
            let invocations = fleet.invocations(&command).await;
            size += invocations.as_ref().map_or(0, Vec::len);
            listed.push((what, invocations));
        }
        return (listed, size);
    }
    let all = match fleet.invocations_since(oldest).await {
        Ok(all) => all,
        Err(error) => {
            return (commands.into_iter().map(|(what, _)| (what, Err(error.clone()))).collect(), 0);
        }
    };
    size = all.len();
    let mut by_command: HashMap<String, Vec<Invocation>> = HashMap::new();
    for (command, invocation) in all {
        by_command.entry(command).or_default().push(invocation);
    }
    for (what, command) in commands {
        listed.push((what, Ok(by_command.remove(&command).unwrap_or_default())));
    }
    (listed, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_manager_is_asked_seldom_where_hosts_push_and_for_many() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let due = |seconds, size, hosts_push| {
            let listing = Listing { begun: ago(seconds), size, ..Listing::default() };
            listing.is_due(Duration::from_secs(1), hosts_push)
        };
        assert!(Listing::default().is_due(Duration::from_secs(1), true), "the first time at once");
        assert!(due(1, 10, false) && !due(1, 10, true) && due(5, 10, true));
        assert!(!due(20, 1_000, true) && due(25, 1_000, true));
    }
}
