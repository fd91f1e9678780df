//! Explains in words why the deployment and its instances wait.

use super::{launch::HELD, planner::Planner, service::describe_sight};
use crate::rollout::{
    snapshot::Lifecycle,
    state::{DeploymentState as D, InstanceState as S},
};
use jiff::{SignedDuration, Timestamp};

impl Planner<'_> {
    pub(super) fn explain(&mut self) {
        let mut lines = Vec::new();
        if self.snapshot.deployment.cancel.is_some() {
            lines.push(
                "cancelling: nothing new is started; touched instances get their former release back".into(),
            );
        }
        if let Some(outage) = self.outage() {
            let seconds = self.now.duration_since(outage.since).as_secs();
            lines.push(format!(
                "the fleet can't be seen for {seconds} s now: {}; what is in work goes on, nothing new is begun",
                outage.why
            ));
        }
        match self.state {
            D::Halted | D::Paused if self.has_work_under_way() => {
                let word = self.state.to_string().to_lowercase();
                lines.push(format!("{word}: instances in work finish, nothing new is started"));
            }
            D::Halted => {
                lines.push("halted: waits for a person (drover resume, retry, rollback or cancel)".into())
            }
            D::Paused => lines.push("paused: waits for a person (drover resume or cancel)".into()),
            D::Rolling if self.awaits_approval() => {
                lines.push(format!(
                    "batch {} is through; the rest waits for approval (drover approve)",
                    self.batch
                ));
            }
            D::Rolling => {
                let staging = self.count(|r| r.in_staging());
                let all = self.count(|_| true) + self.resting(|sums| sums.all);
                if staging > 0 {
                    lines.push(format!("staging: {} of {all} instances hold the revision", all - staging));
                }
                if let Some(done) = self.snapshot.deployment.batch_done_at {
                    let left = (done + self.snapshot.policy.bake).duration_since(self.now);
                    if left.is_positive() && self.batch == self.snapshot.deployment.batch {
                        lines.push(format!("baking batch {}: {} s left", self.batch, left.as_secs()));
                    }
                }
                let held = self.count(|r| r.state() == S::Staged && r.batch.is_some());
                if held > 0 {
                    lines.push(format!(
                        "{held} of batch {} wait for capacity: {}",
                        self.batch,
                        self.capacity().words()
                    ));
                }
            }
            _ => {}
        }
        lines.extend(self.snapshot.refused.iter().map(|(key, refused)| {
            let call = key.split(':').next().unwrap_or(key);
            format!("{call} was refused {} times: {}", refused.times, refused.message)
        }));
        self.plan.explain.deployment = lines;
        self.plan.explain.waiting = Some(match self.batch {
            0 => "staged; waits for the others to be".into(),
            batch => format!("staged; waits for batch {batch} to be through"),
        });
        let capacity = self.capacity().words();
        for index in 0..self.drafts.len() {
            if let Some(words) = self.explain_one(index, &capacity) {
                self.plan.explain.instances.insert(self.drafts[index].record.id.clone(), words);
            }
        }
    }

    fn explain_one(&self, index: usize, capacity: &str) -> Option<String> {
        let draft = &self.drafts[index];
        let since = draft.record.since;
        let words = match draft.record.state() {
            S::Staged if draft.record.batch.is_some() => {
                format!("waits for capacity: {capacity}")
            }
            // The same of all of them.
            S::Staged => return None,
            S::Staging if draft.attempt.is_some() => "downloading and unpacking the revision".into(),
            S::Blocking => {
                let delay = self.snapshot.timing.deregistration_delay;
                let left = self.left(since + delay);
                match draft.sight.lifecycle {
                    Lifecycle::InService => "going into standby".into(),
                    _ => format!(
                        "draining: about {left} s left of the deregistration delay of {} s",
                        delay.as_secs()
                    ),
                }
            }
            S::Allowing if draft.sight.lifecycle == Lifecycle::Coming(HELD.into()) => {
                "let into service".into()
            }
            S::Allowing => {
                let left = self.left(since + self.snapshot.timing.becoming_healthy);
                format!("waits for the balancer: {}; about {left} s", describe_sight(draft.sight))
            }
            S::Waiting => {
                let wait = draft.record.wait()?;
                let why = draft.record.fault.as_ref().map(|fault| fault.words()).unwrap_or_default();
                format!("retry in {} s at {}: {why}", self.left(wait.until), wait.back.state())
            }
            S::Deploying | S::Restoring | S::PreBlocking | S::PostAllowing if draft.attempt.is_some() => {
                let ran = self.now.duration_since(since).max(SignedDuration::ZERO).as_secs();
                format!("hooks run, {ran} s")
            }
            S::Failed => draft.record.failure()?.fault.words(),
            _ => return None,
        };
        Some(words)
    }

    fn left(&self, until: Timestamp) -> i64 {
        until.duration_since(self.now).max(SignedDuration::ZERO).as_secs()
    }
}
