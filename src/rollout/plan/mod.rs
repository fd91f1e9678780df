//! The planner: one pass over the snapshot, in a fixed order, each step in a file of its own.

mod admit;
mod cancel;
mod effects;
mod explain;
mod launch;
mod progress;
mod verdict;

use super::{
    class::{Class, backoff, classify},
    event::LifecycleEvent,
    snapshot::{Attempt, Sight, Snapshot},
    state::{Cause, DeploymentState, Failure, Fault, Instance, InstanceState, Wait},
    transition::{Illegal, Step, next},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

pub use launch::{HEARTBEAT, HELD};

/// What to do now.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// To be recorded, all of them, before any effect.
    pub changes: Vec<Change>,
    /// To be had, in this order, each recorded before it is done.
    pub effects: Vec<Effect>,
    /// Look again at this time at the latest, whatever happens.
    pub wake_at: Option<Timestamp>,
    /// Why each waiting thing waits.
    pub explain: Explain,
}

/// A change to the record.
#[derive(Clone, Debug)]
pub enum Change {
    /// An instance's record is now this; the note says what happened, in words, for the timeline.
    Instance(Box<Instance>, Option<String>),
    /// The deployment's state is now this.
    Deployment {
        /// The state.
        state: DeploymentState,
        /// Why, in words.
        reason: Option<String>,
    },
    /// This batch is in work now.
    Batch(u32),
    /// The batch in work is through.
    BatchDone,
    /// Halted or paused, and in order: a person may look.
    Settled,
    /// At the end of a cancelled deployment: which instance is on what, in words.
    Report(Vec<(String, String)>),
    /// End it, and queue a deployment of the last good revision.
    RollBack {
        /// Why, in words.
        reason: String,
    },
    /// The instance has the revision, validated and healthy: it is the last good one there.
    Good(String),
}

/// Why things wait, in words: what CLI, page and API show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// Of the deployment.
    pub deployment: Vec<String>,
    /// By instance.
    pub instances: BTreeMap<String, String>,
}

/// What a dispatch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DispatchKind {
    /// Download and unpack.
    Stage,
    /// BeforeBlockTraffic hooks.
    PreBlock,
    /// AfterBlockTraffic to BeforeAllowTraffic.
    Run,
    /// AfterAllowTraffic hooks.
    PostAllow,
    /// Stop, start and validate the last good release.
    Restore,
}

impl DispatchKind {
    /// The name in the store.
    pub fn name(self) -> &'static str {
        match self {
            DispatchKind::Stage => "stage",
            DispatchKind::PreBlock => "pre-block",
            DispatchKind::Run => "run",
            DispatchKind::PostAllow => "post-allow",
            DispatchKind::Restore => "restore",
        }
    }

    /// The first event of it.
    pub fn first_event(self) -> LifecycleEvent {
        match self {
            DispatchKind::Stage => LifecycleEvent::DownloadBundle,
            DispatchKind::PreBlock => LifecycleEvent::BeforeBlockTraffic,
            DispatchKind::Run => LifecycleEvent::AfterBlockTraffic,
            DispatchKind::PostAllow => LifecycleEvent::AfterAllowTraffic,
            DispatchKind::Restore => LifecycleEvent::ApplicationStop,
        }
    }
}

/// One instance's row in a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub instance: String,
    /// The event to start at.
    pub first: LifecycleEvent,
    /// The instance's last good revision.
    pub good: Option<String>,
}

/// Something to be done to the world. Each passes through the engine's one door, which records it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// One SendCommand to at most 50 instances.
    Dispatch {
        /// What for.
        kind: DispatchKind,
        /// To whom.
        orders: Vec<Order>,
    },
    /// Ask a running attempt to stop: after the event in work, or now.
    Stop {
        /// On which instance.
        instance: String,
        /// Which attempt.
        attempt: i64,
        /// At once.
        now: bool,
    },
    /// Write down and tag what the group is like before we change it.
    Journal {
        /// Auto Scaling group.
        group: String,
    },
    /// Suspend processes that are not suspended yet.
    Suspend {
        /// Auto Scaling group.
        group: String,
        /// Which.
        processes: Vec<String>,
    },
    /// Set MinSize.
    SetMin {
        /// Auto Scaling group.
        group: String,
        /// To what.
        min: u32,
    },
    /// Resume what we suspended.
    Resume {
        /// Auto Scaling group.
        group: String,
        /// Which.
        processes: Vec<String>,
    },
    /// Everything is put back: remove the tag and the journal.
    Release {
        /// Auto Scaling group.
        group: String,
    },
    /// At most 20 instances of one group into standby, desired capacity reduced with them.
    EnterStandby {
        /// Auto Scaling group.
        group: String,
        /// Who.
        instances: Vec<String>,
    },
    /// Back into service.
    ExitStandby {
        /// Auto Scaling group.
        group: String,
        /// Who.
        instances: Vec<String>,
    },
    /// Out of a target group that no Auto Scaling group of theirs owns.
    Deregister {
        /// ARN.
        target_group: String,
        /// Instance and port.
        targets: Vec<(String, u16)>,
    },
    /// A launch that is held goes on into service, or is given up: Auto Scaling terminates it then, and launches another.
    CompleteLaunch {
        /// Auto Scaling group.
        group: String,
        /// Whose launch.
        instance: String,
        /// The lifecycle hook that holds it.
        hook: String,
        /// CONTINUE; else ABANDON.
        proceed: bool,
    },
    /// A quarantined instance goes for good.
    Terminate {
        /// Auto Scaling group.
        group: String,
        /// Who.
        instance: String,
    },
    /// Puts our lifecycle hook for launches on a group.
    PutHook {
        /// Auto Scaling group.
        group: String,
        /// The hook's name.
        hook: String,
    },
    /// Takes it off.
    DeleteHook {
        /// Auto Scaling group.
        group: String,
        /// The hook's name.
        hook: String,
    },
    /// Keeps a launch waiting.
    Heartbeat {
        /// Auto Scaling group.
        group: String,
        /// Whose launch.
        instance: String,
        /// The lifecycle hook that holds it.
        hook: String,
    },
    /// Back into it.
    Register {
        /// ARN.
        target_group: String,
        /// Instance and port.
        targets: Vec<(String, u16)>,
    },
}

/// Suspended while we hold a group: standby unbalances zones, and rebalancing would terminate the ones in service.
pub const SUSPENDED: [&str; 1] = ["AZRebalance"];

/// AWS takes at most this many instance ids in one SendCommand.
pub const MOST_PER_DISPATCH: usize = 50;
/// AWS takes at most this many instance ids in one EnterStandby or ExitStandby.
pub const MOST_PER_STANDBY: usize = 20;

impl Effect {
    /// What refusals of it are counted under: the call and what it is about.
    pub fn key(&self) -> String {
        match self {
            Effect::Dispatch { kind, .. } => format!("SendCommand:{}", kind.name()),
            Effect::Stop { attempt, .. } => format!("SendCommand:stop:{attempt}"),
            Effect::Journal { group } => format!("CreateOrUpdateTags:{group}"),
            Effect::Suspend { group, .. } => format!("SuspendProcesses:{group}"),
            Effect::SetMin { group, .. } => format!("UpdateAutoScalingGroup:{group}"),
            Effect::Resume { group, .. } => format!("ResumeProcesses:{group}"),
            Effect::Release { group } => format!("DeleteTags:{group}"),
            Effect::EnterStandby { group, .. } => format!("EnterStandby:{group}"),
            Effect::ExitStandby { group, .. } => format!("ExitStandby:{group}"),
            Effect::Deregister { target_group, .. } => format!("DeregisterTargets:{target_group}"),
            Effect::Register { target_group, .. } => format!("RegisterTargets:{target_group}"),
            Effect::CompleteLaunch { instance, .. } => format!("CompleteLifecycleAction:{instance}"),
            Effect::Terminate { instance, .. } => format!("TerminateInstanceInAutoScalingGroup:{instance}"),
            Effect::PutHook { group, .. } => format!("PutLifecycleHook:{group}"),
            Effect::DeleteHook { group, .. } => format!("DeleteLifecycleHook:{group}"),
            Effect::Heartbeat { instance, .. } => format!("RecordLifecycleActionHeartbeat:{instance}"),
        }
    }
}

/// Makes the plan for this moment.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Result<Plan, Illegal> {
    let mut planner = Planner::new(snapshot, now);
    planner.see_departures()?;
    planner.read_outcomes()?;
    planner.read_fleet()?;
    planner.obey_cancel()?;
    planner.resume_due()?;
    if planner.is_launch() {
        planner.admit_launch()?;
    } else {
        planner.watch_bake()?;
        planner.judge()?;
        planner.admit()?;
    }
    planner.order_effects();
    planner.finish();
    planner.explain();
    Ok(planner.into_plan())
}

/// A member as the plan goes on changing it.
struct Draft<'a> {
    record: Instance,
    sight: &'a Sight,
    attempt: Option<&'a Attempt>,
    before: &'a Instance,
    notes: Vec<String>,
}

impl Draft<'_> {
    fn step(&mut self, step: Step, now: Timestamp, note: impl Into<String>) -> Result<(), Illegal> {
        self.record.state = next(self.record.state, step)?;
        self.record.since = now;
        self.record.attempt = None;
        self.attempt = None;
        if step == Step::Restore {
            // Another release, and retries of its own.
            (self.record.transient, self.record.unknown) = (0, 0);
        }
        if step != Step::Wait {
            self.record.wait = None;
        }
        self.notes.push(note.into());
        Ok(())
    }
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    now: Timestamp,
    drafts: Vec<Draft<'a>>,
    state: DeploymentState,
    reason: Option<String>,
    batch: u32,
    /// An effect is needed that AWS refused a moment ago.
    held_back: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot, now: Timestamp) -> Self {
        let drafts = snapshot
            .members
            .iter()
            .map(|member| Draft {
                record: member.record.clone(),
                sight: &member.sight,
                attempt: member.attempt.as_ref(),
                before: &member.record,
                notes: Vec::new(),
            })
            .collect();
        Planner {
            snapshot,
            now,
            drafts,
            state: snapshot.deployment.state,
            reason: snapshot.deployment.reason.clone(),
            batch: snapshot.deployment.batch,
            held_back: false,
            plan: Plan::default(),
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn total(&self) -> u32 {
        self.snapshot.deployment.total_at_start.max(1)
    }

    fn count(&self, which: impl Fn(&Instance) -> bool) -> u32 {
        u32::try_from(self.drafts.iter().filter(|draft| which(&draft.record)).count()).unwrap_or(u32::MAX)
    }

    /// A fault on draft `index`: waits for a retry in state `back`, or ends Failed, by class and what is left.
    fn fault(
        &mut self,
        index: usize,
        fault: Fault,
        back: InstanceState,
        quarantine: bool,
    ) -> Result<(), Illegal> {
        let (now, retry) = (self.now, &self.snapshot.policy.retry);
        let cancelled = self.snapshot.deployment.cancel.is_some();
        let launch = self.is_launch();
        let draft = &mut self.drafts[index];
        let class = classify(&fault, retry);
        let (used, allowed) = match class {
            Class::Transient => (&mut draft.record.transient, retry.attempts),
            Class::Unknown => (&mut draft.record.unknown, retry.attempts_unknown),
            Class::Permanent => (&mut draft.record.unknown, 1),
        };
        *used += 1;
        let (used, words) = (*used, fault.words());
        draft.record.fault = Some(fault.clone());
        if used < allowed && (!cancelled || back == InstanceState::Restoring) {
            let seed = draft.record.attempt.unwrap_or_default().unsigned_abs();
            let pause = backoff(retry, used, seed);
            let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
            // Only the dispatch that deploys has events to choose from.
            let deploys = matches!(back, InstanceState::Deploying | InstanceState::Blocking);
            draft.record.resume = match (&fault.cause, fault.event) {
                (_, LifecycleEvent::DownloadBundle) => None,
                (Cause::AgentLost(_), _) => Some(LifecycleEvent::ApplicationStop),
                (_, event) => Some(event.retry_from()),
            }
            .filter(|_| deploys);
            draft.record.wait = Some(Wait { until, back });
            let note = format!(
                "{words}; {}, retry {used} of {} in {:.1} s",
                class.word(),
                allowed - 1,
                pause.as_secs_f64()
            );
            draft.step(Step::Wait, now, note)
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
            draft.record.failure = Some(Failure { fault, quarantined: quarantine });
            draft.step(Step::Fail, now, format!("{words}; {why}; {fate}"))
        }
    }

    fn into_plan(self) -> Plan {
        let mut plan = self.plan;
        let mut changes = Vec::new();
        for draft in self.drafts {
            if draft.record != *draft.before {
                if draft.record.state == InstanceState::Succeeded
                    && draft.before.state != InstanceState::Succeeded
                {
                    changes.push(Change::Good(draft.record.id.clone()));
                }
                let note = (!draft.notes.is_empty()).then(|| draft.notes.join("; "));
                changes.push(Change::Instance(Box::new(draft.record), note));
            }
        }
        changes.append(&mut plan.changes);
        plan.changes = changes;
        plan
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
