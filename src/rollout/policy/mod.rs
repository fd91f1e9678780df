//! The rollout policy of a deployment group, with its defaults.

mod check;
mod choices;
mod size;
mod times;

pub use choices::{Mode, OnFailure, StopFailure, StopFrom, Zones};
pub use size::{Batches, Size};
pub use times::{Deadlines, LONGEST, Retry};

use super::event::LifecycleEvent;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, iter::once};

/// How a deployment group is rolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// `"20%"`, `"3"`, or steps `["1", "10%", "50%"]`. Default `"20%"`.
    pub batch: Batches,
    /// Default `batch`.
    pub mode: Mode,
    /// Never fewer than this healthy behind the balancer by our doing. Default: healthy at the start − batch.
    pub min_in_service: Option<Size>,
    /// Default `any`.
    pub zones: Zones,
    /// Pause after each batch; a target that turns unhealthy in it counts as a failure. Default 0 s.
    pub bake: SignedDuration,
    /// After that many batches a person must approve the rest. Default none.
    pub approve_after: Option<u32>,
    /// Default `halt`.
    pub on_failure: OnFailure,
    /// Instances that may end Failed. Default `"10%"`, rounded down.
    pub max_failed: Size,
    /// Needed for a group of one instance, or where nothing has to stay in service. Default false.
    pub allow_downtime: bool,
    /// Time-outs of hooks that state none in `appspec.yml`, by lifecycle event; 1 s to 1 h. Default 15 min.
    pub time_outs: BTreeMap<LifecycleEvent, SignedDuration>,
    /// Default `current`.
    pub stop_from: StopFrom,
    /// Default `fall-back`.
    pub stop_failure: StopFailure,
    /// Retries.
    pub retry: Retry,
    /// Deadlines.
    pub deadlines: Deadlines,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            batch: Batches::of(Size::Percent(20)),
            mode: Mode::Batch,
            min_in_service: None,
            zones: Zones::Any,
            bake: SignedDuration::ZERO,
            approve_after: None,
            on_failure: OnFailure::Halt,
            max_failed: Size::Percent(10),
            allow_downtime: false,
            time_outs: BTreeMap::new(),
            stop_from: StopFrom::default(),
            stop_failure: StopFailure::default(),
            retry: Retry::default(),
            deadlines: Deadlines::default(),
        }
    }
}

impl Policy {
    /// Returns the policy for a rollback: in the largest step, without canary, bake, approval or a rollback of its own.
    /// What must stay in service remains the same.
    pub fn for_rollback(&self, total: u32) -> Policy {
        Policy {
            batch: Batches::of(self.batch.largest_step(total)),
            bake: SignedDuration::ZERO,
            approve_after: None,
            on_failure: OnFailure::Halt,
            ..self.clone()
        }
    }

    /// Returns the policy with a batch small enough for a fleet that has shrunk, where there is one: a rollback is not
    /// refused for a size that was right when the fleet was larger.
    pub fn shrunk_to_fit(self, total: u32) -> Policy {
        let largest = self.batch.largest(total);
        let smaller =
            (1..largest).rev().map(|size| Policy { batch: Batches::of(Size::Count(size)), ..self.clone() });
        let fitting = once(self.clone()).chain(smaller).find(|policy| policy.check_fleet(total).is_ok());
        fitting.unwrap_or(self)
    }

    /// Returns the policy for one instance alone: no steps, no bake, no approval, no rollback.
    pub fn for_one_instance(&self) -> Policy {
        Policy {
            batch: Batches::of(Size::Count(1)),
            bake: SignedDuration::ZERO,
            approve_after: None,
            on_failure: OnFailure::Halt,
            max_failed: Size::Percent(100),
            ..self.clone()
        }
    }

    /// Returns how many must stay healthy, given how many were when the deployment began.
    pub fn keep_in_service(&self, total: u32, healthy_at_start: u32) -> u32 {
        self.keep_in_pool(total, healthy_at_start, total)
    }

    /// Returns how many of a pool of `size` instances must stay healthy; batches are taken from the `total` of the
    /// deployment group.
    pub fn keep_in_pool(&self, size: u32, healthy_at_start: u32, total: u32) -> u32 {
        match self.min_in_service {
            Some(minimum) => minimum.of(size),
            None => healthy_at_start.saturating_sub(self.batch.largest(total)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_rounds_down_but_a_batch_is_never_empty() {
        let batches =
            Batches::new(vec!["1".parse().unwrap(), "10%".parse().unwrap(), "50%".parse().unwrap()]).unwrap();
        assert_eq!(
            (batches.size(1, 9), batches.size(2, 9), batches.size(3, 9), batches.size(7, 9)),
            (1, 1, 4, 4)
        );
        assert_eq!(batches.count(9), 4);
        assert_eq!(Size::Percent(10).of(6), 0);
        assert_eq!(Size::Percent(95).of(10), 9);
    }

    #[test]
    fn a_way_back_takes_fewer_at_a_time_in_a_smaller_fleet() {
        let policy = Policy { batch: Batches::of(Size::Count(5)), ..Policy::default() };
        assert_eq!(policy.clone().shrunk_to_fit(10), policy);
        assert_eq!(policy.clone().shrunk_to_fit(4).batch, Batches::of(Size::Count(3)));
        let careful = Policy { min_in_service: Some(Size::Count(3)), ..policy.clone() };
        assert_eq!(careful.shrunk_to_fit(4).batch, Batches::of(Size::Count(1)));
        assert_eq!(
            policy.clone().shrunk_to_fit(1),
            policy,
            "there is none, which is refused with the arithmetic"
        );
    }
}
