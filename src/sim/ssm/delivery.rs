//! What the passing of time does to commands: delivery within MaxConcurrency and MaxErrors, and the time-outs.

use serde_json::json;

use super::agent_link::Message;
use super::command::Details;
use crate::sim::state::{Effect, State};

impl State {
    /// Delivers the commands under way as far as their limits allow, and ends those whose time is over.
    pub fn tick_commands(&mut self) {
        let now = self.clock.now();
        let ms = self.clock.unix_ms();
        let mut deliver: Vec<(String, String, std::time::Instant)> = Vec::new();
        let mut expired: Vec<(String, String)> = Vec::new();
        for command in self.commands.list.iter_mut().filter(|c| !c.is_over()) {
            let total = command.invocations.len();
            let most = share(&command.max_concurrency, total).max(1);
            let bearable = share(&command.max_errors, total);
            let errors = command.invocations.values().filter(|i| i.details.is_error()).count();
            let mut under_way =
                command.invocations.values().filter(|i| i.sent && !i.details.is_over()).count();
            let delivery_ends = command.requested + self.clock.wait(command.timeout as f64);
            let all_ends = delivery_ends + self.clock.wait(command.execution_timeout as f64);
            for (instance, invocation) in &mut command.invocations {
                if invocation.details.is_over() {
                    continue;
                }
                if (!invocation.delivered && now >= delivery_ends) || now >= all_ends {
                    invocation.details = Details::DeliveryTimedOut;
                    invocation.ended = Some(ms);
                    expired.push((instance.clone(), command.id.clone()));
                } else if !invocation.sent && errors > bearable {
                    invocation.details = Details::Terminated;
                    invocation.ended = Some(ms);
                } else if !invocation.sent && under_way < most {
                    invocation.sent = true;
                    under_way += 1;
                    deliver.push((instance.clone(), command.id.clone(), invocation.deliver_at));
                }
            }
        }
        for (instance, command) in expired {
            self.withdraw_command(&instance, &command);
            let detail = json!({"command_id": command, "status": "DeliveryTimedOut"});
            self.events.push(&instance, "command-ended", detail);
        }
        if !deliver.is_empty() {
            self.effects.push(Effect::WakeAgents);
        }
        for (instance, command, visible_at) in deliver {
            let message =
                Message { id: self.random_uuid(), command, cancel: false, visible_at, leased_until: None };
            if let Some(instance) = self.instances.get_mut(&instance) {
                instance.agent.queue.push_back(message);
            }
        }
    }

    /// Withdraws the messages of a command that an agent hasn't acknowledged.
    pub(super) fn withdraw_command(&mut self, instance: &str, command: &str) {
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.agent.queue.retain(|m| m.command != command);
        }
    }
}

/// Returns how many of `total` a text such as `"50"` or `"100%"` means; a percentage is rounded down.
fn share(text: &str, total: usize) -> usize {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse::<usize>().unwrap_or(0) * total / 100,
        None => text.parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_are_numbers_or_percentages() {
        assert_eq!((share("50", 3), share("100%", 7), share("10%", 9), share("0", 4)), (50, 7, 0, 0));
    }
}
