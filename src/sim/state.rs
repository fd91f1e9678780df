//! Everything the simulated cloud knows, as one value without I/O: handlers and the tick change it and leave behind
//! the effects (launch, check, deliver …) that [`super::cloud`] then carries out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::audit::{Audit, Events};
use super::autoscaling::{Group, LaunchConfiguration, LifecycleAction};
use super::clock::Clock;
use super::elb::LoadBalancing;
use super::faults::Faults;
use super::instance::Host;
use super::reads::Reads;
use super::ssm::{AgentLink, Commands};
use super::throttle::Throttle;

/// The region of all resources.
pub const REGION: &str = "eu-central-1";
/// The account of all resources.
pub const ACCOUNT: &str = "123456789012";

/// Where an instance stands in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Starts, or comes back from standby.
    Pending,
    /// Runs, and waits for its group's launch hooks.
    PendingWait,
    /// Goes into service, its launch hooks being done.
    PendingProceed,
    /// Counts towards the desired capacity and is registered.
    InService,
    /// Leaves its target groups for standby.
    EnteringStandby,
    /// In standby.
    Standby,
    /// Leaves its target groups for good.
    Terminating,
    /// Gone.
    Terminated,
}

impl Lifecycle {
    /// The name that AWS uses.
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

    /// On its way into service.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::PendingProceed)
    }

    /// Counts towards the desired capacity.
    pub fn is_active(self) -> bool {
        self == Self::InService || self.is_pending()
    }
}

/// One instance.
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
    /// The lifecycle actions that it waits for, by hook.
    pub actions: BTreeMap<String, LifecycleAction>,
    /// When a pending instance goes into service.
    pub ready_at: Option<Instant>,
    /// When it last went into service, for the health check grace period.
    pub in_service_at: Option<Instant>,
    /// The group's verdict.
    pub healthy: bool,
    /// Since when the group has reason to call it unhealthy.
    pub ailing_since: Option<Instant>,
    /// Protected from scale-in.
    pub protected: bool,
    /// The process tree, once it runs.
    pub host: Option<Arc<Host>>,
    /// What it is instead of a process tree, where its group is one of paper instances; once it runs.
    pub paper: Option<Box<super::paper::Machine>>,
    /// Its user-data has run.
    pub booted: bool,
    /// The process tree is gone, or going.
    pub dead: bool,
    /// Health checks fail (or time out, if true) until then.
    pub health_fault: Option<(bool, Instant)>,
    /// The network is cut until then; `None` inside is until it is restored by hand.
    pub cut: Option<Option<Instant>>,
    /// What SSM knows of its agent.
    pub agent: AgentLink,
}

impl Instance {
    /// Whether it has been launched and is not yet gone.
    pub fn is_up(&self) -> bool {
        self.host.is_some() || self.paper.is_some()
    }

    /// The lifecycle state's name as Auto Scaling shows it.
    pub fn state_name(&self) -> &str {
        self.shown.as_deref().unwrap_or_else(|| self.lifecycle.name())
    }
}

/// What is to be done outside the state.
#[derive(Debug)]
pub enum Effect {
    /// Start this instance's process tree.
    Launch(String),
    /// Kill this instance's process tree.
    Terminate(String),
    /// Reboot it.
    Reboot(String),
    /// Cut its network.
    Cut(String),
    /// Restore its network.
    Restore(String),
    /// Make a hook fail inside it.
    ArmFault {
        /// The instance.
        instance: String,
        /// Lifecycle event.
        event: String,
        /// Exit code.
        exit: i32,
        /// What it says.
        message: String,
        /// How many times.
        times: u32,
    },
    /// Check a target's health.
    HealthCheck(super::elb::Probe),
    /// End a target's open requests, its deregistration delay being over.
    CloseTarget {
        /// The target group.
        target_group: String,
        /// The instance.
        instance: String,
    },
    /// Serve a listener.
    Listen {
        /// The target group behind it.
        target_group: String,
        /// Bound, not yet accepting.
        listener: std::net::TcpListener,
    },
    /// Messages wait for agents.
    WakeAgents,
    /// Carry a command out on a paper instance.
    RunOnPaper {
        /// The instance.
        instance: String,
        /// The command's id.
        command: String,
        /// Cancelled when the command is.
        cancelled: CancellationToken,
    },
}

/// The whole state.
pub struct State {
    /// Time.
    pub clock: Clock,
    /// Chance behind instance ids and the balancer's slow start.
    pub rng: StdRng,
    /// Chance behind faults, apart, so that a seed chooses the same whatever calls came before.
    pub chance: StdRng,
    /// Auto Scaling groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Launch configurations by name.
    pub launch_configurations: BTreeMap<String, LaunchConfiguration>,
    /// All instances, terminated ones included, by id.
    pub instances: BTreeMap<String, Instance>,
    /// Target groups, load balancers, listeners.
    pub elb: LoadBalancing,
    /// Run Command.
    pub commands: Commands,
    /// CloudWatch Logs.
    pub logs: super::cloudwatch::LogGroups,
    /// What the instances' role allows.
    pub instance_policy: super::iam::Policy,
    /// S3.
    pub objects: super::objects::Objects,
    /// Parameter Store: name → (type, value).
    pub parameters: BTreeMap<String, (String, String)>,
    /// Addresses that instances can reach.
    pub reach: Vec<SocketAddr>,
    /// Instances have the machine's network.
    pub share_network: bool,
    /// What paper instances share.
    pub papers: super::paper::Papers,
    /// Faults in force.
    pub faults: Faults,
    /// Former answers, for stale reads.
    pub reads: Reads,
    /// Rate limits.
    pub throttle: Throttle,
    /// Every call.
    pub audit: Audit,
    /// Everything that happened.
    pub events: Events,
    /// What is to be done once the lock is released.
    pub effects: Vec<Effect>,
}

impl State {
    /// An empty cloud.
    pub fn new(time_scale: f64, seed: u64) -> Self {
        Self {
            clock: Clock::new(time_scale),
            rng: StdRng::seed_from_u64(seed),
            chance: StdRng::seed_from_u64(!seed),
            groups: BTreeMap::new(),
            launch_configurations: BTreeMap::new(),
            instances: BTreeMap::new(),
            elb: LoadBalancing::default(),
            commands: Commands::default(),
            logs: super::cloudwatch::LogGroups::default(),
            instance_policy: super::iam::Policy::default(),
            objects: super::objects::Objects::default(),
            parameters: BTreeMap::new(),
            share_network: false,
            reach: Vec::new(),
            papers: super::paper::Papers::new(seed),
            faults: Faults::default(),
            reads: Reads::default(),
            throttle: Throttle::new(Clock::new(time_scale).scale()),
            audit: Audit::default(),
            events: Events::default(),
            effects: Vec::new(),
        }
    }

    /// `count` random hexadecimal digits.
    pub fn hex(&mut self, count: usize) -> String {
        (0..count).map(|_| format!("{:x}", self.rng.random_range(0..16))).collect()
    }

    /// A random id in the form of a UUID.
    pub fn uuid(&self) -> String {
        let h = hex::encode(rand::random::<[u8; 16]>());
        format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }

    /// Moves an instance to another lifecycle state and writes the event.
    pub fn move_to(&mut self, id: &str, lifecycle: Lifecycle, event: &str, detail: Value) {
        let now = self.clock.now();
        if let Some(instance) = self.instances.get_mut(id) {
            instance.lifecycle = lifecycle;
            instance.since = now;
            self.events.push(id, event, detail);
        }
    }

    /// The ids of a group's present members.
    pub fn members(&self, group: &str) -> Vec<String> {
        self.instances
            .values()
            .filter(|i| i.group == group && i.lifecycle != Lifecycle::Terminated)
            .map(|i| i.id.clone())
            .collect()
    }

    /// Everything that time brings about.
    pub fn tick(&mut self) {
        self.tick_networks();
        self.tick_targets();
        self.tick_groups();
        self.tick_commands();
        self.tick_papers();
    }

    fn tick_networks(&mut self) {
        let now = self.clock.now();
        for instance in self.instances.values_mut() {
            if instance.health_fault.is_some_and(|(_, until)| until <= now) {
                instance.health_fault = None;
            }
            if let Some(Some(until)) = instance.cut
                && until <= now
            {
                instance.cut = None;
                self.effects.push(Effect::Restore(instance.id.clone()));
                self.events.push(&instance.id, "network-restored", json!({}));
            }
        }
    }

    /// An instance dies without its group's doing.
    pub fn kill(&mut self, id: &str) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        if instance.dead {
            return false;
        }
        instance.dead = true;
        self.events.push(id, "instance-killed", json!({}));
        self.effects.push(Effect::Terminate(id.to_owned()));
        true
    }

    /// Cuts an instance's network, for `seconds` or until it is restored by hand.
    pub fn cut(&mut self, id: &str, seconds: Option<f64>) -> bool {
        let until = seconds.map(|s| self.clock.now() + self.clock.wait(s));
        let Some(instance) = self.instances.get_mut(id) else { return false };
        instance.cut = Some(until);
        self.effects.push(Effect::Cut(id.to_owned()));
        self.events.push(id, "network-cut", json!({"seconds": seconds}));
        true
    }
}
