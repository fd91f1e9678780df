//! What the service knows of an instance's agent, and the messages that wait for it.

use std::collections::VecDeque;
use std::time::Instant;

/// A message that waits for an agent.
#[derive(Clone, Debug)]
pub struct Message {
    pub(super) id: String,
    /// The command's id.
    pub(super) command: String,
    /// Whether it cancels the command instead of running it.
    pub(super) cancel: bool,
    /// When it reaches the agent at the earliest.
    pub(super) visible_at: Instant,
    /// Until when the agent, which has it, may acknowledge it before it is delivered again.
    pub(super) leased_until: Option<Instant>,
}

impl Message {
    /// Whether the agent is to get the message now: it is not on its way already.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.visible_at <= now && self.leased_until.is_none_or(|until| until <= now)
    }
}

/// The service's connection to an instance's agent, and what it knows of it.
#[derive(Debug, Default)]
pub struct AgentLink {
    /// When it was last heard, if ever: the moment, and milliseconds since the Unix epoch.
    pub last_ping: Option<(Instant, i64)>,
    /// Until when it can't reach the service, if a fault keeps it offline.
    pub offline_until: Option<Instant>,
    pub(super) version: String,
    pub(super) platform: String,
    pub(super) queue: VecDeque<Message>,
}

impl AgentLink {
    /// Whether a message waits for the agent.
    pub fn has_message(&self, now: Instant) -> bool {
        self.queue.iter().any(|message| message.is_due(now))
    }
}
