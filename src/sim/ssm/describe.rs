//! The calls that describe commands and agents. A command's output is shown only once it has ended, and truncated.

use serde_json::{Value, json};

use super::command::{Command, DOCUMENT, Details, Invocation, SHOWN_STDERR, SHOWN_STDOUT};
use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

/// How much of a plugin's output ListCommandInvocations shows, characters.
const PLUGIN_OUTPUT: usize = 2_500;

impl State {
    pub(super) fn command_json(&self, c: &Command) -> Value {
        let count = |test: &dyn Fn(&Invocation) -> bool| c.invocations.values().filter(|i| test(i)).count();
        let details = c.details();
        let status = match details {
            "ExecutionTimedOut" | "DeliveryTimedOut" => "TimedOut",
            "Undeliverable" => "Failed",
            other => other,
        };
        let by_targets = c.targets.as_array().is_some_and(|t| !t.is_empty());
        json!({
            "CommandId": c.id,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "Comment": c.comment,
            "ExpiresAfter": seconds(c.requested_ms + (c.timeout + c.execution_timeout) * 1000),
            "Parameters": c.parameters,
            "InstanceIds": if by_targets { Vec::new() } else { c.invocations.keys().collect::<Vec<_>>() },
            "Targets": c.targets,
            "RequestedDateTime": seconds(c.requested_ms),
            "Status": status,
            "StatusDetails": details,
            "OutputS3BucketName": "",
            "OutputS3KeyPrefix": "",
            "MaxConcurrency": c.max_concurrency,
            "MaxErrors": c.max_errors,
            "TargetCount": c.invocations.len(),
            "CompletedCount": count(&|i| i.details.is_over()),
            "ErrorCount": count(&|i| i.details == Details::Failed || i.details == Details::ExecutionTimedOut),
            "DeliveryTimedOutCount": count(&|i| i.details == Details::DeliveryTimedOut),
            "ServiceRole": "",
            "TimeoutSeconds": c.timeout,
            "CloudWatchOutputConfig": c.output,
        })
    }

    pub(super) fn list_commands(&mut self, p: Params<'_>) -> Answer {
        let now = self.clock.now();
        let filter = Filter::read(p)?;
        let (id, instance) = (p.str("CommandId"), p.str("InstanceId"));
        let found: Vec<Value> = self
            .commands
            .list
            .iter()
            .rev()
            .filter(|c| c.listed_at <= now && id.is_none_or(|id| id == c.id))
            .filter(|c| instance.is_none_or(|i| c.invocations.contains_key(i)))
            .filter(|c| filter.is_met_by(c, c.details()))
            .map(|c| self.command_json(c))
            .collect();
        let (page, next) = p.page(found, "NextToken", "MaxResults", (50, 50))?;
        Ok(json!({"Commands": page, "NextToken": next}))
    }

    pub(super) fn list_command_invocations(&mut self, p: Params<'_>) -> Answer {
        let now = self.clock.now();
        let filter = Filter::read(p)?;
        let (id, instance) = (p.str("CommandId"), p.str("InstanceId"));
        if let Some(id) = id
            && !is_uuid(id)
        {
            return Err(ApiError::refused("InvalidCommandId", ""));
        }
        let details = p.bool("Details").unwrap_or_default();
        let mut found = Vec::new();
        for c in self.commands.list.iter().rev().filter(|c| c.visible_at <= now) {
            if id.is_some_and(|id| id != c.id) {
                continue;
            }
            for (at, i) in &c.invocations {
                if instance.is_none_or(|wanted| wanted == at) && filter.is_met_by(c, i.details.name()) {
                    found.push(invocation_json(c, at, i, details));
                }
            }
        }
        let (page, next) = p.page(found, "NextToken", "MaxResults", (50, 50))?;
        Ok(json!({"CommandInvocations": page, "NextToken": next}))
    }

    pub(super) fn get_command_invocation(&mut self, p: Params<'_>) -> Answer {
        let now = self.clock.now();
        let (id, instance) = (p.need("CommandId")?, p.need("InstanceId")?);
        if let Some(plugin) = p.str("PluginName")
            && plugin != "aws:runShellScript"
        {
            return Err(ApiError::refused("InvalidPluginName", ""));
        }
        let missing = || ApiError::refused("InvocationDoesNotExist", "");
        let c = self.commands.get(id).filter(|c| c.visible_at <= now).ok_or_else(missing)?;
        let i = c.invocations.get(instance).ok_or_else(missing)?;
        let over = i.details.is_over();
        let elapsed = match (i.started, i.ended) {
            (Some(from), Some(to)) => format!("PT{:.3}S", (to - from) as f64 / 1000.0),
            _ => String::new(),
        };
        Ok(json!({
            "CommandId": c.id,
            "InstanceId": instance,
            "Comment": c.comment,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "PluginName": "aws:runShellScript",
            "ResponseCode": i.code,
            "ExecutionStartDateTime": i.started.map(iso).unwrap_or_default(),
            "ExecutionElapsedTime": elapsed,
            "ExecutionEndDateTime": i.ended.filter(|_| i.started.is_some()).map(iso).unwrap_or_default(),
            "Status": i.details.status(),
            "StatusDetails": i.details.name(),
            "StandardOutputContent": if over { truncate_output(&i.stdout, SHOWN_STDOUT) } else { String::new() },
            "StandardOutputUrl": "",
            "StandardErrorContent": if over { truncate_output(&i.stderr, SHOWN_STDERR) } else { String::new() },
            "StandardErrorUrl": "",
            "CloudWatchOutputConfig": c.output,
        }))
    }

    pub(super) fn describe_instance_information(&mut self, p: Params<'_>) -> Answer {
        let mut filters: Vec<(String, Vec<String>)> = Vec::new();
        for f in p.objects("Filters") {
            filters.push((f.need("Key")?.to_owned(), f.strings("Values")));
        }
        for f in p.objects("InstanceInformationFilterList") {
            let values = ["valueSet", "ValueSet"].iter().flat_map(|k| f.strings(k)).collect();
            filters.push((f.str("key").or(f.str("Key")).unwrap_or_default().to_owned(), values));
        }
        let found: Vec<Value> = self
            .instances
            .values()
            .filter(|i| i.lifecycle != Lifecycle::Terminated && (i.is_up() || !i.dead))
            .filter_map(|i| {
                let (_, last) = i.agent.last_ping?;
                let ping = if self.is_agent_online(i) { "Online" } else { "ConnectionLost" };
                let fits = filters.iter().all(|(key, values)| match key.as_str() {
                    "InstanceIds" => values.contains(&i.id),
                    "PingStatus" => values.iter().any(|v| v == ping),
                    "tag:aws:autoscaling:groupName" => values.contains(&i.group),
                    key => key.strip_prefix("tag:").is_none_or(|tag| {
                        let tags = self.groups.get(&i.group).map(|g| &g.tags);
                        tags.and_then(|t| t.get(tag))
                            .is_some_and(|t| t.propagate && values.contains(&t.value))
                    }),
                });
                fits.then(|| {
                    json!({
                        "InstanceId": i.id,
                        "PingStatus": ping,
                        "LastPingDateTime": seconds(last),
                        "AgentVersion": i.agent.version,
                        "IsLatestVersion": true,
                        "PlatformType": "Linux",
                        "PlatformName": i.agent.platform,
                        "PlatformVersion": "1",
                        "ResourceType": "EC2Instance",
                        "IPAddress": "127.0.0.1",
                        "ComputerName": i.id,
                        "SourceId": i.id,
                        "SourceType": "AWS::EC2::Instance",
                    })
                })
            })
            .collect();
        let (page, next) = p.page(found, "NextToken", "MaxResults", (50, 50))?;
        Ok(json!({"InstanceInformationList": page, "NextToken": next}))
    }
}

fn invocation_json(c: &Command, instance: &str, i: &Invocation, details: bool) -> Value {
    let mut plugins = Vec::new();
    if details {
        let output = match (i.details.is_over(), i.stderr.is_empty()) {
            (false, _) => String::new(),
            (true, true) => truncate_output(&i.stdout, PLUGIN_OUTPUT),
            (true, false) => {
                let both =
                    format!("{}\n----------ERROR-------\n{}", i.stdout.trim_end_matches('\n'), i.stderr);
                truncate_output(&both, PLUGIN_OUTPUT)
            }
        };
        plugins.push(json!({
            "Name": "aws:runShellScript",
            "Status": i.details.status(),
            "StatusDetails": i.details.name(),
            "ResponseCode": i.code,
            "ResponseStartDateTime": i.started.map(seconds),
            "ResponseFinishDateTime": i.ended.map(seconds),
            "Output": output,
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
        }));
    }
    json!({
        "CommandId": c.id,
        "InstanceId": instance,
        "InstanceName": "",
        "Comment": c.comment,
        "DocumentName": DOCUMENT,
        "DocumentVersion": "$DEFAULT",
        "RequestedDateTime": seconds(c.requested_ms),
        "Status": i.details.status(),
        "StatusDetails": i.details.name(),
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "CommandPlugins": plugins,
        "ServiceRole": "",
        "CloudWatchOutputConfig": c.output,
    })
}

/// The filters of ListCommands and ListCommandInvocations.
#[derive(Default)]
struct Filter {
    after: Option<i64>,
    before: Option<i64>,
    status: Option<String>,
    document: Option<String>,
}

impl Filter {
    fn read(p: Params<'_>) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        for f in p.objects("Filters") {
            let (key, value) = (f.need("key")?, f.need("value")?);
            let time = || {
                let at: Result<jiff::Timestamp, _> = value.parse();
                at.map(|t| t.as_millisecond())
                    .map_err(|_| ApiError::refused("InvalidFilterKey", format!("'{value}' is not a time")))
            };
            match key {
                "InvokedAfter" => filter.after = Some(time()?),
                "InvokedBefore" => filter.before = Some(time()?),
                "Status" => filter.status = Some(value.to_owned()),
                "DocumentName" => filter.document = Some(value.to_owned()),
                _ => {
                    return Err(ApiError::refused(
                        "InvalidFilterKey",
                        format!("'{key}' is not a valid filter key"),
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// Whether a command meets the filter.
    fn is_met_by(&self, c: &Command, details: &str) -> bool {
        self.after.is_none_or(|t| c.requested_ms >= t)
            && self.before.is_none_or(|t| c.requested_ms < t)
            && self
                .status
                .as_deref()
                .is_none_or(|s| s == details || (s == "TimedOut" && details.ends_with("TimedOut")))
            && self.document.as_deref().is_none_or(|d| d == DOCUMENT)
    }
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|t| format!("{t:.3}")).unwrap_or_default()
}

/// Returns the first `most` characters, with the service's own mark where something was cut off.
pub(super) fn truncate_output(text: &str, most: usize) -> String {
    const MARK: &str = "\n---Output truncated---";
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - MARK.len()).chain(MARK.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_to_its_first_characters() {
        assert_eq!(truncate_output("abc", 3), "abc");
        let cut = truncate_output(&"x".repeat(3000), PLUGIN_OUTPUT);
        assert_eq!(cut.chars().count(), PLUGIN_OUTPUT);
        assert!(cut.starts_with("xxx") && cut.ends_with("---Output truncated---"));
    }
}
