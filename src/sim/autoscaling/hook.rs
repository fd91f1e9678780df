//! Lifecycle hooks: what a group keeps of them, and how a call's parameters describe one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::lifecycle_action::ActionResult;
use crate::sim::wire::{ApiError, Params};

/// The most hooks that a group may have.
pub(super) const MOST_HOOKS: usize = 50;
/// The transition at which hooks hold new instances.
pub(super) const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
/// The transition at which hooks would hold instances on their way out.
pub(super) const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// A hook on launches in the world description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSpec {
    /// Its name.
    pub name: String,
    /// Seconds, 30–7200; 3600 by default.
    #[serde(default)]
    pub heartbeat_timeout: Option<i64>,
    /// `CONTINUE` or `ABANDON` (default).
    #[serde(default)]
    pub default_result: Option<String>,
}

impl HookSpec {
    /// Returns the parameters of the PutLifecycleHook call that would make this hook.
    pub(super) fn as_call(&self) -> Value {
        json!({
            "LifecycleHookName": self.name,
            "LifecycleTransition": LAUNCHING,
            "HeartbeatTimeout": self.heartbeat_timeout,
            "DefaultResult": self.default_result,
        })
    }
}

/// A lifecycle hook of a group.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Whether it holds launches; a hook on terminations does nothing.
    pub launching: bool,
    /// HeartbeatTimeout, seconds.
    pub heartbeat: i64,
    /// The result of its actions that nobody completes.
    pub default: ActionResult,
    target: Option<String>,
    role: Option<String>,
    metadata: Option<String>,
}

impl Hook {
    /// Reads a hook from the parameters of a call; what is absent stays as it was `before`.
    pub(super) fn read(p: Params<'_>, before: Option<&Self>) -> Result<Self, ApiError> {
        let launching = match (p.str("LifecycleTransition"), before) {
            (Some(LAUNCHING), _) => true,
            (Some(TERMINATING), _) => false,
            (Some(other), _) => {
                return Err(p.error(format!(
                    "'{other}' is no lifecycle transition: use {LAUNCHING} or {TERMINATING}"
                )));
            }
            (None, Some(hook)) => hook.launching,
            (None, None) => return Err(p.need("LifecycleTransition").unwrap_err()),
        };
        let heartbeat = p.int_in("HeartbeatTimeout", 30..=7200)?;
        let default = p.str("DefaultResult").map(|_| ActionResult::read(p, "DefaultResult")).transpose()?;
        let text = |name: &str, old: Option<&String>| match p.get(name).and_then(Value::as_str) {
            Some(new) => (!new.is_empty()).then(|| new.to_owned()),
            None => old.cloned(),
        };
        Ok(Self {
            launching,
            heartbeat: heartbeat.or(before.map(|b| b.heartbeat)).unwrap_or(3600),
            default: default.or(before.map(|b| b.default)).unwrap_or(ActionResult::Abandon),
            target: text("NotificationTargetARN", before.and_then(|b| b.target.as_ref())),
            role: text("RoleARN", before.and_then(|b| b.role.as_ref())),
            metadata: text("NotificationMetadata", before.and_then(|b| b.metadata.as_ref())),
        })
    }

    /// Returns the longest time that its heartbeats can hold an instance, in seconds: 48 hours or 100 time-outs, whichever
    /// is less.
    pub fn global_timeout(&self) -> i64 {
        (100 * self.heartbeat).min(48 * 3600)
    }

    /// Describes the hook as AWS does.
    pub(super) fn json(&self, group: &str, name: &str) -> Value {
        json!({
            "LifecycleHookName": name,
            "AutoScalingGroupName": group,
            "LifecycleTransition": if self.launching { LAUNCHING } else { TERMINATING },
            "NotificationTargetARN": self.target,
            "RoleARN": self.role,
            "NotificationMetadata": self.metadata,
            "HeartbeatTimeout": self.heartbeat,
            "GlobalTimeout": self.global_timeout(),
            "DefaultResult": self.default.name(),
        })
    }
}

/// Reads the hooks that a new group is given, by name.
pub(super) fn read_hooks(specs: &[Params<'_>]) -> Result<BTreeMap<String, Hook>, ApiError> {
    if specs.len() > MOST_HOOKS {
        return Err(too_many_hooks());
    }
    specs.iter().map(|p| Ok((read_hook_name(*p)?, Hook::read(*p, None)?))).collect()
}

/// Reads and checks the name in `LifecycleHookName`.
pub(super) fn read_hook_name(p: Params<'_>) -> Result<String, ApiError> {
    let name = p.need("LifecycleHookName")?;
    let constraint = if name.len() > 255 {
        "Member must have length less than or equal to 255"
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_/".contains(c)) {
        "Member must satisfy regular expression pattern: [A-Za-z0-9\\-_\\/]+"
    } else {
        return Ok(name.to_owned());
    };
    Err(p.error(format!(
        "1 validation error detected: Value '{name}' at 'lifecycleHookName' failed to satisfy constraint: {constraint}"
    )))
}

/// Makes the error that a group would have too many hooks.
pub(super) fn too_many_hooks() -> ApiError {
    ApiError::refused(
        "LimitExceeded",
        format!("An AutoScalingGroup can have at most {MOST_HOOKS} lifecycle hooks."),
    )
}
