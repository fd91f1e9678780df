//! What agents upload of a command's output while it runs.

use serde::Serialize;

use super::log_groups::{Event, Group, Stream};
use crate::sim::account::{ACCOUNT, REGION};
use crate::sim::faults::Kind;
use crate::sim::state::State;

/// What came of an agent's upload, and so how the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uploaded {
    /// The service has the text.
    Yes,
    /// The service doesn't have it, or the answer was lost: the agent tries again from the same place.
    Again,
    /// There is no group for it: nothing more is uploaded for the command, without an error.
    Off,
    /// The stream can't be created: nothing is uploaded, and the command's reply comes late.
    NoStream,
}

impl State {
    /// Uploads what a command has printed, as one PutLogEvents with the calls before it. Each is checked against the
    /// instances' role, in the order in which the real agent was seen to make them.
    pub(in crate::sim) fn upload_output(
        &mut self,
        instance: &str,
        command: &str,
        stream: &str,
        text: &str,
    ) -> Uploaded {
        let Some(name) = self.commands.output_group(command) else { return Uploaded::Off };
        let group = format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}");
        let there = self.logs.groups.contains_key(&name);
        if self.instance_policy.allows("logs:CreateLogGroup", &group) {
            let created = self.clock.unix_ms();
            self.logs.groups.entry(name.clone()).or_insert_with(|| Group { created, ..Group::default() });
        } else if !there || !self.instance_policy.allows("logs:DescribeLogGroups", "*") {
            return Uploaded::Off;
        }
        let stream = format!("{command}/{instance}/aws-runShellScript/{stream}");
        let arn = format!("{group}:log-stream:{stream}");
        if !["logs:CreateLogStream", "logs:DescribeLogStreams"]
            .iter()
            .all(|action| self.instance_policy.allows(action, &arn))
        {
            return Uploaded::NoStream;
        }
        if !self.instance_policy.allows("logs:PutLogEvents", &arn) {
            return Uploaded::Again;
        }
        if text.is_empty() {
            // InvalidParameterException: an event has at least one character.
            return Uploaded::Again;
        }
        if self.faults.strike(&[Kind::Throttle, Kind::Error], "PutLogEvents", &[], &mut self.chance).is_some()
        {
            return Uploaded::Again;
        }
        let lost = self.faults.strike(&[Kind::LoseResponse], "PutLogEvents", &[], &mut self.chance).is_some();
        let now = self.clock.unix_ms();
        let Some(group) = self.logs.groups.get_mut(&name) else { return Uploaded::Off };
        let stream =
            group.streams.entry(stream).or_insert_with(|| Stream { created: now, events: Vec::new() });
        stream.events.push(Event { timestamp: now, message: text.to_owned(), ingested: now });
        if lost { Uploaded::Again } else { Uploaded::Yes }
    }
}
