//! What an instance is made of, as the simulated cloud says it.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where and as whom the agent of an instance reports.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// The simulated cloud's base URL, `http://127.0.0.1:PORT`.
    pub url: String,
    /// The bearer token of its agent protocol.
    pub token: String,
}

/// What an instance is made of.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// The instance id, `i-…`.
    pub id: String,
    /// A directory for the instances' files; each makes one named by its id in it.
    pub data_dir: PathBuf,
    /// A script that runs once, at the first boot, before the agent starts.
    pub user_data: Option<String>,
    /// Environment of user-data and of the agent, and thereby of all that it runs.
    pub env: Vec<(String, String)>,
    /// Addresses of this machine that are reached from inside at the same address; the agent's is added.
    pub reach: Vec<SocketAddr>,
    /// The instance has this machine's network instead of one of its own.
    pub share_network: bool,
    /// The agent's service.
    pub agent: AgentSpec,
    /// What the agent's waits are divided by.
    pub time_scale: f64,
    /// The drover executable; None is this very process's.
    pub program: Option<PathBuf>,
}
