//! `[aws]`: where AWS is, and how much of its rate limits the daemon takes.

use serde::Deserialize;

/// AWS: credentials come from the environment, as every AWS tool takes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// Region; else the environment's.
    pub region: Option<String>,
    /// Another endpoint for all services (the simulated cloud).
    pub endpoint: Option<String>,
    /// CloudWatch log group that the agents upload to where there is no `server.public_url`. Default `/drover`. It keeps
    /// what hooks print, unmasked; its retention is yours to set.
    pub log_group: String,
    /// How much of the account's own limits on requests the daemon takes at most, for all its deployments together, in per
    /// cent. Default 30. More than 100 is for the simulated cloud, whose time runs faster.
    pub call_budget: u32,
}

impl Default for Aws {
    fn default() -> Self {
        Aws { region: None, endpoint: None, log_group: "/drover".into(), call_budget: 30 }
    }
}
