//! CloudWatch Logs: where Systems Manager's agent uploads what a command writes, while it runs.

use super::{Fleet, Kind, Result, failed};

/// A stream is read in pages of at most 1 MB; so many at one go.
const PAGES: usize = 20;

/// What came since the last time.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The events' messages, in order.
    pub messages: Vec<String>,
    /// Where to go on; none as long as there is no stream.
    pub token: Option<String>,
}

impl Fleet {
    /// Makes a log group; one that is there already is left as it is.
    pub async fn create_log_group(&self, name: &str) -> Result<()> {
        let call = self.logs.create_log_group().log_group_name(name);
        match call.send().await.map_err(failed("CreateLogGroup")) {
            Err(error) if error.code != "ResourceAlreadyExistsException" => Err(error),
            _ => Ok(()),
        }
    }

    /// What an instance's command wrote to its standard output, after `token`.
    pub async fn command_output(
        &self,
        group: &str,
        command: &str,
        instance: &str,
        token: Option<String>,
    ) -> Result<Read> {
        let stream = format!("{command}/{instance}/aws-runShellScript/stdout");
        let mut read = Read { messages: Vec::new(), token };
        for _ in 0..PAGES {
            let call = self
                .logs
                .get_log_events()
                .log_group_name(group)
                .log_stream_name(&stream)
                .start_from_head(true)
                .set_next_token(read.token.clone());
            let page = match call.send().await.map_err(failed("GetLogEvents")) {
                Ok(page) => page,
                // The stream is made with the first line.
                Err(error) if error.code == "ResourceNotFoundException" => return Ok(read),
                // What was read so far is kept; the rest comes the next time.
                Err(error) if error.kind == Kind::Throttled && !read.messages.is_empty() => return Ok(read),
                Err(error) => return Err(error),
            };
            read.messages.extend(page.events().iter().filter_map(|event| event.message().map(str::to_owned)));
            // An empty page is not the end: the same token again is.
            let next = page.next_forward_token().map(str::to_owned);
            if next == read.token || next.is_none() {
                return Ok(read);
            }
            read.token = next;
        }
        Ok(read)
    }
}
