//! One instance with its lifecycle state: what all services know of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::sim::autoscaling::LifecycleAction;
use crate::sim::instance::Host;
use crate::sim::paper::Machine;
use crate::sim::ssm::AgentLink;

/// The lifecycle state of an instance in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// The instance starts, or comes back from standby.
    Pending,
    /// The instance runs and waits for its group's launch hooks.
    PendingWait,
    /// The instance goes into service: its launch hooks are completed.
    PendingProceed,
    /// The instance counts towards the desired capacity and is registered with the target groups.
    InService,
    /// The instance leaves its target groups for standby.
    EnteringStandby,
    /// The instance is in standby.
    Standby,
    /// The instance leaves its target groups for good.
    Terminating,
    /// The instance is gone.
    Terminated,
}

impl Lifecycle {
    /// Returns the name that AWS uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait => "Pending:Wait",
            Self::PendingProceed => "Pending:Proceed",
            Self::InService => "InService",
            Self::EnteringStandby => "EnteringStandby",
            Self::Standby => "Standby",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }

    /// Whether the instance is on its way into service.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::PendingProceed)
    }

    /// Whether the instance counts towards the desired capacity.
    pub fn is_active(self) -> bool {
        self == Self::InService || self.is_pending()
    }
}

/// One instance as Auto Scaling, the load balancer and Systems Manager know it.
pub struct Instance {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    /// Its Auto Scaling group.
    pub group: String,
    /// Availability zone.
    pub zone: String,
    /// Lifecycle state.
    pub lifecycle: Lifecycle,
    /// When the lifecycle state began.
    pub since: Instant,
    /// The name that Auto Scaling shows in place of the lifecycle state's.
    pub shown: Option<String>,
    /// The lifecycle actions that it waits for, by the name of their hook.
    pub actions: BTreeMap<String, LifecycleAction>,
    /// When a pending instance goes into service.
    pub ready_at: Option<Instant>,
    /// When it last went into service, for the health check grace period.
    pub in_service_at: Option<Instant>,
    /// Whether the group holds it to be healthy.
    pub healthy: bool,
    /// Since when the group has had a reason to call it unhealthy.
    pub ailing_since: Option<Instant>,
    /// Whether it is protected from scale-in.
    pub protected: bool,
    /// The process tree, once it runs.
    pub host: Option<Arc<Host>>,
    /// The paper instance that stands in the place of a process tree, if its group consists of them; once it runs.
    pub paper: Option<Box<Machine>>,
    /// Whether its user-data has run.
    pub booted: bool,
    /// Whether the process tree is gone, or about to go.
    pub dead: bool,
    /// Until when health checks fail; they time out if the first part is true, and answer 503 otherwise.
    pub health_fault: Option<(bool, Instant)>,
    /// Until when the network is cut, if it is; the inner `None` means until somebody restores it.
    pub cut: Option<Option<Instant>>,
    /// What Systems Manager knows of its agent.
    pub agent: AgentLink,
}

impl Instance {
    /// Makes an instance whose launch has just been ordered.
    pub fn pending(id: String, group: &str, zone: String, is_protected: bool, now: Instant) -> Self {
        Self {
            id,
            group: group.to_owned(),
            zone,
            lifecycle: Lifecycle::Pending,
            since: now,
            shown: None,
            actions: BTreeMap::new(),
            ready_at: None,
            in_service_at: None,
            healthy: true,
            ailing_since: None,
            protected: is_protected,
            host: None,
            paper: None,
            booted: false,
            dead: false,
            health_fault: None,
            cut: None,
            agent: AgentLink::default(),
        }
    }

    /// Whether the instance has been launched and is not yet gone.
    pub fn is_up(&self) -> bool {
        self.host.is_some() || self.paper.is_some()
    }

    /// Returns the name of the lifecycle state as Auto Scaling shows it.
    pub fn state_name(&self) -> &str {
        self.shown.as_deref().unwrap_or_else(|| self.lifecycle.name())
    }
}
