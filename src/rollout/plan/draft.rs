//! A member of the snapshot, with the changes that the plan has made to it so far.

use crate::rollout::{
    event::LifecycleEvent,
    snapshot::{Attempt, Lifecycle, Member, Sight},
    state::{
        Cause, Failure, Fault, Instance,
        transition::{Illegal, Step, next},
    },
};
use jiff::Timestamp;
use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
};

/// A member of the snapshot, with the changes that the plan has made to it so far.
pub(super) struct Draft<'a> {
    /// Its index in the snapshot.
    pub(super) at: usize,
    pub(super) record: Record<'a>,
    pub(super) sight: &'a Sight,
    pub(super) attempt: Option<&'a Attempt>,
    pub(super) before: &'a Instance,
    pub(super) notes: Vec<String>,
}

/// A record that is copied when it is first changed.
pub(super) struct Record<'a>(pub(super) Cow<'a, Instance>);

impl Deref for Record<'_> {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.0
    }
}

impl DerefMut for Record<'_> {
    fn deref_mut(&mut self) -> &mut Instance {
        self.0.to_mut()
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(at: usize, member: &'a Member) -> Draft<'a> {
        Draft {
            at,
            record: Record(Cow::Borrowed(&member.record)),
            sight: &member.sight,
            attempt: member.attempt.as_ref(),
            before: &member.record,
            notes: Vec::new(),
        }
    }
}

impl Draft<'_> {
    pub(super) fn step(
        &mut self,
        step: Step,
        now: Timestamp,
        note: impl Into<String>,
    ) -> Result<(), Illegal> {
        if step == Step::Restore {
            // Another release: with retries of its own.
            (self.record.transient, self.record.unknown) = (0, 0);
        }
        self.record.phase = next(&self.record.phase, step)?;
        self.record.since = now;
        self.attempt = None;
        self.notes.push(note.into());
        Ok(())
    }

    /// Ends the instance by this fault: `step` is [`Step::Fail`], or [`Step::Relapse`] for one that had succeeded.
    pub(super) fn end_by(
        &mut self,
        step: fn(Box<Failure>) -> Step,
        fault: Fault,
        quarantined: bool,
        now: Timestamp,
        note: impl Into<String>,
    ) -> Result<(), Illegal> {
        self.record.fault = Some(fault.clone());
        self.step(step(Box::new(Failure { fault, quarantined })), now, note)
    }

    /// Whether drover has put it into standby or is doing so. What operators put there is skipped before any draft.
    pub(super) fn is_in_standby(&self) -> bool {
        matches!(self.sight.lifecycle, Lifecycle::Standby | Lifecycle::EnteringStandby)
    }

    /// Ends the deployment's work on it. If it is in service and nothing was run on it, it is skipped; out of service it is
    /// quarantined, and otherwise it has failed with its last fault.
    pub(super) fn end_work(&mut self, now: Timestamp, note: &str) -> Result<(), Illegal> {
        let quarantined = self.is_in_standby();
        let skips = next(&self.record.phase, Step::Skip).is_ok();
        if !quarantined && !self.record.touched && skips {
            return self.step(Step::Skip, now, note);
        }
        let cause = Cause::Deadline(note.to_owned());
        let event = LifecycleEvent::ApplicationStop;
        let fault = self.record.fault.clone().unwrap_or(Fault { event, hook: None, cause, tail: Vec::new() });
        let fate = if quarantined { "kept in quarantine" } else { "left in service as it is" };
        self.step(Step::Fail(Box::new(Failure { fault, quarantined })), now, format!("{note}; {fate}"))
    }
}
