//! Paper instances: instances without namespaces and without processes, for fleets of thousands.
//!
//! Auto Scaling, the balancer and Systems Manager treat them as they treat the others. A paper instance's agent acts within
//! the cloud's own tick: it says that it is there, takes commands (five that run, five more that wait), acknowledges them and
//! replies. It runs drover's scripts alone, and only what shows outside of the host: the decision on the attempt (run,
//! refused, busy, repeated …), hooks that take their time, print lines and may fail, the push of the log to the daemon or to
//! CloudWatch Logs, the result line and the exit code. Any other command fails with 127.
//!
//! An idle one is a few KB of state and no task; a command that runs is one task, a log that is being pushed another.
//!
//! # Where it does less than a real instance
//! - It downloads no bundle: the time that one takes passes, and the release is there. Files, permissions and secrets are
//!   neither written nor read, and hooks never ask for a reboot.
//! - Health checks pass without a request, as long as the instance runs and neither its network is cut nor a fault is on it.
//!   It serves nothing: the balancer answers 502 for it.
//! - Its log is pushed once a second, as the runner does it with wget, and all instances share one HTTP client that has at
//!   most `uplink::REQUESTS` requests under way.
//! - A hook whose command is cancelled or timed out ends with it; a real one would go on.
//! - It remembers only the newest `machine::ATTEMPTS` attempts.

mod attempt;
mod chance;
mod command;
mod decide;
mod hooks;
mod lookup;
mod machine;
mod orders;
mod output;
mod papers;
mod pattern;
mod push;
mod tick;
mod uplink;
mod uploads;
mod world;

pub(super) use command::run_command;
pub use machine::Machine;
pub use papers::Papers;
pub use pattern::Pattern;
pub use uplink::Uplink;
pub use world::{GROUP, world};

#[cfg(test)]
mod tests;
