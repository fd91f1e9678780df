//! Effects: what a plan asks the engine to do to AWS and the hosts.

use crate::rollout::{event::LifecycleEvent, state::InstanceState};

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
    /// Returns its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            DispatchKind::Stage => "stage",
            DispatchKind::PreBlock => "pre-block",
            DispatchKind::Run => "run",
            DispatchKind::PostAllow => "post-allow",
            DispatchKind::Restore => "restore",
        }
    }

    /// Returns the state in which an instance waits for a dispatch of this kind.
    pub fn state(self) -> InstanceState {
        match self {
            DispatchKind::Stage => InstanceState::Staging,
            DispatchKind::PreBlock => InstanceState::PreBlocking,
            DispatchKind::Run => InstanceState::Deploying,
            DispatchKind::PostAllow => InstanceState::PostAllowing,
            DispatchKind::Restore => InstanceState::Restoring,
        }
    }

    /// Returns its first event.
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
    /// The instance's id.
    pub instance: String,
    /// The event to start at.
    pub first: LifecycleEvent,
    /// The instance's last good revision.
    pub good: Option<String>,
    /// Its availability zone.
    pub zone: String,
}

/// Something to be done to AWS or a host. The engine performs each in one function, which records it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// One SendCommand to at most 50 instances.
    Dispatch {
        /// What it is for.
        kind: DispatchKind,
        /// The instances, with what each is to run.
        orders: Vec<Order>,
    },
    /// Ask a running attempt to stop: after the event in work, or now.
    Stop {
        /// The instance.
        instance: String,
        /// The attempt's number.
        attempt: i64,
        /// Whether to stop at once.
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
        /// The processes.
        processes: Vec<String>,
    },
    /// Set MinSize.
    SetMin {
        /// Auto Scaling group.
        group: String,
        /// The new value.
        min: u32,
    },
    /// Return the desired capacity that standby took with instances that don't come back.
    SetDesired {
        /// Auto Scaling group.
        group: String,
        /// The new value.
        desired: u32,
        /// For how many instances in all.
        returns: u32,
    },
    /// Resume the processes that drover suspended.
    Resume {
        /// Auto Scaling group.
        group: String,
        /// The processes.
        processes: Vec<String>,
    },
    /// Everything is put back: remove the tag and the journal.
    Release {
        /// Auto Scaling group.
        group: String,
    },
    /// Move at most 20 instances of one group into standby, which reduces the desired capacity.
    EnterStandby {
        /// Auto Scaling group.
        group: String,
        /// The instances.
        instances: Vec<String>,
    },
    /// Take instances out of standby, back into service.
    ExitStandby {
        /// Auto Scaling group.
        group: String,
        /// The instances.
        instances: Vec<String>,
    },
    /// Deregister targets from a target group in which no Auto Scaling group registers them.
    Deregister {
        /// ARN.
        target_group: String,
        /// Instance and port.
        targets: Vec<(String, u16)>,
    },
    /// Complete the lifecycle hook of a launch: it goes into service, or Auto Scaling terminates it and launches another.
    CompleteLaunch {
        /// Auto Scaling group.
        group: String,
        /// The instance that launches.
        instance: String,
        /// The lifecycle hook that holds it.
        hook: String,
        /// Whether it goes into service (CONTINUE) or not (ABANDON).
        proceed: bool,
    },
    /// Terminate a quarantined instance.
    Terminate {
        /// Auto Scaling group.
        group: String,
        /// The instance.
        instance: String,
    },
    /// Put drover's lifecycle hook for launches on a group.
    PutHook {
        /// Auto Scaling group.
        group: String,
        /// The hook's name.
        hook: String,
    },
    /// Remove that lifecycle hook.
    DeleteHook {
        /// Auto Scaling group.
        group: String,
        /// The hook's name.
        hook: String,
    },
    /// Keep a launch waiting.
    Heartbeat {
        /// Auto Scaling group.
        group: String,
        /// The instance that launches.
        instance: String,
        /// The lifecycle hook that holds it.
        hook: String,
    },
    /// Register targets in such a target group.
    Register {
        /// ARN.
        target_group: String,
        /// Instance and port.
        targets: Vec<(String, u16)>,
    },
}

/// Processes that are suspended while drover holds a group: standby unbalances zones, and rebalancing would terminate
/// the ones in service.
pub const SUSPENDED: [&str; 1] = ["AZRebalance"];

/// AWS takes at most this many instance ids in one SendCommand.
pub const MOST_PER_DISPATCH: usize = 50;
/// AWS takes at most this many instance ids in one EnterStandby or ExitStandby.
pub const MOST_PER_STANDBY: usize = 20;

impl Effect {
    /// Returns the key under which refusals of it are counted: the call and what it is about.
    pub fn key(&self) -> String {
        match self {
            Effect::Dispatch { kind, .. } => format!("SendCommand:{}", kind.name()),
            Effect::Stop { attempt, .. } => format!("SendCommand:stop:{attempt}"),
            Effect::Journal { group } => format!("CreateOrUpdateTags:{group}"),
            Effect::Suspend { group, .. } => format!("SuspendProcesses:{group}"),
            Effect::SetMin { group, .. } => format!("UpdateAutoScalingGroup:{group}"),
            // The same call as for MinSize, for something else.
            Effect::SetDesired { group, .. } => format!("UpdateAutoScalingGroup:{group}:desired"),
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
