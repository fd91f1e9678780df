//! The record of an instance as it is persisted: flat, every field of every phase side by side. What belongs to another
//! phase than the one it names is dropped on reading.

use super::{
    fault::{Failure, Fault},
    instance::{Instance, Membership},
    names::{Goal, InstanceState},
    phase::{Back, Phase, Running, Stop, Wait},
};
use crate::rollout::event::LifecycleEvent;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The persisted form of [`Instance`]. Its field names must not change: stored records have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recorded {
    id: String,
    zone: String,
    group: String,
    memberships: Vec<Membership>,
    state: InstanceState,
    since: Timestamp,
    goal: Goal,
    good: Option<String>,
    batch: Option<u32>,
    /// Number of the attempt in work.
    attempt: Option<i64>,
    attempts: u32,
    transient: u32,
    unknown: u32,
    touched: bool,
    resume: Option<LifecycleEvent>,
    /// In state Waiting.
    wait: Option<RecordedWait>,
    fault: Option<Fault>,
    /// In state Failed.
    failure: Option<Failure>,
    solo: bool,
    /// The attempt that was asked to stop, and whether at once.
    stopping: Option<(i64, bool)>,
    #[serde(default)]
    stop_sent: Option<Timestamp>,
    #[serde(default)]
    pre_blocked: bool,
    #[serde(default)]
    joined: bool,
    #[serde(default)]
    heartbeat: Option<Timestamp>,
    #[serde(default)]
    answered: Option<Timestamp>,
    #[serde(default)]
    healthy_at_start: bool,
    #[serde(default)]
    kept_out: bool,
    #[serde(default)]
    owed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stood_by: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    given_back: bool,
    /// In state Gone.
    #[serde(default)]
    left_standby: bool,
    /// In state Allowing.
    #[serde(default)]
    kept_since: Option<Timestamp>,
    #[serde(default)]
    busy_until: Option<Timestamp>,
    #[serde(default)]
    run_seconds: Option<i64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct RecordedWait {
    until: Timestamp,
    back: InstanceState,
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Recorded::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Instance, D::Error> {
        Instance::try_from(Recorded::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl From<Instance> for Recorded {
    fn from(instance: Instance) -> Recorded {
        let (state, resume, running) = (instance.state(), instance.resume(), instance.running().copied());
        let wait = instance.wait();
        let stop = running.and_then(|running| Some((running.number, running.stop?)));
        let (kept_since, left_standby) = match &instance.phase {
            Phase::Allowing { kept_since } => (*kept_since, false),
            Phase::Gone { left_standby } => (None, *left_standby),
            _ => (None, false),
        };
        Recorded {
            state,
            attempt: running.map(|running| running.number),
            run_seconds: running.and_then(|running| running.run_seconds),
            stopping: stop.map(|(number, stop)| (number, stop.at_once)),
            stop_sent: stop.map(|(_, stop)| stop.sent),
            resume,
            wait: wait.map(|wait| RecordedWait { until: wait.until, back: wait.back.state() }),
            kept_since,
            left_standby,
            failure: match instance.phase {
                Phase::Failed(failure) => Some(*failure),
                _ => None,
            },
            id: instance.id,
            zone: instance.zone,
            group: instance.group,
            memberships: instance.memberships,
            since: instance.since,
            goal: instance.goal,
            good: instance.good,
            batch: instance.batch,
            attempts: instance.attempts,
            transient: instance.transient,
            unknown: instance.unknown,
            touched: instance.touched,
            fault: instance.fault,
            solo: instance.dispatch_alone,
            pre_blocked: instance.pre_blocked,
            joined: instance.joined,
            heartbeat: instance.heartbeat,
            answered: instance.answered,
            healthy_at_start: instance.healthy_at_start,
            kept_out: instance.was_quarantined,
            owed: instance.is_capacity_owed,
            stood_by: instance.left_desired_capacity,
            given_back: instance.is_capacity_returned,
            busy_until: instance.lost_attempt_until,
        }
    }
}

impl TryFrom<Recorded> for Instance {
    type Error = String;

    fn try_from(row: Recorded) -> Result<Instance, String> {
        let phase = row.phase()?;
        Ok(Instance {
            phase,
            id: row.id,
            zone: row.zone,
            group: row.group,
            memberships: row.memberships,
            since: row.since,
            goal: row.goal,
            good: row.good,
            batch: row.batch,
            attempts: row.attempts,
            transient: row.transient,
            unknown: row.unknown,
            touched: row.touched,
            fault: row.fault,
            dispatch_alone: row.solo,
            pre_blocked: row.pre_blocked,
            joined: row.joined,
            heartbeat: row.heartbeat,
            answered: row.answered,
            healthy_at_start: row.healthy_at_start,
            was_quarantined: row.kept_out,
            is_capacity_owed: row.owed,
            left_desired_capacity: row.stood_by,
            is_capacity_returned: row.given_back,
            lost_attempt_until: row.busy_until,
        })
    }
}

impl Recorded {
    fn phase(&self) -> Result<Phase, String> {
        use InstanceState as S;
        let lacks =
            |what: &str| format!("the record of {} in state {} lacks its {what}", self.id, self.state);
        let (resume, attempt) = (self.resume, self.running());
        Ok(match self.state {
            S::Pending => Phase::Pending,
            S::Staging => Phase::Staging(attempt),
            S::Staged => Phase::Staged { resume },
            S::PreBlocking => Phase::PreBlocking(attempt),
            S::Blocking => Phase::Blocking { resume },
            S::Deploying => Phase::Deploying { resume, attempt },
            S::Allowing => Phase::Allowing { kept_since: self.kept_since },
            S::PostAllowing => Phase::PostAllowing(attempt),
            S::Succeeded => Phase::Succeeded,
            S::Waiting => {
                let wait = self.wait.ok_or_else(|| lacks("wait"))?;
                let back = match wait.back {
                    S::Staging => Back::Staging,
                    S::PreBlocking => Back::PreBlocking,
                    S::Blocking => Back::Blocking { resume },
                    S::Deploying => Back::Deploying { resume },
                    S::PostAllowing => Back::PostAllowing,
                    S::Restoring => Back::Restoring,
                    other => return Err(format!("the record of {} waits to go on as {other}", self.id)),
                };
                Phase::Waiting(Wait { until: wait.until, back })
            }
            S::Restoring => Phase::Restoring(attempt),
            S::Restored => Phase::Restored,
            S::Failed => Phase::Failed(Box::new(self.failure.clone().ok_or_else(|| lacks("failure"))?)),
            S::Gone => Phase::Gone { left_standby: self.left_standby },
            S::Skipped => Phase::Skipped,
        })
    }

    fn running(&self) -> Option<Running> {
        let number = self.attempt?;
        let asked = self.stopping.filter(|(asked, _)| *asked == number);
        let stop = asked.map(|(_, at_once)| Stop { at_once, sent: self.stop_sent.unwrap_or(self.since) });
        Some(Running { number, run_seconds: self.run_seconds, stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::state::Cause;

    fn read(text: &str) -> Result<Instance, serde_json::Error> {
        serde_json::from_str(text)
    }

    fn flat(state: &str, more: &str) -> String {
        format!(
            r#"{{"id":"i-1","zone":"a","group":"g","memberships":[],"state":"{state}","since":"2026-01-01T00:00:00Z",
            "goal":"New","good":null,"batch":1,"attempts":2,"transient":1,"unknown":0,"touched":true,"fault":null,
            "solo":false,"attempt":null,"resume":null,"wait":null,"failure":null,"stopping":null{more}}}"#
        )
    }

    fn phases() -> Vec<Phase> {
        let (now, resume) =
            (Timestamp::from_second(1_700_000_000).unwrap(), Some(LifecycleEvent::AfterInstall));
        let stop = Some(Stop { at_once: true, sent: now });
        let running = Some(Running { number: 7, run_seconds: Some(60), stop });
        let cause = Cause::Exit(1);
        let fault = Fault { event: LifecycleEvent::Install, hook: None, cause, tail: vec!["no".into()] };
        let backs = [
            Back::Staging,
            Back::PreBlocking,
            Back::Blocking { resume },
            Back::Deploying { resume },
            Back::PostAllowing,
            Back::Restoring,
        ];
        let waits = backs.into_iter().map(|back| Phase::Waiting(Wait { until: now, back }));
        let others = [
            Phase::Pending,
            Phase::Staging(running),
            Phase::Staged { resume },
            Phase::PreBlocking(running),
            Phase::Blocking { resume },
            Phase::Deploying { resume, attempt: running },
            Phase::Allowing { kept_since: Some(now) },
            Phase::PostAllowing(running),
            Phase::Succeeded,
            Phase::Restoring(running),
            Phase::Restored,
            Phase::Failed(Box::new(Failure { fault, quarantined: true })),
            Phase::Gone { left_standby: true },
            Phase::Skipped,
        ];
        others.into_iter().chain(waits).collect()
    }

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for phase in phases() {
            let mut record = Instance::new("i-1", "a", "g", Timestamp::UNIX_EPOCH);
            record.phase = phase;
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(read(&text).unwrap(), record, "{text}");
        }
    }

    #[test]
    fn leftovers_of_another_phase_are_dropped() {
        // As an earlier version wrote it: the resume point of the revision's run, in the run of the former release.
        let text = flat("Restoring", "").replace(r#""resume":null"#, r#""resume":"AfterInstall""#);
        assert_eq!(read(&text).unwrap().phase, Phase::Restoring(None));
        let text = flat("Deploying", "").replace(r#""attempt":null"#, r#""attempt":9"#);
        let text = text.replace(r#""stopping":null"#, r#""stopping":[8,true]"#);
        let running = Running { number: 9, run_seconds: None, stop: None };
        assert_eq!(read(&text).unwrap().running(), Some(&running), "another attempt was asked to stop");
    }

    #[test]
    fn what_a_phase_lacks_is_named() {
        let error = read(&flat("Failed", "")).unwrap_err().to_string();
        assert!(error.starts_with("the record of i-1 in state Failed lacks its failure"), "{error}");
        let error = read(&flat("Waiting", "")).unwrap_err().to_string();
        assert!(error.starts_with("the record of i-1 in state Waiting lacks its wait"), "{error}");
        let text = flat("Waiting", "");
        let text =
            text.replace(r#""wait":null"#, r#""wait":{"until":"2026-01-01T00:00:00Z","back":"Succeeded"}"#);
        assert!(read(&text).unwrap_err().to_string().contains("waits to go on as Succeeded"));
    }
}
