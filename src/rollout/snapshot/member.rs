//! One instance: what the store remembers of it, and what the fleet shows.

use super::attempt::Attempt;
use crate::rollout::state::Instance;

/// One instance.
#[derive(Clone, Debug)]
pub struct Member {
    /// What the store remembers.
    pub record: Instance,
    /// What the fleet shows.
    pub sight: Sight,
    /// The attempt that `record.attempt` names.
    pub attempt: Option<Attempt>,
}

/// What the fleet shows of an instance at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its state in the Auto Scaling group.
    pub lifecycle: Lifecycle,
    /// Its state behind the balancer, over all its target groups.
    pub health: Health,
    /// The target groups it is in, and on which port, of those that we register and deregister.
    pub registered: Vec<(String, u16)>,
    /// The health check that it failed, in words, if it leaves because of that.
    pub failed_health_check: Option<String>,
    /// Whether it leaves because the group was scaled in.
    pub scaled_in: bool,
}

impl Sight {
    /// The sight of an instance that was never seen.
    pub fn unseen() -> Sight {
        let lifecycle = Lifecycle::Unknown("not seen yet".into());
        Sight { lifecycle, health: Health::Initial("not seen yet".into()), ..Sight::gone() }
    }

    /// The sight of an instance that serves.
    pub fn serving() -> Sight {
        Sight { lifecycle: Lifecycle::InService, health: Health::Healthy, ..Sight::gone() }
    }

    /// Whether it is in service, and healthy behind the balancer.
    pub fn serves(&self) -> bool {
        self.lifecycle == Lifecycle::InService && self.health == Health::Healthy
    }

    /// The sight of an instance that has left.
    pub fn gone() -> Sight {
        Sight {
            lifecycle: Lifecycle::Leaving,
            health: Health::Out,
            registered: Vec::new(),
            failed_health_check: None,
            scaled_in: false,
        }
    }
}

/// A lifecycle state of Auto Scaling, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// In service.
    InService,
    /// On its way to standby.
    EnteringStandby,
    /// In standby.
    Standby,
    /// On its way in (Pending and its kin).
    Coming(String),
    /// Terminating, detached or no longer listed.
    Leaving,
    /// A state that this version doesn't know: left alone.
    Unknown(String),
}

/// Health behind the balancer; the worst of several target groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Healthy in every target group.
    Healthy,
    /// Registered, not yet checked often enough.
    Initial(String),
    /// Registered and failing: the balancer's reason code and words.
    Unhealthy(String),
    /// Being drained somewhere.
    Draining,
    /// In no target group any more (`unused` or absent).
    Out,
}
