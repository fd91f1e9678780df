//! Finds failures that are the revision's and not the instances'.

use super::planner::Planner;
use crate::rollout::{
    class::{Class, classify, normalise},
    event::LifecycleEvent,
    state::{
        InstanceState as S,
        transition::{Illegal, Step},
    },
};
use std::collections::BTreeMap;

/// Failures at one event with the same last line.
#[derive(Default)]
struct SameFailure {
    all: u32,
    /// Those that are not tried again.
    exhausted: u32,
    /// Whether at least one is transient.
    any_transient: bool,
}

impl Planner<'_> {
    /// Returns the event and the reason if the failure is the revision's and not the instances'. That is so if no instance
    /// got through an event, and on the same last line there failed either two or more, and at least half of those that
    /// tried, with their retries used up; or each of the first few, in a way that is not transient.
    pub(super) fn find_systemic_failure(&self) -> Option<(LifecycleEvent, String)> {
        let mut tried: BTreeMap<LifecycleEvent, u32> = BTreeMap::new();
        let mut alike: BTreeMap<(LifecycleEvent, String), SameFailure> = BTreeMap::new();
        for draft in &self.drafts {
            let failing = matches!(draft.record.state(), S::Failed | S::Waiting)
                && self.counts_since_resume(&draft.record);
            let Some(fault) = draft.record.fault.as_ref().filter(|_| failing) else { continue };
            *tried.entry(fault.event).or_default() += 1;
            let Some(line) = fault.tail.last() else { continue };
            let seen = alike.entry((fault.event, normalise(line))).or_default();
            seen.all += 1;
            seen.exhausted += u32::from(draft.record.state() == S::Failed);
            seen.any_transient |= classify(fault, &self.snapshot.policy.retry) == Class::Transient;
        }
        // Two of two say enough; of two hundred in hand it takes twenty.
        let few =
            self.count(|record| record.batch.is_some() && !record.state().is_final()).div_ceil(10).max(2);
        let is_systemic = |event: LifecycleEvent, seen: &SameFailure| {
            let tried = tried.get(&event).copied().unwrap_or_default();
            let by_share = seen.exhausted >= 2 && seen.exhausted * 2 >= tried;
            // While staging nothing is at stake: retries come first.
            let first = event != LifecycleEvent::DownloadBundle && !seen.any_transient;
            (by_share || first && seen.all >= few && seen.all == tried) && !self.has_any_passed(event)
        };
        let ((event, line), seen) = alike.into_iter().find(|((event, _), seen)| is_systemic(*event, seen))?;
        let (tried, total) = (tried.get(&event).copied().unwrap_or_default(), self.total());
        let words = format!(
            "systemic: {} of the {tried} that tried {event} failed on the same line ({} with their retries used up), and none \
             of {total} instances got past it: {line}",
            seen.all, seen.exhausted
        );
        Some((event, words))
    }

    fn has_any_passed(&self, event: LifecycleEvent) -> bool {
        let of_those_at_rest = self.resting(|sums| match event {
            LifecycleEvent::DownloadBundle => sums.waiting + sums.succeeded,
            _ => sums.succeeded,
        });
        of_those_at_rest > 0
            || self.drafts.iter().any(|draft| match draft.record.state() {
                S::Succeeded | S::Allowing | S::PostAllowing => {
                    draft.record.touched && event < LifecycleEvent::AllowTraffic
                        || draft.record.state() == S::Succeeded
                }
                S::Staged | S::PreBlocking | S::Blocking | S::Deploying => {
                    event == LifecycleEvent::DownloadBundle
                }
                _ => false,
            })
    }

    pub(super) fn end_retries_of(&mut self, event: LifecycleEvent) -> Result<(), Illegal> {
        for draft in &mut self.drafts {
            let Some(fault) = draft.record.fault.clone().filter(|fault| fault.event == event) else {
                continue;
            };
            if draft.record.state() == S::Waiting {
                let quarantined = draft.is_in_standby();
                let note = "the failure is systemic: not tried again";
                draft.end_by(Step::Fail, fault, quarantined, self.now, note)?;
            }
        }
        Ok(())
    }
}
