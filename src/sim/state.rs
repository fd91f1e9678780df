//! Everything the simulated cloud knows, as one value without I/O. API calls and the passing of time change it, and leave
//! behind the [`Effect`]s (launch, check, deliver …) that `sim::perform` then carries out.
//!
//! It imports the services' types alone. What the services do is written beside those types, as further `impl State`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::audit::{Audit, Events};
use super::autoscaling::{Group, LaunchConfiguration};
use super::clock::Clock;
use super::cloudwatch::LogGroups;
use super::elb::LoadBalancing;
use super::faults::Faults;
use super::iam::Policy;
use super::objects::Objects;
use super::paper::Papers;
use super::reads::FormerReads;
use super::ssm::Commands;
use super::throttle::Throttle;

pub use super::effect::Effect;
pub use super::instance_state::{Instance, Lifecycle};

/// The whole state of the cloud.
pub struct State {
    /// The clock, which divides the cloud's own waits by the time scale.
    pub clock: Clock,
    /// Random numbers for instance ids and the balancer's slow start.
    pub rng: StdRng,
    /// Random numbers for faults, kept apart so that a seed chooses the same ones whatever calls came before.
    pub chance: StdRng,
    /// Auto Scaling groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Launch configurations by name.
    pub launch_configurations: BTreeMap<String, LaunchConfiguration>,
    /// All instances, terminated ones included, by id.
    pub instances: BTreeMap<String, Instance>,
    /// Target groups, load balancers and listeners.
    pub elb: LoadBalancing,
    /// The commands of Run Command.
    pub commands: Commands,
    /// The log groups of CloudWatch Logs.
    pub logs: LogGroups,
    /// What the instances' role allows.
    pub instance_policy: Policy,
    /// The objects in S3.
    pub objects: Objects,
    /// The parameters of Parameter Store by name, each with its type and value.
    pub parameters: BTreeMap<String, (String, String)>,
    /// Addresses that instances can reach.
    pub reach: Vec<SocketAddr>,
    /// Whether instances have the machine's own network.
    pub share_network: bool,
    /// What all paper instances have in common.
    pub papers: Papers,
    /// Faults in force.
    pub faults: Faults,
    /// Former answers, kept for stale reads.
    pub reads: FormerReads,
    /// Rate limits.
    pub throttle: Throttle,
    /// The audit log: every API call.
    pub audit: Audit,
    /// The event log: everything that happened to an instance.
    pub events: Events,
    /// The effects to be carried out once the lock is released.
    pub effects: Vec<Effect>,
}

impl State {
    /// Makes an empty cloud.
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
            logs: LogGroups::default(),
            instance_policy: Policy::default(),
            objects: Objects::default(),
            parameters: BTreeMap::new(),
            share_network: false,
            reach: Vec::new(),
            papers: Papers::new(seed),
            faults: Faults::default(),
            reads: FormerReads::default(),
            throttle: Throttle::new(Clock::new(time_scale).scale()),
            audit: Audit::default(),
            events: Events::default(),
            effects: Vec::new(),
        }
    }

    /// Returns `count` random hexadecimal digits.
    pub fn random_hex(&mut self, count: usize) -> String {
        (0..count).map(|_| format!("{:x}", self.rng.random_range(0..16))).collect()
    }

    /// Returns a random id in the form of a UUID.
    pub fn random_uuid(&self) -> String {
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

    /// Returns the ids of a group's present members.
    pub fn members(&self, group: &str) -> Vec<String> {
        self.instances
            .values()
            .filter(|i| i.group == group && i.lifecycle != Lifecycle::Terminated)
            .map(|i| i.id.clone())
            .collect()
    }
}
