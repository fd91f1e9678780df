//! The one transition function of an instance. A pair that can't happen is an error with both names in it.

use super::state::InstanceState;
use thiserror::Error;

/// What moves an instance on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Step {
    Stage,
    StagingDone,
    /// Its turn has come, and BeforeBlockTraffic hooks come first.
    PreBlock,
    /// Take it out of the balancer.
    Block,
    /// It launches, and is behind no balancer yet: its hooks run at once.
    DeployAtLaunch,
    /// Back to wait for its turn in its batch: whether it may be taken out is decided afresh.
    Yield,
    /// Out and drained.
    Drained,
    /// Let it back in: deployed, or never touched and cancelled.
    Allow,
    /// Healthy again, and AfterAllowTraffic hooks come next.
    PostAllow,
    /// Done, with the new revision.
    Succeed,
    /// Try again later.
    Wait,
    /// Go on where the wait said.
    Resume(InstanceState),
    /// Put the last good release back.
    Restore,
    /// Done, with the release it had before.
    Restored,
    Fail,
    Leave,
    Skip,
    /// A person wants a failed one tried again.
    TryAgain,
    /// In service with the new revision, and no longer healthy while its batch bakes.
    Relapse,
}

/// A step that the state does not allow: a bug, never an operator's doing.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an instance in state {from} can't take the step {step:?}")]
pub struct Illegal {
    /// The state it is in.
    pub from: InstanceState,
    /// What was asked.
    pub step: Step,
}

/// The state after `step`.
pub fn next(from: InstanceState, step: Step) -> Result<InstanceState, Illegal> {
    use InstanceState::*;
    let to = match (from, step) {
        (Pending, Step::Stage) => Staging,
        (Staging, Step::StagingDone) | (PreBlocking | Waiting, Step::Yield) => Staged,
        (Staged, Step::PreBlock) => PreBlocking,
        (Staged | PreBlocking | Allowing, Step::Block) => Blocking,
        (Blocking, Step::Drained) | (Staged, Step::DeployAtLaunch) => Deploying,
        (Blocking | Deploying | Restoring, Step::Allow) => Allowing,
        (Allowing, Step::PostAllow) => PostAllowing,
        (Allowing | PostAllowing, Step::Succeed) => Succeeded,
        (Staging | PreBlocking | Blocking | Deploying | Allowing | PostAllowing | Restoring, Step::Wait) => {
            Waiting
        }
        (
            Waiting,
            Step::Resume(back @ (Staging | PreBlocking | Blocking | Deploying | PostAllowing | Restoring)),
        ) => back,
        (Blocking | Deploying | Waiting, Step::Restore) => Restoring,
        (Allowing, Step::Restored) => Restored,
        (state, Step::Fail) if !state.is_final() => Failed,
        (state, Step::Leave) if state != Gone => Gone,
        (Pending | Staging | Staged | PreBlocking | Waiting, Step::Skip) => Skipped,
        (Failed, Step::TryAgain) => Pending,
        (Succeeded, Step::Relapse) => Failed,
        (from, step) => return Err(Illegal { from, step }),
    };
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_allows_nothing_but_leaving() {
        use InstanceState::*;
        for state in [Succeeded, Restored, Failed, Skipped] {
            for step in [Step::Stage, Step::Block, Step::Wait, Step::Fail, Step::Skip, Step::Restore] {
                assert_eq!(next(state, step), Err(Illegal { from: state, step }));
            }
            assert_eq!(next(state, Step::Leave), Ok(Gone));
        }
    }

    #[test]
    fn an_illegal_pair_names_both() {
        let error = next(InstanceState::Pending, Step::Drained).unwrap_err();
        assert_eq!(error.to_string(), "an instance in state Pending can't take the step Drained");
    }
}
