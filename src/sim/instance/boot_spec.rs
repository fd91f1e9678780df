//! What the processes of an instance are told about it at each boot, and the addresses and ports that follow from how far
//! it is isolated.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// How far an instance is set apart from the machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Isolation {
    /// Namespaces, made as root.
    Root,
    /// Namespaces, made through a user namespace: only one user id exists inside.
    User,
    /// A plain folder and a loopback address.
    Plain,
}

/// What pid 1 of an instance needs to know.
///
/// The launcher and pid 1 get it as JSON in the environment variable `DROVER_SIM_BOOT`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BootSpec {
    pub id: String,
    pub isolation: Isolation,
    /// The instance's root directory as seen before it becomes `/`.
    pub root: PathBuf,
    pub address: Ipv4Addr,
    /// Whether the instance has the machine's own network.
    pub share_network: bool,
    /// Whether this is the first boot: user-data runs then, and never again.
    pub first: bool,
    pub user_data: Option<String>,
    pub env: Vec<(String, String)>,
    pub agent_url: String,
    pub agent_token: String,
    pub time_scale: f64,
}

impl BootSpec {
    /// Reads the specification that this process was started with.
    pub(super) fn from_environment() -> anyhow::Result<BootSpec> {
        let spec = std::env::var("DROVER_SIM_BOOT").context("read the boot specification")?;
        serde_json::from_str(&spec).context("read the boot specification")
    }
}

/// Returns the port that stands for this one in a plain folder, where an unprivileged process can't listen on low ports.
pub(super) fn plain_port(port: u16) -> u16 {
    if port < 1024 { port + 8000 } else { port }
}

/// Returns an address made from the instance id: 10.x.y.z inside a network of its own, 127.x.y.z without one.
pub(super) fn private_address(id: &str, isolation: Isolation, share_network: bool) -> Ipv4Addr {
    // FNV-1a: any spread will do, as long as it is the same at every boot.
    let hash =
        id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, b, c, d] = hash.to_be_bytes();
    match isolation {
        Isolation::Root | Isolation::User if !share_network => Ipv4Addr::new(10, b, c, d.clamp(2, 254)),
        _ => Ipv4Addr::new(127, b | 1, c, d.clamp(2, 254)),
    }
}
