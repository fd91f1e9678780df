//! The one transition function of an instance. A pair that can't happen is an error with both names in it.

use super::{
    fault::Failure,
    names::InstanceState,
    phase::{Phase, Wait},
};
use thiserror::Error;

/// What moves an instance from one phase to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    Stage,
    StagingDone,
    /// Its turn has come, and BeforeBlockTraffic hooks come first.
    PreBlock,
    /// Take it out of the balancer.
    Block,
    /// Run the hooks at once, on an instance that launches and is behind no balancer yet.
    DeployAtLaunch,
    /// Return to wait for its turn in its batch: whether it may be taken out is decided again.
    Yield,
    /// Out and drained.
    Drained,
    /// Let it back in: it was deployed, or it was cancelled before anything was run on it.
    Allow,
    /// Healthy again, and AfterAllowTraffic hooks come next.
    PostAllow,
    /// Done, with the new revision.
    Succeed,
    /// Try again later.
    Wait(Wait),
    /// Continue in the phase that the wait names.
    Resume,
    /// Put the last good release back.
    Restore,
    /// Done, with the release it had before.
    Restored,
    Fail(Box<Failure>),
    Leave {
        /// From standby, where the desired capacity had gone down with it.
        from_standby: bool,
    },
    Skip,
    /// A person wants a failed one tried again.
    TryAgain,
    /// In service with the new revision, and no longer healthy while its batch bakes.
    Relapse(Box<Failure>),
}

/// The error for a step that the state does not allow: a bug, never an operator's mistake.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an instance in state {from} can't take the step {step:?}")]
pub struct Illegal {
    /// The state it is in.
    pub from: InstanceState,
    /// The step.
    pub step: Box<Step>,
}

/// Returns the phase after `step`.
pub fn next(from: &Phase, step: Step) -> Result<Phase, Illegal> {
    use Phase::*;
    let to = match (from, step) {
        (Pending, Step::Stage) => Staging(None),
        (Staging(_), Step::StagingDone) | (PreBlocking(_), Step::Yield) => Staged { resume: None },
        (Waiting(wait), Step::Yield) => Staged { resume: wait.back.resume() },
        (Staged { .. }, Step::PreBlock) => PreBlocking(None),
        (Staged { resume }, Step::Block) => Blocking { resume: *resume },
        (Blocking { resume }, Step::Drained) | (Staged { resume }, Step::DeployAtLaunch) => {
            Deploying { resume: *resume, attempt: None }
        }
        (Blocking { .. } | Deploying { .. } | Restoring(_), Step::Allow) => Allowing { kept_since: None },
        (Allowing { .. }, Step::PostAllow) => PostAllowing(None),
        (Allowing { .. } | PostAllowing(_), Step::Succeed) => Succeeded,
        (from, Step::Wait(wait)) if may_go_on(from, wait) => Waiting(wait),
        (Waiting(wait), Step::Resume) => wait.back.phase(),
        // Another release: from its own beginning.
        (Blocking { .. } | Deploying { .. } | Waiting(_), Step::Restore) => Restoring(None),
        (Allowing { .. }, Step::Restored) => Restored,
        (from, Step::Fail(failure)) if !from.state().is_final() => Failed(failure),
        (from, Step::Leave { from_standby }) if from.state() != InstanceState::Gone => {
            Gone { left_standby: from_standby }
        }
        (Pending | Staging(_) | Staged { .. } | PreBlocking(_) | Waiting(_), Step::Skip) => Skipped,
        (Failed(_), Step::TryAgain) => Pending,
        (Succeeded, Step::Relapse(failure)) => Failed(failure),
        (from, step) => return Err(Illegal { from: from.state(), step: Box::new(step) }),
    };
    Ok(to)
}

/// Whether a retry from this phase may continue where the wait says: in the phase itself, or, for one that is to come
/// back, on its way out of the balancer. The run of the former release never turns into one of the revision.
fn may_go_on(from: &Phase, wait: Wait) -> bool {
    use InstanceState::*;
    let back = wait.back.state();
    match from.state() {
        from @ (Staging | PreBlocking | PostAllowing | Restoring | Blocking | Deploying) => back == from,
        Allowing => back == Blocking,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{
        event::LifecycleEvent,
        state::{Back, Cause, Fault},
    };
    use jiff::Timestamp;

    fn failure() -> Box<Failure> {
        let fault =
            Fault { event: LifecycleEvent::Install, hook: None, cause: Cause::Exit(1), tail: Vec::new() };
        Box::new(Failure { fault, quarantined: false })
    }

    fn wait(back: Back) -> Step {
        Step::Wait(Wait { until: Timestamp::UNIX_EPOCH, back })
    }

    #[test]
    fn a_final_phase_allows_nothing_but_leaving() {
        use Phase::*;
        for phase in [Succeeded, Restored, Failed(failure()), Skipped] {
            let steps = [
                Step::Stage,
                Step::Block,
                wait(Back::Staging),
                Step::Fail(failure()),
                Step::Skip,
                Step::Restore,
            ];
            for step in steps {
                let illegal = Illegal { from: phase.state(), step: Box::new(step.clone()) };
                assert_eq!(next(&phase, step), Err(illegal));
            }
            let gone = Gone { left_standby: true };
            assert_eq!(next(&phase, Step::Leave { from_standby: true }), Ok(gone));
        }
    }

    #[test]
    fn a_resume_point_goes_with_the_revision_and_never_into_the_former_release() {
        let resume = Some(LifecycleEvent::ApplicationStart);
        let deploying = Phase::Deploying { resume: None, attempt: None };
        let waiting = next(&deploying, wait(Back::Deploying { resume })).unwrap();
        assert_eq!(next(&waiting, Step::Yield), Ok(Phase::Staged { resume }));
        assert_eq!(next(&waiting, Step::Resume), Ok(Phase::Deploying { resume, attempt: None }));
        let restoring = next(&waiting, Step::Restore).unwrap();
        assert_eq!(restoring, Phase::Restoring(None));
        assert!(next(&restoring, wait(Back::Deploying { resume })).is_err());
        assert!(next(&restoring, wait(Back::Restoring)).is_ok());
    }

    #[test]
    fn an_illegal_pair_names_both() {
        let error = next(&Phase::Pending, Step::Drained).unwrap_err();
        assert_eq!(error.to_string(), "an instance in state Pending can't take the step Drained");
    }
}
