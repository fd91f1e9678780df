//! Which policies are refused: those that no fleet could satisfy, and those that one fleet can't.

use super::{Deadlines, LONGEST, Policy, Size};
use jiff::SignedDuration;

impl Policy {
    /// Refuses what no fleet could satisfy. The message says what would be right.
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

    /// Refuses a fleet of `total` that could not be rolled, with the arithmetic in words.
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
}

#[cfg(test)]
mod tests {
    use super::{super::Batches, *};

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
    fn sizes_that_mean_nothing_are_refused() {
        for text in ["", "-1", "101%", "a", "3.5"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!(Batches::new(vec![Size::Count(0)]).is_err());
    }
}
