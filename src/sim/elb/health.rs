//! Health checks: which are due, and how their results change a target's state.

use std::time::Duration;

use super::probe::{Found, Probe};
use super::target_group::TargetState;
use crate::sim::state::{Effect, Instance, State};

/// The shortest time-out of a check, whatever the time scale, so that no healthy target fails on a loaded machine.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(750);

impl State {
    /// Orders the health checks that are due.
    pub(super) fn order_checks(&mut self) {
        let now = self.clock.now();
        let mut of_paper = Vec::new();
        for group in self.elb.target_groups.values_mut() {
            if group.load_balancer.is_none() {
                continue;
            }
            let interval = self.clock.wait(group.check.interval as f64);
            let timeout = self.clock.wait_at_least(group.check.timeout as f64, SHORTEST_TIMEOUT);
            for ((instance, port), target) in &mut group.targets {
                let due =
                    target.next_check <= now && !target.checking && target.state != TargetState::Draining;
                if !due {
                    continue;
                }
                target.checking = true;
                target.next_check = now + interval;
                if target.reason == "Elb.RegistrationInProgress" {
                    let to = (
                        TargetState::Initial,
                        "Elb.InitialHealthChecking",
                        "Initial health checks in progress",
                    );
                    target.move_to(to, (&group.name, instance), &mut self.events);
                }
                let probe = Probe {
                    target_group: group.arn.clone(),
                    instance: instance.clone(),
                    port: *port,
                    path: group.check.path.clone(),
                    timeout,
                };
                let checked = self.instances.get(instance);
                match checked.filter(|i| self.groups.get(&i.group).is_some_and(|g| g.paper.is_some())) {
                    Some(paper) => of_paper.push((probe, check_paper_instance(paper, &group.check.matcher))),
                    None => self.effects.push(Effect::HealthCheck(probe)),
                }
            }
        }
        of_paper.iter().for_each(|(probe, found)| self.record_check(probe, found));
    }

    /// Records a check's result: the first pass makes a new target healthy, later changes need the thresholds.
    pub fn record_check(&mut self, probe: &Probe, found: &Found) {
        let now = self.clock.now();
        let Some(group) = self.elb.target_groups.get_mut(&probe.target_group) else { return };
        let check = group.check.clone();
        let Some(target) = group.targets.get_mut(&(probe.instance.clone(), probe.port)) else { return };
        target.checking = false;
        if target.state == TargetState::Draining {
            return;
        }
        let passed = matches!(found, Found::Status(status) if matches(&check.matcher, *status));
        if passed {
            target.passes += 1;
            target.fails = 0;
        } else {
            target.fails += 1;
            target.passes = 0;
        }
        let to = if passed {
            let needed = if target.state == TargetState::Initial { 1 } else { check.healthy_threshold };
            if target.state == TargetState::Healthy || i64::from(target.passes) < needed {
                return;
            }
            target.healthy_since = Some(now);
            (TargetState::Healthy, "", String::new())
        } else {
            if i64::from(target.fails) < check.unhealthy_threshold {
                return;
            }
            match found {
                Found::Status(status) => (
                    TargetState::Unhealthy,
                    "Target.ResponseCodeMismatch",
                    format!("Health checks failed with these codes: [{status}]"),
                ),
                Found::Nothing => (TargetState::Unhealthy, "Target.Timeout", "Request timed out".to_owned()),
                Found::Broken => {
                    (TargetState::Unhealthy, "Target.FailedHealthChecks", "Health checks failed".to_owned())
                }
            }
        };
        target.move_to((to.0, to.1, &to.2), (&group.name, &probe.instance), &mut self.events);
    }
}

/// Returns what a check of a paper instance finds; no request is made.
fn check_paper_instance(instance: &Instance, matcher: &str) -> Found {
    match (instance.health_fault, instance.cut) {
        (Some((true, _)), _) | (None, Some(_)) => Found::Nothing,
        (Some((false, _)), _) => Found::Status(503),
        _ if instance.dead || instance.paper.is_none() => Found::Broken,
        // The first status that passes.
        _ => Found::Status(matcher.split([',', '-']).find_map(|s| s.trim().parse().ok()).unwrap_or(200)),
    }
}

/// Whether a status is among `200`, `200,202` or `200-299`.
fn matches(matcher: &str, status: u16) -> bool {
    matcher.split(',').any(|part| match part.trim().split_once('-') {
        Some((low, high)) => {
            low.parse().is_ok_and(|l: u16| l <= status) && high.parse().is_ok_and(|h: u16| status <= h)
        }
        None => part.trim().parse() == Ok(status),
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn matchers_are_lists_and_ranges() {
        assert!(matches("200", 200) && matches("200,301", 301) && matches("200-299", 204));
        assert!(!matches("200", 204) && !matches("200-299", 300) && !matches("x", 200));
    }
}
