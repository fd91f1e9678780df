//! The rollout policy of a deployment group, with its defaults.

use super::event::LifecycleEvent;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, iter::once, str::FromStr};

pub use super::size::{Batches, Size};

/// How one batch follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Wait for the whole batch.
    Batch,
    /// Keep a batch's number in work, starting the next as one finishes.
    Window,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Mode::Batch),
            "window" => Ok(Mode::Window),
            other => Err(format!("'{other}' is no mode: write \"batch\" or \"window\"")),
        }
    }
}

/// Which zones a batch takes its instances from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zones {
    /// Wherever they are.
    #[default]
    Any,
    /// From all zones in turn.
    Spread,
    /// From one zone, until that zone is through.
    OneAtATime,
}

/// What a deployment does that may not go on by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It waits for a person.
    #[default]
    Halt,
    /// It brings what it changed back to the last good revision; without one it waits for a person.
    Rollback,
}

/// Whose hooks run at ApplicationStop and at BeforeBlockTraffic and AfterBlockTraffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopFrom {
    /// Those of the release that runs, as in CodeDeploy.
    #[default]
    Current,
    /// Those of the revision that is deployed.
    New,
}

impl StopFrom {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            StopFrom::Current => "current",
            StopFrom::New => "new",
        }
    }
}

/// What becomes of an instance whose hooks of these events have failed twice, or are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopFailure {
    /// Those of the new revision are tried.
    #[default]
    FallBack,
    /// It goes on.
    Ignore,
    /// Its attempt has failed.
    Fail,
}

impl StopFailure {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            StopFailure::FallBack => "fall-back",
            StopFailure::Ignore => "ignore",
            StopFailure::Fail => "fail",
        }
    }
}

/// Which failures are tried again on the instance where they happened, how often and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all after transient failures. Default 3.
    pub attempts: u32,
    /// Attempts in all after failures of unknown class. Default 2.
    pub attempts_unknown: u32,
    /// First pause of the exponential backoff. Default 5 s.
    pub base: SignedDuration,
    /// Longest pause. Default 2 min.
    pub cap: SignedDuration,
    /// Exit codes of hooks that are transient. Default 75 (EX_TEMPFAIL of sysexits.h).
    pub transient_exit_codes: Vec<i32>,
    /// Exit codes of hooks that are permanent. Default none besides 126 and 127.
    pub permanent_exit_codes: Vec<i32>,
    /// Further regular expressions; a match in a failed hook's last lines makes the failure transient.
    pub transient_patterns: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 3,
            attempts_unknown: 2,
            base: SignedDuration::from_secs(5),
            cap: SignedDuration::from_mins(2),
            transient_exit_codes: vec![75],
            permanent_exit_codes: Vec::new(),
            transient_patterns: Vec::new(),
        }
    }
}

/// Deadlines of the waits. The defaults are the design's; those of drain and health are added to what the
/// target group itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// In the queue. Default 2 h.
    pub queued: SignedDuration,
    /// Download and unpack, per attempt. Default 10 min.
    pub staging: SignedDuration,
    /// An agent that can't be reached while its command runs, before it counts as lost. Default 5 min: Systems Manager
    /// itself notices within that.
    pub agent: SignedDuration,
    /// Past the deregistration delay. Default 60 s.
    pub drain: SignedDuration,
    /// Past 3 × health-check interval × healthy threshold. Default 60 s.
    pub health: SignedDuration,
    /// Halted, waiting for a person. Default 24 h.
    pub halted: SignedDuration,
    /// The whole deployment. Default 12 h.
    pub deployment: SignedDuration,
    /// A cancelled one, until everything is back. Default 1 h; what is not back by then is quarantined by name.
    pub cancelled: SignedDuration,
}

/// The longest time that a policy may name: 30 days. Longer than anybody waits, and short enough to be added to a time.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            queued: SignedDuration::from_hours(2),
            staging: SignedDuration::from_mins(10),
            agent: SignedDuration::from_mins(5),
            drain: SignedDuration::from_secs(60),
            health: SignedDuration::from_secs(60),
            halted: SignedDuration::from_hours(24),
            deployment: SignedDuration::from_hours(12),
            cancelled: SignedDuration::from_hours(1),
        }
    }
}

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
    /// What no fleet could satisfy. The message says what would be right.
    pub fn check(&self) -> Result<(), String> {
        if matches!(self.min_in_service, Some(Size::Percent(100))) {
            return Err(
                "min_in_service = \"100%\" can never be met while an instance is out: write a smaller share"
                    .into(),
            );
        }
        if matches!(self.min_in_service, Some(Size::Count(0) | Size::Percent(0))) && !self.allow_downtime {
            return Err(
                "min_in_service = \"0\" allows an outage: add allow_downtime = true if that is meant".into(),
            );
        }
        for (event, time) in &self.time_outs {
            if !event.takes_hooks() {
                return Err(format!("time_outs.{event}: it is the system's own event and takes no hooks"));
            }
            if *time < SignedDuration::from_secs(1) || *time > SignedDuration::from_hours(1) {
                return Err(format!("time_outs.{event}: write a time between \"1s\" and \"1h\""));
            }
        }
        if self.approve_after == Some(0) {
            return Err("approve_after counts batches: write at least 1".into());
        }
        let Deadlines { queued, staging, agent, drain, health, halted, deployment, cancelled } =
            self.deadlines;
        let none = SignedDuration::ZERO;
        let second = SignedDuration::from_secs(1);
        for (name, time, least) in [
            ("bake", self.bake, none),
            ("retry.base", self.retry.base, none),
            ("retry.cap", self.retry.cap, none),
            ("deadlines.queued", queued, second),
            ("deadlines.staging", staging, second),
            ("deadlines.agent", agent, second),
            ("deadlines.drain", drain, none),
            ("deadlines.health", health, none),
            ("deadlines.halted", halted, second),
            ("deadlines.deployment", deployment, second),
            ("deadlines.cancelled", cancelled, second),
        ] {
            if time < least || time > LONGEST {
                return Err(format!(
                    "{name} = \"{time:#}\" can't be: write a time between \"{least:#}\" and \"{:#}\"",
                    LONGEST
                ));
            }
        }
        if self.retry.attempts == 0 || self.retry.attempts_unknown == 0 {
            return Err("retry.attempts counts the first attempt too: write at least 1".into());
        }
        if self.retry.cap < self.retry.base {
            return Err("retry.cap is the longest pause: it can't be shorter than retry.base".into());
        }
        for pattern in &self.retry.transient_patterns {
            regex::Regex::new(pattern).map_err(|e| {
                format!("retry.transient_patterns: '{pattern}' is no regular expression: {e}")
            })?;
        }
        Ok(())
    }

    /// Whether a fleet of `total` can be rolled at all, with the arithmetic in words.
    pub fn check_fleet(&self, total: u32) -> Result<(), String> {
        let batch = self.batch.largest(total);
        if let Some(minimum) = self.min_in_service {
            let keep = minimum.of(total);
            if keep + batch > total {
                return Err(format!(
                    "batch {} takes {batch} of {total} instances out at once, min_in_service \"{minimum}\" keeps {keep}: \
                     {total} - {batch} = {} is less than {keep}; make the batch at most {} or min_in_service at most {}",
                    self.batch,
                    total - batch,
                    total.saturating_sub(keep),
                    total - batch,
                ));
            }
        }
        if batch >= total && !self.allow_downtime {
            return Err(format!(
                "batch {} takes all {total} instance{} out of service at once; make it smaller, or add allow_downtime = true \
                 to the group's policy if an outage is meant",
                self.batch,
                if total == 1 { "" } else { "s" },
            ));
        }
        Ok(())
    }

    /// The same for the way back: in the largest step, without canary, bake, approval or a way back of its own; what must
    /// stay in service stays.
    pub fn for_rollback(&self, total: u32) -> Policy {
        Policy {
            batch: Batches::of(self.batch.largest_step(total)),
            bake: SignedDuration::ZERO,
            approve_after: None,
            on_failure: OnFailure::Halt,
            ..self.clone()
        }
    }

    /// The same with a batch small enough for a fleet that has shrunk, where there is one: a way back is not refused for a
    /// size that was right when the fleet was larger.
    pub fn fitted(self, total: u32) -> Policy {
        let largest = self.batch.largest(total);
        let smaller =
            (1..largest).rev().map(|size| Policy { batch: Batches::of(Size::Count(size)), ..self.clone() });
        let fitting = once(self.clone()).chain(smaller).find(|policy| policy.check_fleet(total).is_ok());
        fitting.unwrap_or(self)
    }

    /// The same for one instance alone, which fails or doesn't: no steps, no bake, no approval, no way back for others.
    pub fn for_one(&self) -> Policy {
        Policy {
            batch: Batches::of(Size::Count(1)),
            bake: SignedDuration::ZERO,
            approve_after: None,
            on_failure: OnFailure::Halt,
            max_failed: Size::Percent(100),
            ..self.clone()
        }
    }

    /// How many must stay healthy, given how many were when the deployment began.
    pub fn keep_in_service(&self, total: u32, healthy_at_start: u32) -> u32 {
        self.keep_of(total, healthy_at_start, total)
    }

    /// The same of `size` instances among the `total` of the deployment group, from which batches are taken.
    pub fn keep_of(&self, size: u32, healthy_at_start: u32, total: u32) -> u32 {
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
    fn an_impossible_fleet_is_refused_with_the_arithmetic() {
        let policy = Policy {
            batch: Batches::new(vec![Size::Count(2)]).unwrap(),
            min_in_service: Some(Size::Count(5)),
            ..Policy::default()
        };
        let error = policy.check_fleet(6).unwrap_err();
        assert!(error.contains("6 - 2 = 4 is less than 5"), "{error}");
        assert!(policy.check_fleet(7).is_ok());
        assert!(Policy::default().check_fleet(1).unwrap_err().contains("allow_downtime"));
    }

    #[test]
    fn times_without_bound_are_refused() {
        let long = SignedDuration::MAX;
        let of = |deadlines| Policy { deadlines, ..Policy::default() }.check();
        let default = Deadlines::default;
        for deadlines in [
            Deadlines { queued: long, ..default() },
            Deadlines { staging: long, ..default() },
            Deadlines { agent: long, ..default() },
            Deadlines { drain: long, ..default() },
            Deadlines { health: long, ..default() },
            Deadlines { halted: long, ..default() },
            Deadlines { deployment: long, ..default() },
            Deadlines { cancelled: long, ..default() },
            Deadlines { drain: -SignedDuration::from_secs(1), ..default() },
        ] {
            let words = of(deadlines).unwrap_err();
            assert!(words.contains("write a time between"), "{words}");
        }
        assert!(Policy { bake: long, ..Policy::default() }.check().unwrap_err().starts_with("bake"));
        assert_eq!(Policy::default().check(), Ok(()));
    }

    #[test]
    fn a_way_back_takes_fewer_at_a_time_in_a_smaller_fleet() {
        let policy = Policy { batch: Batches::of(Size::Count(5)), ..Policy::default() };
        assert_eq!(policy.clone().fitted(10), policy);
        assert_eq!(policy.clone().fitted(4).batch, Batches::of(Size::Count(3)));
        let careful = Policy { min_in_service: Some(Size::Count(3)), ..policy.clone() };
        assert_eq!(careful.fitted(4).batch, Batches::of(Size::Count(1)));
        assert_eq!(policy.clone().fitted(1), policy, "there is none, which is refused with the arithmetic");
    }

    #[test]
    fn sizes_that_mean_nothing_are_refused() {
        for text in ["", "-1", "101%", "a", "3.5"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!(Batches::new(vec![Size::Count(0)]).is_err());
    }
}
