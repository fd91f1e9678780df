//! Agents that go away in mid-command. Systems Manager lets such a command run into its time-out, which is the sum of all
//! its hooks' time-outs and may be hours; a person would have looked at the agent long before.

use super::{Deployment, silences::Silence};
use crate::{
    engine::{outcome::outcome_of_silence, record},
    store::{AttemptRow, DeploymentRow},
};
use jiff::{SignedDuration, Timestamp};

/// Between two looks at the agents of a deployment. One DescribeInstanceInformation for 50 of them.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(20);

/// What was not looked at for so long is forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

impl Deployment<'_> {
    /// Ends attempts whose agent has been away for the policy's `deadlines.agent`, and of whose hooks nothing came in
    /// meanwhile. Should they run on all the same, the host's lock keeps the next attempt out until they have ended.
    pub(super) async fn look_for_lost_agents(
        &mut self,
        row: &DeploymentRow,
        open: &[&AttemptRow],
    ) -> anyhow::Result<()> {
        let limit = record::policy(row)?.deadlines.agent;
        let now = Timestamp::now();
        // Short-lived ones are not worth a call.
        let every = LOOK_EVERY.min(limit / 2);
        let old = |attempt: &&&AttemptRow| now >= record::time(attempt.created_at) + every;
        let old: Vec<&AttemptRow> = open.iter().filter(old).copied().collect();
        let due = self.silences.looked.is_none_or(|last| now >= last + every);
        if old.is_empty() || !due {
            return Ok(());
        }
        self.silences.looked = Some(now);
        // What is not looked at again has ended.
        self.silences.since.retain(|_, silence| now < silence.seen + FORGOTTEN);
        let online = self.engine.online(old.iter().map(|attempt| attempt.instance.clone()).collect()).await?;
        for attempt in old {
            if online.contains(&attempt.instance) {
                self.silences.since.remove(&attempt.number);
                continue;
            }
            let begun = Silence { since: now, bytes: attempt.log_bytes, seen: now };
            let silence = self.silences.since.entry(attempt.number).or_insert(begun);
            if silence.bytes != attempt.log_bytes {
                (silence.since, silence.bytes) = (now, attempt.log_bytes);
            }
            silence.seen = now;
            let silent_for = now.duration_since(silence.since);
            if silent_for >= limit {
                let outcome = outcome_of_silence(attempt, silent_for);
                self.take_outcome(attempt, &outcome, None).await?;
            }
        }
        Ok(())
    }
}
