//! The behaviour of a fleet on paper: how long each step takes, and how attempts end.

use crate::rollout::{
    plan::{DispatchKind, Effect, Order},
    snapshot::{Outcome, Snapshot},
};
use jiff::SignedDuration;

/// How long each step takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Download and unpack.
    pub staging: SignedDuration,
    /// One dispatch of hooks.
    pub hooks: SignedDuration,
    /// Deregistration, until drained.
    pub drain: SignedDuration,
    /// Registration, until healthy.
    pub health: SignedDuration,
}

/// How a fleet on paper behaves: how its attempts end, and what is checked at each effect.
pub trait Behaviour {
    /// Decides how an attempt ends.
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome;

    /// Is called with each effect before it is performed.
    fn before_effect(&mut self, _effect: &Effect, _fleet: &Snapshot) {}
}

/// A behaviour in which every attempt succeeds.
pub struct AllSucceed;

impl Behaviour for AllSucceed {
    fn outcome(&mut self, _: DispatchKind, _: &Order) -> Outcome {
        Outcome::Succeeded { current: None }
    }
}
