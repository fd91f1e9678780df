//! Simulated instances: a process tree in pid, mount, network, uts and ipc namespaces of its own, with an agent
//! inside that runs what Systems Manager's agent would run. It must not import anything of the daemon.
//!
//! Three processes of this same binary make an instance. The *keeper* holds the file system (a tmpfs with overlays
//! over the machine's own directories) so that a reboot keeps it; for each boot a *launcher* makes the other
//! namespaces, and its child is *pid 1*. All die when the simulated cloud does: each sees its control socket close.
//! As root the namespaces are made directly, else through a user namespace; where neither is allowed an instance is a
//! plain folder with a loopback address. What is missing then is said by [`Host::limits`].

pub(super) mod agent;
mod boot;
mod boot_spec;
mod devices;
mod exec;
mod host;
mod init;
mod keeper;
mod machine;
mod netlink;
mod processes;
mod reach;
mod rootfs;
mod spec;
mod stream;
mod subcommand;
mod wire;

pub use exec::Executed;
pub use host::Host;
pub use spec::{AgentSpec, HostSpec};
pub use stream::Stream;
pub use subcommand::hidden_subcommand;
