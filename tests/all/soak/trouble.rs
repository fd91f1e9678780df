//! What goes wrong in one rollout, decided before it begins.

use rand::{Rng as _, rngs::StdRng};
use std::{collections::VecDeque, ops::Range, time::Duration};

/// It happens within this much of a rollout, in milliseconds; what is due after its end doesn't.
const WITHIN: u64 = 30_000;
/// The daemon is away for less than this, in milliseconds.
const AWAY: u64 = 3_000;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `kill -9` of the daemon.
    Kill,
    /// Another daemon.
    Start,
    /// A person cancels.
    Cancel,
    AgentOffline,
    NetworkCut,
    Terminate,
}

impl What {
    /// The cloud's name for it, where it is a fault of the cloud's.
    pub fn fault(self) -> &'static str {
        match self {
            What::AgentOffline => "agent-offline",
            What::NetworkCut => "network-cut",
            What::Terminate => "terminate-instance",
            What::Kill | What::Start | What::Cancel => "",
        }
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Since the rollout's beginning.
    pub at: Duration,
    pub what: What,
    /// Chooses the instance.
    pub pick: usize,
    /// How long, in the cloud's seconds.
    pub seconds: u32,
}

impl Trouble {
    fn new(random: &mut StdRng, what: What, seconds: Range<u32>) -> Trouble {
        Trouble {
            at: Duration::from_millis(random.random_range(0..WITHIN)),
            what,
            pick: random.random_range(0..1000),
            seconds: random.random_range(seconds),
        }
    }
}

/// One rollout's share, in order of time.
pub fn plan(random: &mut StdRng) -> VecDeque<Trouble> {
    let mut plan = Vec::new();
    if random.random_bool(0.4) {
        plan.push(Trouble::new(random, What::AgentOffline, 10..90));
    }
    // One of the two at most: with a batch out and one instance dead the others still have to serve.
    match random.random_range(0..100) {
        0..25 => plan.push(Trouble::new(random, What::NetworkCut, 5..40)),
        25..45 => plan.push(Trouble::new(random, What::Terminate, 0..1)),
        _ => {}
    }
    if random.random_bool(0.4) {
        let kill = Trouble::new(random, What::Kill, 0..1);
        let away = Duration::from_millis(random.random_range(0..AWAY));
        plan.push(kill);
        plan.push(Trouble { at: kill.at + away, what: What::Start, ..kill });
    }
    if random.random_bool(0.12) {
        plan.push(Trouble::new(random, What::Cancel, 0..1));
    }
    // A stable sort: a start stays behind its kill.
    plan.sort_by_key(|trouble| trouble.at);
    plan.into()
}
