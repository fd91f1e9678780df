//! Decides on a fault: whether and when it is retried, or that it ends the work on its instance.

use super::planner::Planner;
use crate::rollout::{
    class::{Class, backoff, classify},
    event::{LifecycleEvent, RUN},
    state::{
        Back, Cause, Fault, Wait,
        transition::{Illegal, Step},
    },
};
use jiff::{SignedDuration, Timestamp};

/// The pause between two tries while a lost attempt keeps the next one from starting.
const PAUSE_WHILE_BUSY: SignedDuration = SignedDuration::from_secs(30);

impl Planner<'_> {
    /// Decides on a fault of draft `index`, by its class and the retries that are left: it waits for a retry that continues
    /// at `back`, or it has failed. The event at which the retry begins follows from the fault, not from `back`.
    pub(super) fn handle_fault(
        &mut self,
        index: usize,
        fault: Fault,
        back: Back,
        quarantine: bool,
    ) -> Result<(), Illegal> {
        let (now, retry) = (self.now, &self.snapshot.policy.retry);
        let cancelled = self.snapshot.deployment.cancel.is_some();
        let launch = self.is_launch();
        self.note_lost_attempt(index, &fault);
        let draft = &mut self.drafts[index];
        let busy =
            fault.cause == Cause::Busy && draft.record.lost_attempt_until.is_some_and(|until| now < until);
        if busy && !cancelled {
            // An attempt that was given up for lost is at work still: that uses up nothing.
            let until = now + retry.cap.min(PAUSE_WHILE_BUSY);
            let words = fault.words();
            draft.record.fault = Some(fault);
            // It begins where it was to begin.
            let back = back.at(draft.record.phase.resume());
            let note = format!("{words}; waiting until that one has ended");
            return draft.step(Step::Wait(Wait { until, back }), now, note);
        }
        let class = classify(&fault, retry);
        let (used, allowed) = match class {
            Class::Transient => (&mut draft.record.transient, retry.attempts),
            Class::Unknown => (&mut draft.record.unknown, retry.attempts_unknown),
            Class::Permanent => (&mut draft.record.unknown, 1),
        };
        *used += 1;
        let (used, words) = (*used, fault.words());
        draft.record.fault = Some(fault.clone());
        if used < allowed && (!cancelled || back == Back::Restoring) {
            let seed = draft.record.attempt().unwrap_or_default().unsigned_abs();
            let pause = backoff(retry, used, seed);
            let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
            let resume = match (back, &fault.cause) {
                (Back::Deploying { .. }, Cause::AgentLost(_)) => Some(LifecycleEvent::ApplicationStop),
                _ => match fault.event.retry_from() {
                    // Not drained in time: the run begins where it was to begin.
                    LifecycleEvent::BlockTraffic => draft.record.phase.resume(),
                    event => Some(event).filter(|event| RUN.contains(event)),
                },
            };
            let back = back.at(resume);
            let note = format!(
                "{words}; {}, retry {used} of {} in {:.1} s",
                class.word(),
                allowed - 1,
                pause.as_secs_f64()
            );
            draft.step(Step::Wait(Wait { until, back }), now, note)
        } else {
            let why = match class {
                Class::Permanent => "permanent: not tried again".to_owned(),
                _ => format!("{}, {used} of {allowed} attempts used", class.word()),
            };
            let quarantine = quarantine && !launch;
            let fate = match (launch, quarantine) {
                (true, _) => "its launch is given up",
                (_, true) => "quarantined out of the balancer",
                (_, false) => "left in service",
            };
            draft.end_by(Step::Fail, fault, quarantine, now, format!("{words}; {why}; {fate}"))
        }
    }

    /// Records until when a lost attempt may still run, and keep the next one from starting.
    pub(super) fn note_lost_attempt(&mut self, index: usize, fault: &Fault) {
        let limit = self.attempt_deadline(index);
        let draft = &mut self.drafts[index];
        if let (Cause::AgentLost(_), Some(attempt)) = (&fault.cause, draft.attempt) {
            draft.record.lost_attempt_until = Some(attempt.created_at + limit);
        }
    }
}
