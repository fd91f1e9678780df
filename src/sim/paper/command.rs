//! One command on a paper instance, from the moment that it gets a worker until its reply.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Stop, unrecorded_result};
use super::decide::Decision;
use super::hooks::Run;
use super::machine::Machine;
use super::output::{Output, print_frames};
use super::pattern::Pattern;
use super::push::{Destination, push_log};
use super::uploads::Uploads;
use crate::revision::script::{Kind, Rendered, Row};
use crate::sim::cloud::Cloud;
use crate::sim::ssm::Refused;

/// How much of a command's output the agent replies with, characters.
const STDOUT_CHARACTERS: usize = 24_000;
/// How often output is uploaded, in the cloud's seconds.
const UPLOAD: f64 = 1.0;
/// How late the reply is where the log stream can't be created, in the cloud's seconds.
const NO_STREAM: f64 = 60.0;
/// How long `stop now` waits for the attempt's end.
const STOPPING: Duration = Duration::from_secs(30);

/// A command that has a worker.
struct Command {
    cloud: Arc<Cloud>,
    instance: String,
    id: String,
    gone: CancellationToken,
    output: Output,
}

/// What a command is about, and how its instance carries it out.
struct Work {
    /// The script; `None` if it isn't drover's.
    script: Option<Arc<Rendered>>,
    execution_timeout: u64,
    uploads: bool,
    pattern: Pattern,
    seed: u64,
}

/// Gives the attempt up when the command that runs it is dropped before its end, as its process would be killed.
struct Running(Arc<Attempt>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.ended.borrow().is_none() {
            self.0.lose();
        }
    }
}

/// Runs a command and replies, unless the instance is gone before.
pub(in crate::sim) async fn run_command(
    cloud: Arc<Cloud>,
    instance: String,
    id: String,
    cancelled: CancellationToken,
) {
    let gone = cloud.with(|s| Some(s.instances.get(&instance)?.paper.as_ref()?.gone.clone()));
    let Some(gone) = gone else { return };
    let stop = cloud.stop.clone();
    let command = Command { cloud, instance, id, gone: gone.clone(), output: Output::default() };
    tokio::select! {
        () = gone.cancelled() => {}
        () = stop.cancelled() => {}
        () = command.run_and_reply(&cancelled) => {}
    }
}

impl Command {
    async fn run_and_reply(&self, cancelled: &CancellationToken) {
        let work = self.cloud.with(|state| {
            let (script, execution_timeout, uploads) = state.paper_command(&self.id)?;
            let pattern = state.pattern_of(&self.instance)?;
            Some(Work { script, execution_timeout, uploads, pattern, seed: state.papers.seed })
        });
        let Some(work) = work else { return };
        if cancelled.is_cancelled() {
            return self.reply("Cancelled", -1, String::new()).await;
        }
        let every = self.cloud.with(|s| s.clock.wait_at_least(UPLOAD, Duration::from_millis(50)));
        let mut uploads = Uploads::new(&self.cloud, &self.instance, work.uploads.then(|| self.id.clone()));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let timeout = tokio::time::sleep(Duration::from_secs(work.execution_timeout));
        let (status, code) = {
            let running = self.run(&work);
            tokio::pin!(running, timeout);
            loop {
                tokio::select! {
                    code = &mut running => break (if code == 0 { "Success" } else { "Failed" }, code),
                    () = cancelled.cancelled() => break ("Cancelled", 137),
                    () = &mut timeout => break ("TimedOut", 137),
                    _ = ticks.tick(), if uploads.are_on() => uploads.upload_new(&self.output),
                }
            }
        };
        if !uploads.finish(&self.output, every).await {
            tokio::time::sleep(self.cloud.with(|s| s.clock.wait(NO_STREAM))).await;
        }
        let mut stderr = String::new();
        if work.script.is_none() {
            stderr.push_str("a paper instance runs no script but drover's\n");
        }
        if status == "Failed" {
            stderr.push_str(&format!("failed to run commands: exit status {code}"));
        }
        self.reply(status, code, stderr).await;
    }

    /// Runs the script and returns its exit code.
    async fn run(&self, work: &Work) -> i64 {
        let Some(script) = &work.script else { return 127 };
        let Some(row) = script.row(&self.instance) else {
            self.print_remark(&format!("the spec has no row for this instance ({})", self.instance));
            return self.print_unrecorded(0, "failed", 64 + 2);
        };
        let mut remarks = String::new();
        let Some(decision) = self.with_machine(|machine| machine.decide(script, row, &mut remarks)) else {
            return 1;
        };
        self.output.print(remarks.as_bytes());
        match decision {
            Decision::Run(attempt) => self.run_attempt(work, attempt).await,
            Decision::Follow(attempt) => match script.kind {
                Kind::StopAfter => {
                    attempt.stop.send_replace(Stop::After);
                    self.print_remark(&format!("attempt {} ends after the event in work", row.attempt));
                    self.print_unrecorded(row.attempt, "busy", 0)
                }
                Kind::StopNow => self.stop_now(script, row, &attempt).await,
                _ => {
                    let mut ended = attempt.ended.subscribe();
                    let _ = ended.wait_for(Option::is_some).await;
                    self.repeat_result(script, row, &attempt)
                }
            },
            Decision::Repeat(attempt) => self.repeat_result(script, row, &attempt),
            Decision::Refused { highest } => {
                self.print_remark(&format!(
                    "attempt {} is older than {highest}, which this host has seen",
                    row.attempt
                ));
                self.print_unrecorded(row.attempt, "refused", 70)
            }
            Decision::Late => {
                self.print_remark("this command came too late; is this host's clock right?");
                self.print_unrecorded(row.attempt, "late", 76)
            }
            Decision::Busy(owner) => {
                self.print_remark(&format!("attempt {owner} is at work"));
                self.print_unrecorded(row.attempt, "busy", 75)
            }
        }
    }

    async fn run_attempt(&self, work: &Work, attempt: Arc<Attempt>) -> i64 {
        let running = Running(attempt);
        let attempt = &running.0;
        self.start_push(attempt, &attempt.script, &attempt.row);
        let chance = (work.pattern.clone(), work.seed);
        Run::new(&self.cloud, &self.instance, attempt, &self.output, chance).run_to_the_end().await;
        self.print_result(attempt)
    }

    async fn stop_now(&self, script: &Arc<Rendered>, row: &Row, attempt: &Arc<Attempt>) -> i64 {
        attempt.stop.send_replace(Stop::Now);
        let mut ended = attempt.ended.subscribe();
        if tokio::time::timeout(STOPPING, ended.wait_for(Option::is_some)).await.is_ok() {
            return self.repeat_result(script, row, attempt);
        }
        self.print_remark(&format!("attempt {} has not ended within 30 s", row.attempt));
        self.print_unrecorded(row.attempt, "busy", 75)
    }

    /// Prints the recorded result of an attempt again.
    fn repeat_result(&self, script: &Rendered, row: &Row, attempt: &Arc<Attempt>) -> i64 {
        if !matches!(script.kind, Kind::StopAfter | Kind::StopNow) {
            if script.frames {
                print_frames(&attempt.row.nonce, &attempt.bytes_from(0), 0, &self.output);
            }
            // Another attempt's uploader goes on, whatever became of its runner; one that was stopped before it began has none.
            if attempt.ended.borrow().as_ref().is_some_and(|ended| ended.size == 0) {
                self.start_push(attempt, script, row);
            }
        }
        self.print_result(attempt)
    }

    fn print_result(&self, attempt: &Attempt) -> i64 {
        let Some(ended) = attempt.ended.borrow().clone() else { return 1 };
        self.output.print(ended.tail.as_bytes());
        self.output.print(format!("{}\n", ended.line).as_bytes());
        ended.code
    }

    fn start_push(&self, attempt: &Arc<Attempt>, script: &Rendered, row: &Row) {
        if script.log_url.is_empty() {
            return;
        }
        let (cloud, instance) = (Arc::clone(&self.cloud), self.instance.clone());
        let to = Destination { url: format!("{}/{}", script.log_url, row.attempt), token: row.token.clone() };
        drop(tokio::spawn(push_log(cloud, instance, Arc::clone(attempt), to, self.gone.clone())));
    }

    fn with_machine<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        self.cloud.with(|state| state.paper_machine(&self.instance, work))
    }

    /// Prints a line of the runner's own.
    fn print_remark(&self, words: &str) {
        self.output.print(format!("drover: {words}\n").as_bytes());
    }

    /// Prints a result that is not recorded, and returns the exit code.
    fn print_unrecorded(&self, attempt: i64, status: &str, code: i64) -> i64 {
        self.output.print(unrecorded_result(attempt, status, code).as_bytes());
        code
    }

    async fn reply(&self, status: &str, code: i64, stderr: String) {
        let body = json!({
            "instance_id": self.instance,
            "command_id": self.id,
            "status": status,
            "exit_code": code,
            "stdout": self.output.first(STDOUT_CHARACTERS),
            "stderr": stderr,
            "ended_at": jiff::Timestamp::now().as_millisecond(),
        });
        self.call_until_reached("reply", body).await;
        self.cloud.with(|state| state.finish_paper_command(&self.instance, &self.id));
    }

    /// Makes a request of the agent, again and again until the service can be reached.
    async fn call_until_reached(&self, verb: &str, body: Value) {
        let Ok(request) = serde_json::from_value(body) else { return };
        while self.cloud.with(|state| state.call_from_paper(verb, &request)) == Err(Refused::Offline) {
            let pause = self.cloud.with(|s| s.clock.wait_at_least(1.0, Duration::from_millis(50)));
            tokio::time::sleep(pause).await;
        }
    }
}
