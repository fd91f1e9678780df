//! Settings of target groups that cost a rollout minutes.

use super::span::words;
use crate::rollout::policy::Mode;
use jiff::SignedDuration;

/// A deregistration delay beyond this is worth a warning: AWS's default is 300 s, and few requests last a minute.
const LONG_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// A health-check interval beyond this is worth a warning: AWS takes 5 to 300 s, 30 by default.
const LONG_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

/// A target group's settings that waits follow from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The target group's name.
    pub name: String,
    /// `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: SignedDuration,
    /// Between two health checks.
    pub interval: SignedDuration,
    /// Passed checks until healthy.
    pub threshold: i32,
}

/// Describes settings that cost minutes, and what the usual ones would save over so many batches.
pub fn lints(settings: &[Settings], batches: usize, mode: Mode) -> Vec<String> {
    let batches = i32::try_from(batches).unwrap_or(i32::MAX);
    let each = if mode == Mode::Window { "turns" } else { "batches" };
    let mut lints = Vec::new();
    for group in settings {
        let spare = (group.deregistration_delay - LONG_DELAY) * batches;
        if spare >= SignedDuration::from_mins(1) {
            lints.push(format!(
                "target group {}: deregistration delay {} → {} s saves {} over {batches} {each}, if no request lasts longer",
                group.name,
                group.deregistration_delay.as_secs(),
                LONG_DELAY.as_secs(),
                words(spare)
            ));
        }
        let spare = (group.interval - LONG_INTERVAL) * group.threshold * batches;
        if spare >= SignedDuration::from_mins(1) {
            lints.push(format!(
                "target group {}: health-check interval {} → {} s saves up to {} over {batches} {each}",
                group.name,
                group.interval.as_secs(),
                LONG_INTERVAL.as_secs(),
                words(spare)
            ));
        }
    }
    lints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_settings_are_named_with_what_they_cost() {
        let seconds = SignedDuration::from_secs;
        let slow = Settings {
            name: "web".into(),
            deregistration_delay: seconds(300),
            interval: seconds(30),
            threshold: 5,
        };
        let quick = Settings { deregistration_delay: seconds(30), interval: seconds(10), ..slow.clone() };
        assert!(lints(&[quick], 9, Mode::Batch).is_empty());
        let said = lints(&[slow], 5, Mode::Batch).join("; ");
        assert!(said.contains("deregistration delay 300 → 60 s saves 20 min over 5 batches"), "{said}");
        assert!(said.contains("interval 30 → 10 s saves up to 8 min 20 s"), "{said}");
    }
}
