//! What happens to the fleet: broken agents, others who change the group, people, restarts.

use super::*;

impl Fleet {
    pub(super) fn lose(&mut self, who: usize) {
        let member = self.at(who);
        let state = member.record.state();
        let running = member.attempt.as_ref().filter(|attempt| attempt.outcome.is_none());
        let running = running.map(|attempt| attempt.number);
        let kind = KINDS.into_iter().find(|kind| kind.state() == state).unwrap_or(DispatchKind::Run);
        let Some(result) = self.toy.results.iter_mut().find(|result| Some(result.2) == running) else {
            return;
        };
        let cause = Cause::AgentLost("no word of the runner".into());
        let fault = Fault { event: kind.first_event(), hook: None, cause, tail: Vec::new() };
        result.3 = Outcome::Failed(fault);
    }

    pub(super) fn sicken(&mut self, who: usize, seconds: i64) {
        let well_again = self.toy.now + SignedDuration::from_secs(seconds);
        let member = self.at(who);
        if member.sight.lifecycle != Lifecycle::InService {
            return;
        }
        member.sight.health = Health::Unhealthy("Target.Timeout".into());
        let id = member.record.id.clone();
        self.forget(&id);
        self.toy.coming.push((well_again, id, Lifecycle::InService, Health::Healthy));
    }

    pub(super) fn terminate(&mut self, who: usize) {
        let member = self.at(who);
        member.sight = Sight::gone();
        let id = member.record.id.clone();
        self.forget(&id);
    }

    /// Auto Scaling ends one of those in service.
    pub(super) fn shrink(&mut self, who: usize) {
        let (group, serving) = (&self.toy.snapshot.groups["asg"], self.in_lifecycle_service());
        let serves = self.toy.snapshot.members[who % self.toy.snapshot.members.len()].sight.lifecycle
            == Lifecycle::InService;
        if !serves || group.desired <= group.min || group.desired > serving {
            return;
        }
        self.group().desired -= 1;
        let member = self.at(who);
        member.sight = Sight { scaled_in: true, ..Sight::gone() };
        let id = member.record.id.clone();
        self.forget(&id);
    }

    /// As the engine's `observe::join` does.
    pub(super) fn join(&mut self) {
        let now = self.toy.now;
        let members = &mut self.toy.snapshot.members;
        let number = members.len();
        let mut record = Instance::new(&format!("i-{number:02}"), ["a", "b", "c"][number % 3], "asg", now);
        record.memberships = members[0].record.memberships.clone();
        let sight = Sight::serving();
        members.push(Member { record, sight, attempt: None });
        let desired = self.group().desired;
        self.desire(desired);
    }

    /// Never less than are in service (that would end some), nor than MinSize.
    pub(super) fn desire(&mut self, desired: u32) {
        let serving = self.in_lifecycle_service();
        let group = self.group();
        group.desired = desired.max(serving).max(group.min);
    }

    pub(super) fn set_min(&mut self, min: u32) {
        // One that drover set too couldn't be told from it.
        if min == self.group().min || self.ours.contains(&min) {
            return;
        }
        let group = self.group();
        group.min = min;
        group.desired = group.desired.max(min);
        self.min = min;
    }

    /// As the engine's `verbs` does.
    pub(super) fn apply_verb(&mut self, verb: Verb, only: Option<usize>) {
        let deployment = &mut self.toy.snapshot.deployment;
        match (rule(verb, Standing::newest(deployment.state, deployment.cancel.is_some())), verb) {
            (Ruling::Do, Verb::Pause) => self.toy.pause(),
            (Ruling::Do, Verb::Resume) => self.toy.resume(),
            (Ruling::Do, Verb::Approve) => deployment.approved = true,
            (Ruling::Do, Verb::Retry) => self.retry(only),
            (Ruling::NewDeployment, Verb::Rollback)
                if deployment.fallback.is_some() && !deployment.rolled_back =>
            {
                (deployment.rolled_back, deployment.cancel) = (true, Some(Cancel::After));
            }
            _ => {}
        }
    }

    fn retry(&mut self, only: Option<usize>) {
        let now = self.toy.now;
        let only = only.map(|who| self.at(who).record.id.clone());
        let mut again = Vec::new();
        for member in &mut self.toy.snapshot.members {
            let wanted = only.as_ref().is_none_or(|only| *only == member.record.id);
            if wanted && member.record.try_again(now).is_ok() {
                member.attempt = None;
                again.push(member.record.id.clone());
            }
        }
        if again.is_empty() {
            return;
        }
        self.sent.retain(|id, _| !again.contains(id));
        self.retried.extend(again);
        self.toy.resume();
    }

    /// The next daemon knows what is in the store, and nothing else.
    pub(super) fn restart(&mut self) {
        let snapshot = &mut self.toy.snapshot;
        snapshot.refused.clear();
        snapshot.policy = stored(&snapshot.policy);
        for group in snapshot.groups.values_mut() {
            group.hold = stored(&group.hold);
        }
        for member in &mut snapshot.members {
            member.record = stored(&member.record);
            if let Some(attempt) = &mut member.attempt {
                attempt.outcome = stored(&attempt.outcome);
            }
        }
    }

    pub(super) fn crash(&mut self, had: usize, begun: bool) {
        for _ in 0..20 {
            if self.has_ended() {
                return;
            }
            let coming = plan(&self.shown(), self.toy.now).expect("no illegal step").effects.len();
            if coming > 0 {
                self.tick(Some((had % coming, begun)));
                break;
            }
            if !self.look(PATIENCE) {
                break;
            }
        }
        self.restart();
    }

    /// What is seen from now on is what is seen now.
    pub(super) fn freeze(&mut self) {
        if self.outage.is_none() && self.stale.is_none() {
            let members = self.toy.snapshot.members.iter();
            self.last_seen = members.map(|member| (member.record.id.clone(), member.sight.clone())).collect();
        }
    }
}

/// Written to the store and read from it again.
fn stored<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> T {
    let read: T = serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap();
    assert_eq!(read, *value);
    read
}
