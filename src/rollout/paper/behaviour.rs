//! How long things take on a fleet on paper, and how they end.

use crate::rollout::{
    plan::{DispatchKind, Effect, Order},
    snapshot::{Outcome, Snapshot},
};
use jiff::SignedDuration;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Download and unpack.
    pub staging: SignedDuration,
    /// One dispatch of hooks.
    pub hooks: SignedDuration,
    /// Out of the balancer, until drained.
    pub drain: SignedDuration,
    /// Back in, until healthy.
    pub health: SignedDuration,
}

/// What becomes of what the fleet is told.
pub trait Behaviour {
    /// How an attempt ends.
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome;

    /// Sees each effect before it is had.
    fn before_effect(&mut self, _effect: &Effect, _fleet: &Snapshot) {}
}

/// Everything succeeds.
pub struct AllSucceed;

impl Behaviour for AllSucceed {
    fn outcome(&mut self, _: DispatchKind, _: &Order) -> Outcome {
        Outcome::Succeeded { current: None }
    }
}
