//! CloudWatch Logs: where Systems Manager's agent uploads what a command writes, while it runs.

use super::{Fleet, Result};

/// A page of a stream: at most 1 MB.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events' messages, in order.
    pub messages: Vec<String>,
    /// Where to go on; none as long as there is no stream.
    pub token: Option<String>,
    /// There may be more already.
    pub more: bool,
}

impl Fleet {
    /// Makes a log group; one that is there already is left as it is.
    pub async fn create_log_group(&self, name: &str) -> Result<()> {
        let call = self.logs.create_log_group().log_group_name(name);
        match self.call("CreateLogGroup", call.send()).await {
            Err(error) if error.code != "ResourceAlreadyExistsException" => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a log group may be read; that there is none is no reason why not.
    pub async fn may_read(&self, group: &str) -> Result<()> {
        self.command_output(group, "no-command", "no-instance", None).await.map(drop)
    }

    /// What an instance's command wrote to its standard output, after `token`: one call, one page.
    pub async fn command_output(
        &self,
        group: &str,
        command: &str,
        instance: &str,
        token: Option<String>,
    ) -> Result<Page> {
        let call = self
            .logs
            .get_log_events()
            .log_group_name(group)
            .log_stream_name(output_stream(command, instance))
            .start_from_head(true)
            .set_next_token(token.clone());
        let page = match self.call("GetLogEvents", call.send()).await {
            Ok(page) => page,
            // The stream is made with the first line.
            Err(error) if error.code == "ResourceNotFoundException" => {
                return Ok(Page { token, ..Page::default() });
            }
            Err(error) => return Err(error),
        };
        let messages = page.events().iter().filter_map(|event| event.message().map(str::to_owned)).collect();
        // An empty page is not the end: the same token again is.
        let next = page.next_forward_token().map(str::to_owned);
        Ok(Page { messages, more: next.is_some() && next != token, token: next.or(token) })
    }
}

/// The stream to which the agent uploads a command's standard output.
pub fn output_stream(command: &str, instance: &str) -> String {
    format!("{command}/{instance}/aws-runShellScript/stdout")
}
