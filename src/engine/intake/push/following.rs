//! What is remembered about GitHub between two looks; a restart asks afresh.

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A repository that GitHub doesn't let us at is asked again after pauses from this…
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// GitHub's API knows a pushed commit within seconds of the delivery, as a rule.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// A delivery whose commit it doesn't know yet is looked at again at the latest after this.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// Repositories and deliveries that are followed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Following {
    /// GitHub's number of each followed repository, by the name in the configuration.
    ids: HashMap<String, u64>,
    /// ETag of each branch's head, by repository and branch.
    etags: HashMap<(String, String), String>,
    /// Repositories, and deliveries, that are left alone for a while, and the pauses that follow.
    waiting: HashMap<Waiting, (Instant, ExponentialBackoff)>,
}

/// Who is left alone.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Waiting {
    Repository(String),
    Delivery(String),
}

impl Following {
    pub(super) fn is_known(&self, repository: &str) -> bool {
        self.ids.contains_key(repository)
    }

    pub(super) fn learn(&mut self, repository: &str, id: u64) {
        self.ids.insert(repository.to_owned(), id);
        self.reached(repository);
    }

    /// The configured name of the repository with this number.
    pub(super) fn with_id(&self, id: u64) -> Option<String> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone())
    }

    pub(super) fn etag(&self, repository: &str, branch: &str) -> Option<String> {
        self.etags.get(&(repository.to_owned(), branch.to_owned())).cloned()
    }

    pub(super) fn put_etag(&mut self, repository: &str, branch: &str, etag: String) {
        self.etags.insert((repository.to_owned(), branch.to_owned()), etag);
    }

    /// GitHub can't be reached for this repository, or doesn't let us in: others go on.
    pub(super) fn wait_for(&mut self, repository: &str) {
        self.wait(Waiting::Repository(repository.to_owned()), FIRST_PAUSE, LONGEST_PAUSE);
    }

    pub(super) fn waits_for(&self, repository: &str) -> bool {
        self.waits(&Waiting::Repository(repository.to_owned()))
    }

    /// It answers again.
    pub(super) fn reached(&mut self, repository: &str) {
        self.waiting.remove(&Waiting::Repository(repository.to_owned()));
    }

    /// GitHub's API doesn't show yet what this delivery speaks of.
    pub(super) fn look_later(&mut self, delivery: &str) {
        self.wait(Waiting::Delivery(delivery.to_owned()), FIRST_LOOK, LAST_LOOK);
    }

    pub(super) fn is_looked_at_later(&self, delivery: &str) -> bool {
        self.waits(&Waiting::Delivery(delivery.to_owned()))
    }

    /// The delivery has ended.
    pub(super) fn forget(&mut self, delivery: &str) {
        self.waiting.remove(&Waiting::Delivery(delivery.to_owned()));
    }

    /// How long until the first of those that wait is tried again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let now = Instant::now();
        self.waiting
            .values()
            .map(|(until, _)| until.saturating_duration_since(now))
            .filter(|d| !d.is_zero())
            .min()
    }

    fn waits(&self, who: &Waiting) -> bool {
        self.waiting.get(who).is_some_and(|(until, _)| *until > Instant::now())
    }

    fn wait(&mut self, who: Waiting, first: Duration, longest: Duration) {
        let pauses = || {
            let pauses = ExponentialBuilder::default().with_min_delay(first).with_max_delay(longest);
            (Instant::now(), pauses.without_max_times().build())
        };
        let (until, pauses) = self.waiting.entry(who).or_insert_with(pauses);
        *until = Instant::now() + pauses.next().unwrap_or(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_holds_up_no_other() {
        let mut following = Following::default();
        following.wait_for("acme/locked");
        following.look_later("d-1");
        assert!(following.waits_for("acme/locked") && !following.waits_for("acme/open"));
        assert!(following.is_looked_at_later("d-1") && !following.is_looked_at_later("d-2"));
        assert!(following.next_try().is_some_and(|next| next <= LAST_LOOK));
        following.reached("acme/locked");
        following.forget("d-1");
        assert!(!following.waits_for("acme/locked") && following.next_try().is_none());
    }
}
