//! Systems Manager Run Command.

use super::{Fleet, Result, list::NonEmpty, malformed, more};
use aws_sdk_ssm::operation::list_command_invocations::builders::ListCommandInvocationsFluentBuilder;
use aws_sdk_ssm::types::{
    CloudWatchOutputConfig, CommandFilter, CommandFilterKey, InstanceInformationStringFilter,
};
use jiff::{SignedDuration, Timestamp};

/// AWS's own document that runs a shell script.
pub const DOCUMENT: &str = "AWS-RunShellScript";

/// AWS's clock and ours differ by less.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// How long delivery may take, seconds: AWS's smallest is 30.
const DELIVERY_SECONDS: i32 = 60;

/// One instance's share of a command.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Instance id.
    pub instance: String,
    /// `Success`, `DeliveryTimedOut` … lower case, without spaces.
    pub status: String,
    /// What it printed: the first 2,500 characters.
    pub output: String,
    /// Its exit code, once it has ended by itself.
    pub response_code: Option<i32>,
}

impl Invocation {
    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        !["pending", "inprogress", "delayed", "cancelling"].contains(&self.status.as_str())
    }
}

/// Commands sent since then, by AWS's clock.
fn invoked_after(action: &'static str, since: Timestamp) -> Result<CommandFilter> {
    let since = since - CLOCKS_DIFFER;
    filter(action, CommandFilterKey::InvokedAfter, since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn filter(action: &'static str, key: CommandFilterKey, value: String) -> Result<CommandFilter> {
    CommandFilter::builder().key(key).value(value).build().map_err(|e| malformed(action, &e))
}

impl Fleet {
    /// Sends a script to at most 50 instances, once. `comment` (at most 100 characters) is how it is found again. What
    /// it prints is uploaded to `log_group` while it runs.
    pub async fn send_command(
        &self,
        instances: NonEmpty<'_, String>,
        script: &str,
        comment: &str,
        execution_seconds: i64,
        log_group: Option<&str>,
    ) -> Result<String> {
        // Outside 5–172800 the agent silently takes 3600.
        let execution = execution_seconds.clamp(5, 172_800).to_string();
        let call = self
            .ssm_once
            .send_command()
            .document_name(DOCUMENT)
            .set_instance_ids(instances.parameter())
            .parameters("commands", vec![script.to_owned()])
            .parameters("executionTimeout", vec![execution])
            .comment(comment)
            .timeout_seconds(DELIVERY_SECONDS)
            // AWS's default of zero errors would end the rest after one failure.
            .max_errors("100%")
            .max_concurrency("100%")
            .set_cloud_watch_output_config(log_group.map(|group| {
                CloudWatchOutputConfig::builder()
                    .cloud_watch_log_group_name(group)
                    .cloud_watch_output_enabled(true)
                    .build()
            }));
        let answer = self.call("SendCommand", call.send()).await?;
        Ok(answer.command().and_then(|command| command.command_id()).unwrap_or_default().to_owned())
    }

    /// `(comment, command id)` of all commands sent since then.
    pub async fn commands_since(&self, since: Timestamp) -> Result<Vec<(String, String)>> {
        let action = "ListCommands";
        let ours = filter(action, CommandFilterKey::DocumentName, DOCUMENT.to_owned())?;
        let call = self.ssm.list_commands().filters(invoked_after(action, since)?).filters(ours);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = self.call("ListCommands", call.clone().set_next_token(token).send()).await?;
            found.extend(page.commands().iter().map(|command| {
                (
                    command.comment().unwrap_or_default().to_owned(),
                    command.command_id().unwrap_or_default().to_owned(),
                )
            }));
            token = more(page.next_token());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// How a command goes on each of its instances; empty for a moment right after it was sent.
    pub async fn invocations(&self, command: &str) -> Result<Vec<Invocation>> {
        let call = self.ssm.list_command_invocations().command_id(command);
        Ok(self.list_invocations(call).await?.into_iter().map(|(_, invocation)| invocation).collect())
    }

    /// How all commands since then go, each with its command's id: one listing, whatever their number.
    pub async fn invocations_since(&self, since: Timestamp) -> Result<Vec<(String, Invocation)>> {
        let lately = invoked_after("ListCommandInvocations", since)?;
        self.list_invocations(self.ssm.list_command_invocations().filters(lately)).await
    }

    async fn list_invocations(
        &self,
        call: ListCommandInvocationsFluentBuilder,
    ) -> Result<Vec<(String, Invocation)>> {
        let call = call.details(true).max_results(50);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = self.call("ListCommandInvocations", call.clone().set_next_token(token).send()).await?;
            found.extend(page.command_invocations().iter().map(|invocation| {
                let status = invocation.status_details().unwrap_or_default();
                let command = invocation.command_id().unwrap_or_default().to_owned();
                let invocation = Invocation {
                    instance: invocation.instance_id().unwrap_or_default().to_owned(),
                    status: status.replace(' ', "").to_lowercase(),
                    response_code: invocation
                        .command_plugins()
                        .iter()
                        .find(|plugin| plugin.response_finish_date_time().is_some())
                        .map(|plugin| plugin.response_code()),
                    output: invocation.command_plugins().iter().filter_map(|p| p.output()).collect(),
                };
                (command, invocation)
            }));
            token = more(page.next_token());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Whether each of these instances' agents was heard of lately: `(instance, online)`; unknown ones are missing.
    pub async fn agents(&self, instances: &[String]) -> Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        let Some(instances) = NonEmpty::of(instances) else { return Ok(found) };
        // At most 100 values in one filter.
        for some in instances.pieces(50) {
            let filter = InstanceInformationStringFilter::builder()
                .key("InstanceIds")
                .set_values(some.parameter())
                .build();
            let filter = filter.map_err(|e| malformed("DescribeInstanceInformation", &e))?;
            let call = self.ssm.describe_instance_information().filters(filter).max_results(50);
            let mut token = None;
            loop {
                let page = call.clone().set_next_token(token).send();
                let page = self.call("DescribeInstanceInformation", page).await?;
                found.extend(page.instance_information_list().iter().map(|agent| {
                    let online = agent.ping_status().is_some_and(|status| status.as_str() == "Online");
                    (agent.instance_id().unwrap_or_default().to_owned(), online)
                }));
                token = more(page.next_token());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }
}
