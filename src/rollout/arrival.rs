//! Which revision a launching instance gets: the last good one until a new one has proven itself, then the new one.

use super::state::{DeploymentState, Instance, InstanceState as S};
use jiff::{SignedDuration, Timestamp};

/// After how many launches in a row that were given up drover waits for a person: another would only be terminated too.
pub const MOST_LOST: usize = 3;

/// A rollout under way on the group.
#[derive(Clone, Debug)]
pub struct Rolling<'a> {
    /// Its state.
    pub state: DeploymentState,
    /// Its revision.
    pub sha: &'a str,
    /// Its instances.
    pub instances: &'a [Instance],
    /// Its policy's bake.
    pub bake: SignedDuration,
}

/// What is done with a launching instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// This revision is installed first.
    Install(String),
    /// Nothing was deployed here yet: it goes into service as its image made it.
    Proceed,
    /// The launch waits until a person has looked; holds why.
    Hold(String),
}

/// Decides what is done with a launching instance. `good` is the group's last good revision, `lost` the number of launches
/// in a row that were given up.
pub fn arrival(rolling: Option<&Rolling<'_>>, good: Option<&str>, lost: usize, now: Timestamp) -> Arrival {
    if lost >= MOST_LOST {
        return Arrival::Hold(format!(
            "the last {lost} launches were given up: no further one is tried until a deployment to the group succeeds"
        ));
    }
    let proven = rolling.filter(|rolling| is_proven(rolling, now)).map(|rolling| rolling.sha);
    match proven.or(good) {
        Some(sha) => Arrival::Install(sha.to_owned()),
        None => Arrival::Proceed,
    }
}

/// Whether the first batch has succeeded, its bake included, and nothing has stopped the rollout since.
fn is_proven(rolling: &Rolling<'_>, now: Timestamp) -> bool {
    let first: Vec<&Instance> = rolling.instances.iter().filter(|record| record.batch == Some(1)).collect();
    let through = first.iter().all(|record| matches!(record.state(), S::Succeeded | S::Gone))
        && first.iter().any(|record| record.state() == S::Succeeded);
    let baked = first.iter().all(|record| now >= record.since + rolling.bake);
    rolling.state == DeploymentState::Rolling && through && baked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::state::Phase;

    #[test]
    fn the_last_good_revision_until_the_new_one_has_proven_itself() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let of = |n: u32, batch, phase| {
            let mut record = Instance::new(&format!("i-{n}"), "a", "asg", now);
            (record.batch, record.phase) = (Some(batch), phase);
            record
        };
        let bake = SignedDuration::from_mins(5);
        let install = |sha: &str| Arrival::Install(sha.to_owned());
        let decide = |instances: &[Instance], state, later| {
            let rolling = Rolling { state, sha: "new", instances, bake };
            arrival(Some(&rolling), Some("good"), 0, now + later)
        };
        let (begun, through) = (
            [of(1, 1, Phase::Succeeded), of(2, 1, Phase::Deploying { resume: None, attempt: None })],
            [
                of(1, 1, Phase::Succeeded),
                of(2, 1, Phase::Gone { left_standby: false }),
                of(3, 2, Phase::Blocking { resume: None }),
            ],
        );
        assert_eq!(decide(&begun, DeploymentState::Rolling, bake), install("good"));
        assert_eq!(decide(&through, DeploymentState::Rolling, SignedDuration::ZERO), install("good"));
        assert_eq!(decide(&through, DeploymentState::Rolling, bake), install("new"));
        assert_eq!(decide(&through, DeploymentState::Halted, bake), install("good"));
        assert_eq!(arrival(None, None, 0, now), Arrival::Proceed);
        assert!(matches!(arrival(None, Some("good"), 3, now), Arrival::Hold(_)));
    }
}
