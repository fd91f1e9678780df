//! Trouble that is waited out, and for how long: a fleet that can't be observed, an account that AWS refuses, a deployment
//! that doesn't end. Every state ends at some time.

use super::{change::Change, planner::Planner, service::is_behind_balancer};
use crate::rollout::{
    snapshot::Outage,
    state::{
        Cause, DeploymentState as D, Fault, InstanceState as S,
        transition::{Illegal, Step},
    },
};
use jiff::{SignedDuration, Timestamp};

/// Trouble that is nobody's fault here (AWS refuses drover's credentials or permissions, throttles it, or is away; the
/// fleet can't be seen) is waited out for so long. After that the deployment halts. What can't be seen is judged by no
/// deadline of its own: those of the halt and of a cancel end it.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(15);
/// A deployment whose time is up tries for so long to put its groups in order, then ends and names what is left.
pub const LAST_TRIES: SignedDuration = SignedDuration::from_mins(15);

impl Planner<'_> {
    /// Returns why the fleet can't be observed, if it can't.
    pub(super) fn outage(&self) -> Option<&Outage> {
        self.snapshot.outage.as_ref()
    }

    /// Extends a deadline by [`PATIENCE`] while AWS refuses drover as a whole.
    pub(super) fn extend_deadline(&self, deadline: Timestamp) -> Timestamp {
        if self.is_refused_by_account() { deadline + PATIENCE } else { deadline }
    }

    /// Whether AWS refuses drover as a whole at present.
    pub(super) fn is_refused_by_account(&self) -> bool {
        self.snapshot.refused.values().any(|refused| refused.of_the_account)
    }

    /// Restarts the waits for what the fleet shows, once the fleet can be observed again.
    pub(super) fn restart_waits_after_outage(&mut self) {
        if !self.snapshot.outage_ended {
            return;
        }
        for draft in &mut self.drafts {
            if matches!(draft.record.state(), S::Blocking | S::Allowing) {
                draft.record.since = self.now;
            }
        }
    }

    /// Returns why the deployment must halt, if the fleet couldn't be observed, or AWS has refused drover as a whole, for
    /// too long. There is no rollback for that: it could observe and do no more.
    pub(super) fn find_lasting_trouble(&mut self) -> Option<String> {
        let unseen =
            self.outage().map(|outage| (outage.since, format!("the fleet can't be seen: {}", outage.why)));
        let refused = self.snapshot.refused.values().filter(|refused| refused.of_the_account);
        let refused = refused.map(|refused| (refused.since, refused.message.clone())).min();
        let (since, why) = unseen.into_iter().chain(refused).min()?;
        if self.now < since + PATIENCE {
            self.wake(since + PATIENCE);
            return None;
        }
        let minutes = self.now.duration_since(since).as_secs() / 60;
        Some(format!("for {minutes} min now: {why}"))
    }

    /// Ends the work on instances whose dispatch can't be sent: they wait with nothing under way, which no deadline of an
    /// attempt ends. Those on which nothing was run go back into service.
    pub(super) fn end_unsent_dispatches(&mut self) -> Result<(), Illegal> {
        if self.outage().is_some() {
            return Ok(());
        }
        for index in 0..self.drafts.len() {
            let draft = &self.drafts[index];
            let waits = matches!(
                draft.record.state(),
                S::Staging | S::PreBlocking | S::Deploying | S::PostAllowing | S::Restoring
            );
            if !waits || draft.attempt.is_some() || draft.record.running().is_some() {
                continue;
            }
            let deadline = draft.record.since + PATIENCE;
            if self.now < deadline {
                self.wake(deadline);
                continue;
            }
            let out = draft.is_in_standby() || !is_behind_balancer(draft.sight);
            // One in its last hooks serves already.
            let in_hand = draft.record.state() != S::PostAllowing && !self.is_launch();
            let quarantined = out && in_hand && (draft.record.touched || draft.record.was_quarantined);
            let event = self.running_event(draft.record.state());
            let refused = self.snapshot.refused.values().map(|refused| refused.message.as_str()).next();
            let why = refused.unwrap_or("its command could not be sent");
            let cause = Cause::Undelivered(format!("{why}, for {} min", PATIENCE.as_mins()));
            let fault = Fault { event, hook: None, cause, tail: Vec::new() };
            let fate = match (quarantined, out) {
                (true, _) => "quarantined out of the balancer",
                (false, true) => "nothing was run on it: back into service",
                (false, false) => "left in service",
            };
            let note = format!("{}; {fate}", fault.words());
            let draft = &mut self.drafts[index];
            draft.end_by(Step::Fail, fault, quarantined, self.now, note)?;
        }
        Ok(())
    }

    /// Returns when the time of a deployment that is cancelled or waits for a person is up.
    pub(super) fn last_deadline(&self) -> Option<Timestamp> {
        let (deployment, deadlines) = (&self.snapshot.deployment, &self.snapshot.policy.deadlines);
        match deployment.cancel {
            Some(_) => Some(deployment.cancelled_at? + deadlines.cancelled),
            None if self.is_unapproved() => Some(deployment.since),
            None if deployment.state.waits_for_a_person() => Some(deployment.since + deadlines.halted),
            None => None,
        }
    }

    /// Ends all work of a deployment whose time is up.
    pub(super) fn end_overdue_work(&mut self) -> Result<(), Illegal> {
        let Some(mut until) = self.last_deadline() else { return Ok(()) };
        if self.outage().is_some() {
            // Sight may come back, and show that all is well.
            until += LAST_TRIES;
        }
        if self.now < until {
            self.wake(until);
            return Ok(());
        }
        let why = match self.snapshot.deployment.cancel {
            Some(_) => "cancelled, and not through in time",
            None if self.is_unapproved() => "the rest was not approved",
            None => "it waited for a person, and nobody came",
        };
        for draft in &mut self.drafts {
            if draft.record.state().is_final() {
                continue;
            }
            draft.end_work(self.now, why)?;
        }
        Ok(())
    }

    /// Whether the time to put the groups back in order is over too: the deployment then ends, and says what is left.
    pub(super) fn are_last_tries_over(&mut self) -> bool {
        let Some(until) = self.last_deadline().map(|until| until + LAST_TRIES) else { return false };
        if self.now < until {
            self.wake(until);
        }
        self.now >= until
    }

    /// Describes what is left changed on the groups, and the command that puts it back.
    pub(super) fn describe_unrestored_groups(&self) -> Option<String> {
        let held = self.snapshot.groups.iter().filter(|(_, group)| group.hold.is_some());
        let names: Vec<&str> = held.map(|(name, _)| name.as_str()).collect();
        let refused = self.snapshot.refused.values().next().map(|refused| format!(" ({})", refused.message));
        (!names.is_empty()).then(|| {
            format!(
                "Auto Scaling group {} could not be put back in order{}: once it can be, drover group restore {}",
                names.join(", "),
                refused.unwrap_or_default(),
                self.snapshot.deployment.group
            )
        })
    }

    /// Halts a deployment after a long outage, and returns whether it did.
    pub(super) fn halt_after_long_outage(&mut self) -> bool {
        if self.state != D::Rolling || self.snapshot.deployment.cancel.is_some() {
            return false;
        }
        let Some(reason) = self.find_lasting_trouble() else { return false };
        self.state = D::Halted;
        self.reason = Some(reason.clone());
        self.plan.changes.push(Change::Deployment { state: D::Halted, reason: Some(reason) });
        true
    }
}
