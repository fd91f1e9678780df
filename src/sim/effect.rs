//! The effects that changes of the state leave behind, to be carried out once its lock is released.

use tokio_util::sync::CancellationToken;

use crate::sim::elb::Probe;

/// Something that is to be done outside the state.
#[derive(Debug)]
pub enum Effect {
    /// Start this instance's process tree.
    Launch(String),
    /// Kill this instance's process tree.
    Terminate(String),
    /// Reboot this instance.
    Reboot(String),
    /// Cut this instance's network.
    Cut(String),
    /// Restore this instance's network.
    Restore(String),
    /// Make a hook fail inside an instance.
    ArmFault {
        /// The instance.
        instance: String,
        /// Lifecycle event.
        event: String,
        /// Exit code.
        exit: i32,
        /// What the hook prints.
        message: String,
        /// How many times.
        times: u32,
    },
    /// Check a target's health.
    HealthCheck(Probe),
    /// End a target's open requests, because its deregistration delay is over.
    CloseTarget {
        /// The ARN of the target group.
        target_group: String,
        /// The instance.
        instance: String,
    },
    /// Serve a listener.
    Listen {
        /// The ARN of the target group behind it.
        target_group: String,
        /// The socket, bound and not yet accepting.
        listener: std::net::TcpListener,
    },
    /// Tell the agents that messages wait for them.
    WakeAgents,
    /// Run a command on a paper instance.
    RunOnPaper {
        /// The instance.
        instance: String,
        /// The command's id.
        command: String,
        /// Cancelled when the command is cancelled.
        cancelled: CancellationToken,
    },
}
