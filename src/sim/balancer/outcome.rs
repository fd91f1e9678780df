//! What the balancer asks for each request and tells about it: the target it goes to, and how it ended.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::sim::instance::Host;

/// The target that a request goes to.
#[derive(Clone)]
pub struct Picked {
    /// The instance's id.
    pub instance_id: String,
    /// The instance's processes; `None` where they are gone and the target isn't unhealthy yet.
    pub host: Option<Arc<Host>>,
    /// The port the target group sends to.
    pub port: u16,
}

/// Chooses the target of each request and records how the request ended.
pub trait Targets: Send + Sync + 'static {
    /// Returns the target of a new request, never a draining one; `None` where the target group has none to send to.
    fn pick(&self) -> Option<Picked>;
    /// Records the outcome of a request; called once for each, when it has ended.
    fn record(&self, outcome: Outcome);
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The whole response went to the client, or the balancer's own error did.
    Complete,
    /// The target broke off within the response, or dropped a WebSocket's connection.
    TargetBroke,
    /// The request was still going on when its target's deregistration delay ended.
    Deregistered,
    /// Neither side sent anything for the length of the idle time-out.
    Idle,
    /// The client went away before the end.
    ClientLeft,
}

/// The outcome of one request.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The target; `None` where there was none to send to.
    pub instance_id: Option<String>,
    /// The request's method.
    pub method: String,
    /// The request's path without its query.
    pub path: String,
    /// The status that the client got; 0 where it left before there was one.
    pub status: u16,
    /// Why the balancer answered by itself (502, 503 or 504); `None` where the status is the target's.
    pub balancer_error: Option<String>,
    /// Whether the connection became a tunnel (WebSocket).
    pub upgraded: bool,
    /// How it ended.
    pub ended: Ended,
    /// Milliseconds from its arrival to its end.
    pub millis: u64,
}

/// What a balancer has counted since it began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Requests received, those in flight included.
    pub requests: u64,
    /// Answers 502, 503 and 504 made by the balancer itself.
    pub balancer_5xx: u64,
    /// Statuses of 500 and above that came from targets.
    pub target_5xx: u64,
    /// Responses that a target broke off.
    pub broken: u64,
    /// Requests cut at the end of a deregistration delay.
    pub deregistered: u64,
    /// Requests by instance id, those in flight included.
    pub by_target: HashMap<String, u64>,
}
