//! Uploads a command's output to CloudWatch Logs, as the agent does it.

use std::sync::Arc;
use std::time::Duration;

use super::output::Output;
use crate::sim::cloud::Cloud;
use crate::sim::cloudwatch::Uploaded;
use crate::sim::instance::agent::upload::{EVENT, EVENTS_PER_TICK, event_length, message};

/// The rounds that are tried without success once the command has ended.
const MOST_FAILURES: u32 = 600;

/// How far a command's output has been uploaded.
pub(super) struct Uploads {
    cloud: Arc<Cloud>,
    instance: String,
    /// The command; `None` if nothing is uploaded.
    command: Option<String>,
    /// The number of bytes that have been uploaded.
    sent: usize,
}

/// What one round of uploading achieved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing is left to upload.
    Complete,
    /// There may be more to upload.
    More,
    /// The service took nothing, as far as the agent knows.
    Again,
    /// The log stream can't be created.
    NoStream,
}

impl Uploads {
    /// Begins the upload of a command's output; without a command nothing is uploaded.
    pub(super) fn new(cloud: &Arc<Cloud>, instance: &str, command: Option<String>) -> Self {
        Self { cloud: Arc::clone(cloud), instance: instance.to_owned(), command, sent: 0 }
    }

    /// Whether the output is uploaded.
    pub(super) fn are_on(&self) -> bool {
        self.command.is_some()
    }

    /// Uploads what is new, up to the limit of one round.
    pub(super) fn upload_new(&mut self, output: &Output) {
        self.upload_round(output, false);
    }

    /// Uploads all that is left once the command has ended, one round after the other; returns false where the log stream
    /// couldn't be created.
    pub(super) async fn finish(&mut self, output: &Output, every: Duration) -> bool {
        let mut failures = 0;
        loop {
            match self.upload_round(output, true) {
                Round::Complete => return true,
                Round::NoStream => return false,
                Round::More => failures = 0,
                Round::Again if failures == MOST_FAILURES => return true,
                Round::Again => failures += 1,
            }
            tokio::time::sleep(every).await;
        }
    }

    fn upload_round(&mut self, output: &Output, complete: bool) -> Round {
        let Some(command) = self.command.clone() else { return Round::Complete };
        for _ in 0..EVENTS_PER_TICK {
            let bytes = output.bytes_from(self.sent, EVENT);
            let length = event_length(&bytes, complete);
            if length == 0 {
                return Round::Complete;
            }
            let text = message(&bytes[..length], complete);
            let uploaded = self.cloud.with(|state| match state.admit_paper_agent(&self.instance) {
                Ok(()) => state.upload_output(&self.instance, &command, "stdout", &text),
                Err(_) => Uploaded::Again,
            });
            match uploaded {
                Uploaded::Yes => self.sent += length,
                Uploaded::Again => return Round::Again,
                Uploaded::Off => {
                    self.command = None;
                    return Round::Complete;
                }
                Uploaded::NoStream => {
                    self.command = None;
                    return Round::NoStream;
                }
            }
        }
        Round::More
    }
}
