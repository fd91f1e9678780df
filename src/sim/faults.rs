//! Faults on order: what goes wrong, for whom, how often. The kinds are listed in the parent module's doc.

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// What a fault applies to; an absent field matches everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// API action, such as `SendCommand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Instance id, or `random` (chosen with the run's seed among those in service when the fault is posted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The service's throttling error.
    Throttle,
    /// An error of `status` and `code`.
    Error,
    /// The call takes effect, the connection closes without a response.
    LoseResponse,
    /// A command is missing from ListCommands for `seconds`.
    DelayVisibility,
    /// SendCommand answers InvalidInstanceId.
    InvalidInstance,
    /// The agent can't reach the service for `seconds`.
    AgentOffline,
    /// A command ends Undeliverable on an instance.
    Undeliverable,
    /// A command's delivery takes `seconds` longer.
    DeliveryDelay,
    /// A hook ends with `exit` at `event`.
    HookExit,
    /// Health checks fail for `seconds`.
    HealthFail,
    /// Health checks time out for `seconds`.
    HealthSlow,
    /// The instance dies.
    TerminateInstance,
    /// The instance's network is cut for `seconds`.
    NetworkCut,
    /// Archive downloads answer 502.
    DownloadFail,
    /// A Describe answers what was true `seconds` ago.
    StaleRead,
    /// A Describe leaves out an instance, or everything.
    PartialRead,
}

impl Kind {
    /// The name as in the API.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether it is carried out when it is posted, rather than when a call meets it.
    pub fn acts_at_once(self) -> bool {
        matches!(
            self,
            Self::AgentOffline
                | Self::HookExit
                | Self::HealthFail
                | Self::HealthSlow
                | Self::TerminateInstance
                | Self::NetworkCut
        )
    }
}

fn one() -> u32 {
    1
}

fn certain() -> f64 {
    1.0
}

/// A fault as it is posted and listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Given when it is posted.
    #[serde(default)]
    pub id: String,
    /// What goes wrong.
    pub kind: Kind,
    /// For whom.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// How many times more.
    #[serde(default = "one")]
    pub times: u32,
    /// Chance that it strikes where it matches, 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How long, in the cloud's seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// HTTP status of an `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Error code of an `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Lifecycle event of a `hook-exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Exit code of a `hook-exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What the failing hook or the error says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often it has struck.
    #[serde(default)]
    pub struck: u32,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    faults: Vec<Fault>,
    next: u64,
}

impl Faults {
    /// Adds a fault and gives it its id.
    pub fn add(&mut self, mut fault: Fault) -> Fault {
        self.next += 1;
        fault.id = format!("fault-{}", self.next);
        fault.struck = 0;
        if fault.kind.acts_at_once() {
            fault.struck = fault.times;
            fault.times = 0;
        }
        self.faults.push(fault.clone());
        fault
    }

    /// All faults, spent ones included.
    pub fn list(&self) -> &[Fault] {
        &self.faults
    }

    /// Removes one fault, or all; how many went.
    pub fn clear(&mut self, id: Option<&str>) -> usize {
        let before = self.faults.len();
        self.faults.retain(|f| id.is_some_and(|id| f.id != id));
        before - self.faults.len()
    }

    /// The first fault of one of `kinds` that strikes this action and these instances; it is counted as spent once.
    pub fn strike(
        &mut self,
        kinds: &[Kind],
        action: &str,
        instances: &[String],
        rng: &mut StdRng,
    ) -> Option<Fault> {
        for fault in &mut self.faults {
            let meets = fault.times > 0
                && kinds.contains(&fault.kind)
                && fault.matches.action.as_deref().is_none_or(|a| a == action)
                && fault.matches.instance.as_deref().is_none_or(|i| instances.iter().any(|x| x == i));
            if meets && (fault.probability >= 1.0 || rng.random_bool(fault.probability.clamp(0.0, 1.0))) {
                fault.times -= 1;
                fault.struck += 1;
                return Some(fault.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_fault_strikes_as_often_as_it_says_and_only_where_it_matches() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut faults = Faults::default();
        let posted = r#"{"kind":"throttle","match":{"action":"SendCommand","instance":"i-1"},"times":2}"#;
        faults.add(serde_json::from_str(posted).unwrap());
        let mut strike = |action: &str, id: &str| {
            faults.strike(&[Kind::Throttle], action, &[id.to_owned()], &mut rng).is_some()
        };
        assert!(!strike("ListCommands", "i-1") && !strike("SendCommand", "i-2"));
        assert!(
            strike("SendCommand", "i-1") && strike("SendCommand", "i-1") && !strike("SendCommand", "i-1")
        );
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"throttle","often":2}"#).is_err());
    }
}
