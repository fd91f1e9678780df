//! What a plan wants done to the world.

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

    /// The state in which a dispatch of this kind is waited for.
    pub fn state(self) -> InstanceState {
        match self {
            DispatchKind::Stage => InstanceState::Staging,
            DispatchKind::PreBlock => InstanceState::PreBlocking,
            DispatchKind::Run => InstanceState::Deploying,
            DispatchKind::PostAllow => InstanceState::PostAllowing,
            DispatchKind::Restore => InstanceState::Restoring,
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
    /// Its availability zone.
    pub zone: String,
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
    /// Give back the desired capacity that standby took with instances that don't come back.
    SetDesired {
        /// Auto Scaling group.
        group: String,
        /// To what.
        desired: u32,
        /// For so many instances in all.
        returns: u32,
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
