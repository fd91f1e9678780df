//! The calls SendCommand and CancelCommand with their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::agent_link::Message;
use super::command::{Command, DOCUMENT, Details, Invocation};
use crate::sim::account::ACCOUNT;
use crate::sim::faults::Kind;
use crate::sim::state::{Effect, Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

/// The document's own limits for executionTimeout, seconds; anything else silently becomes an hour.
const EXECUTION_TIMEOUT: std::ops::RangeInclusive<i64> = 5..=172_800;

impl State {
    pub(super) fn send_command(&mut self, p: Params<'_>) -> Answer {
        let document = p.need("DocumentName")?;
        if document != DOCUMENT {
            return Err(ApiError::refused(
                "InvalidDocument",
                format!("document '{document}' does not exist"),
            ));
        }
        let ids = p.strings("InstanceIds");
        let targets = p.get("Targets").cloned().unwrap_or_else(|| json!([]));
        if ids.len() > 50 {
            return Err(p.error(format!(
                "1 validation error detected: Value '[{}]' at 'instanceIds' failed to satisfy constraint: Member must \
                 have length less than or equal to 50",
                ids.join(", ")
            )));
        }
        if ids.is_empty() && p.objects("Targets").is_empty() {
            return Err(p.error("Either InstanceIds or Targets must be specified"));
        }
        let comment = p.str("Comment").unwrap_or_default();
        if comment.chars().count() > 100 {
            return Err(p.error(
                "1 validation error detected: Value at 'comment' failed to satisfy constraint: Member must have length \
                 less than or equal to 100",
            ));
        }
        let timeout = p.int_in("TimeoutSeconds", 30..=2_592_000)?.unwrap_or(3600);
        let parameters = p.get("Parameters").cloned().unwrap_or_else(|| json!({}));
        let commands = strings(&parameters["commands"]);
        if commands.is_empty() {
            return Err(ApiError::refused("InvalidParameters", "parameter 'commands' is required"));
        }
        let size = serde_json::to_string(&parameters).map_or(0, |s| s.len());
        if size > 65_536 {
            return Err(ApiError::refused(
                "MaxDocumentSizeExceeded",
                format!("the document has {size} bytes, at most 65536"),
            ));
        }
        let execution_timeout = strings(&parameters["executionTimeout"])
            .first()
            .and_then(|s| s.parse().ok())
            .filter(|n| EXECUTION_TIMEOUT.contains(n))
            .unwrap_or(3600);
        let max_concurrency = p.str("MaxConcurrency").unwrap_or("50").to_owned();
        let max_errors = p.str("MaxErrors").unwrap_or("0").to_owned();
        for (name, value) in [("maxConcurrency", &max_concurrency), ("maxErrors", &max_errors)] {
            let number = value.strip_suffix('%').unwrap_or(value).parse::<u32>();
            if number.is_err() || (name == "maxConcurrency" && number == Ok(0)) {
                return Err(p.error(format!("Value '{value}' at '{name}' failed to satisfy constraint")));
            }
        }
        let ids = if ids.is_empty() { self.targeted_instances(p)? } else { ids };
        let unfit: Vec<&String> = ids.iter().filter(|id| !self.can_be_commanded(id)).collect();
        let struck =
            self.faults.strike(&[Kind::InvalidInstance], "SendCommand", &ids, &mut self.chance).is_some();
        if struck || !unfit.is_empty() {
            let named = if unfit.is_empty() { ids.iter().collect() } else { unfit };
            let named = named.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("Instances [[{named}]] not in a valid state for account {ACCOUNT}");
            return Err(ApiError::refused("InvalidInstanceId", message));
        }

        let now = self.clock.now();
        let id = self.random_uuid();
        let mut invocations = BTreeMap::new();
        for instance in ids {
            let only = [instance.clone()];
            let delay = self.faults.strike(&[Kind::DeliveryDelay], "SendCommand", &only, &mut self.chance);
            let delay = self.clock.wait(0.1 + delay.and_then(|f| f.seconds).unwrap_or(0.0));
            let lost = self.faults.strike(&[Kind::Undeliverable], "SendCommand", &only, &mut self.chance);
            let invocation = Invocation {
                details: if lost.is_some() { Details::Undeliverable } else { Details::Pending },
                code: -1,
                stdout: String::new(),
                stderr: String::new(),
                started: None,
                ended: None,
                deliver_at: now + delay,
                sent: false,
                delivered: false,
            };
            invocations.insert(instance, invocation);
        }
        let visible_at = now + self.clock.wait_at_least(0.3, Duration::from_millis(50));
        let named: Vec<String> = invocations.keys().cloned().collect();
        let hidden = self.faults.strike(&[Kind::DelayVisibility], "SendCommand", &named, &mut self.chance);
        let hidden = self.clock.wait(hidden.and_then(|f| f.seconds).unwrap_or(0.0));
        self.commands.list.push(Command {
            id: id.clone(),
            comment: comment.to_owned(),
            parameters,
            commands,
            timeout,
            execution_timeout,
            max_concurrency,
            max_errors,
            output: p.get("CloudWatchOutputConfig").cloned().unwrap_or(Value::Null),
            targets,
            requested: now,
            requested_ms: self.clock.unix_ms(),
            listed_at: visible_at + hidden,
            visible_at,
            invocations,
        });
        let command = self.commands.list.last().map(|c| self.command_json(c)).unwrap_or_default();
        self.tick_commands();
        Ok(json!({"Command": command}))
    }

    /// Whether SendCommand accepts this instance: it is known, running, and its agent was heard at least once.
    fn can_be_commanded(&self, id: &str) -> bool {
        self.instances
            .get(id)
            .is_some_and(|i| !i.dead && i.lifecycle != Lifecycle::Terminated && i.agent.last_ping.is_some())
    }

    /// Returns the instances that `Targets` selects.
    fn targeted_instances(&self, p: Params<'_>) -> Result<Vec<String>, ApiError> {
        let mut ids: Vec<String> =
            self.instances.keys().filter(|id| self.can_be_commanded(id)).cloned().collect();
        for target in p.objects("Targets") {
            let key = target.need("Key")?;
            let values = target.strings("Values");
            ids.retain(|id| {
                let group = &self.instances[id].group;
                match key.strip_prefix("tag:") {
                    Some("aws:autoscaling:groupName") => values.contains(group),
                    Some(tag) => self
                        .groups
                        .get(group)
                        .and_then(|g| g.tags.get(tag))
                        .is_some_and(|t| t.propagate && values.contains(&t.value)),
                    None => key.eq_ignore_ascii_case("InstanceIds") && values.contains(id),
                }
            });
        }
        Ok(ids)
    }

    pub(super) fn cancel_command(&mut self, p: Params<'_>) -> Answer {
        let id = p.need("CommandId")?.to_owned();
        let only = p.strings("InstanceIds");
        let now = self.clock.now();
        let ms = self.clock.unix_ms();
        let Some(command) = self.commands.get(&id) else {
            return Err(ApiError::refused("InvalidCommandId", ""));
        };
        let mut tell = Vec::new();
        let mut withdraw = Vec::new();
        for (instance, invocation) in &mut command.invocations {
            if invocation.details.is_over() || !(only.is_empty() || only.contains(instance)) {
                continue;
            }
            if invocation.delivered {
                invocation.details = Details::Cancelling;
                tell.push(instance.clone());
            } else {
                invocation.details = Details::Cancelled;
                invocation.ended = Some(ms);
                withdraw.push(instance.clone());
            }
        }
        for instance in withdraw {
            self.withdraw_command(&instance, &id);
        }
        for instance in tell {
            let message = Message {
                id: self.random_uuid(),
                command: id.clone(),
                cancel: true,
                visible_at: now,
                leased_until: None,
            };
            if let Some(instance) = self.instances.get_mut(&instance) {
                instance.agent.queue.push_back(message);
            }
        }
        self.effects.push(Effect::WakeAgents);
        Ok(json!({}))
    }
}

/// Reads a list of texts.
fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
        .unwrap_or_default()
}
