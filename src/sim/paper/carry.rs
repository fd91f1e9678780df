//! One command on a paper instance, from the moment it has a worker to its reply.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Pattern;
use super::attempt::{Attempt, Stop, reply};
use super::decide::Decision;
use super::hooks::Run;
use super::machine::Machine;
use super::output::{Output, Uploads, frames};
use super::push::{Destination, push};
use crate::revision::script::{Kind, Rendered, Row};
use crate::sim::cloud::Cloud;
use crate::sim::ssm::Refused;

/// The service shows this much of a command's output.
const STDOUT_CHARACTERS: usize = 24_000;
/// How often output is uploaded, in the cloud's seconds.
const UPLOAD: f64 = 1.0;
/// How late the reply is where the stream can't be made, in the cloud's seconds.
const NO_STREAM: f64 = 60.0;
/// How long `stop now` waits for the attempt's end.
const STOPPING: Duration = Duration::from_secs(30);

/// A command in work.
pub(in crate::sim) struct Command {
    cloud: Arc<Cloud>,
    instance: String,
    id: String,
    gone: CancellationToken,
    output: Output,
}

/// What the instance makes of a command.
struct Work {
    /// None: the script isn't drover's.
    script: Option<Arc<Rendered>>,
    execution_timeout: u64,
    uploads: bool,
    pattern: Pattern,
    seed: u64,
}

/// Loses the attempt when the command that runs it is dropped before its end, as its process would be killed.
struct InHand(Arc<Attempt>);

impl Drop for InHand {
    fn drop(&mut self) {
        if self.0.ended.borrow().is_none() {
            self.0.lose();
        }
    }
}

/// Carries a command out and replies, unless the instance goes before.
pub(in crate::sim) async fn carry(
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
        () = command.to_its_reply(&cancelled) => {}
    }
}

impl Command {
    async fn to_its_reply(&self, cancelled: &CancellationToken) {
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
                    _ = ticks.tick(), if uploads.are_on() => uploads.tick(&self.output),
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

    /// Runs the script; its exit code.
    async fn run(&self, work: &Work) -> i64 {
        let Some(script) = &work.script else { return 127 };
        let Some(row) = script.row(&self.instance) else {
            self.say(&format!("the spec has no row for this instance ({})", self.instance));
            return self.answer(0, "failed", 64 + 2);
        };
        let mut says = String::new();
        let Some(decision) = self.machine(|machine| machine.decide(script, row, &mut says)) else { return 1 };
        self.output.print(says.as_bytes());
        match decision {
            Decision::Run(attempt) => self.run_attempt(work, attempt).await,
            Decision::Follow(attempt) => match script.kind {
                Kind::StopAfter => {
                    attempt.stop.send_replace(Stop::After);
                    self.say(&format!("attempt {} ends after the event in work", row.attempt));
                    self.answer(row.attempt, "busy", 0)
                }
                Kind::StopNow => self.stop_now(script, row, &attempt).await,
                _ => {
                    let mut ended = attempt.ended.subscribe();
                    let _ = ended.wait_for(Option::is_some).await;
                    self.repeat(script, row, &attempt)
                }
            },
            Decision::Repeat(attempt) => self.repeat(script, row, &attempt),
            Decision::Refused { highest } => {
                self.say(&format!(
                    "attempt {} is older than {highest}, which this host has seen",
                    row.attempt
                ));
                self.answer(row.attempt, "refused", 70)
            }
            Decision::Late => {
                self.say("this command came too late; is this host's clock right?");
                self.answer(row.attempt, "refused", 70)
            }
            Decision::Busy(owner) => {
                self.say(&format!("attempt {owner} is at work"));
                self.answer(row.attempt, "busy", 75)
            }
        }
    }

    async fn run_attempt(&self, work: &Work, attempt: Arc<Attempt>) -> i64 {
        let in_hand = InHand(attempt);
        let attempt = &in_hand.0;
        self.start_push(attempt, &attempt.script, &attempt.row);
        let chance = (work.pattern.clone(), work.seed);
        Run::new(&self.cloud, &self.instance, attempt, &self.output, chance).run_to_the_end().await;
        self.show_result(attempt)
    }

    async fn stop_now(&self, script: &Arc<Rendered>, row: &Row, attempt: &Arc<Attempt>) -> i64 {
        attempt.stop.send_replace(Stop::Now);
        let mut ended = attempt.ended.subscribe();
        if tokio::time::timeout(STOPPING, ended.wait_for(Option::is_some)).await.is_ok() {
            return self.repeat(script, row, attempt);
        }
        self.say(&format!("attempt {} has not ended within 30 s", row.attempt));
        self.answer(row.attempt, "busy", 75)
    }

    /// The recorded result again.
    fn repeat(&self, script: &Rendered, row: &Row, attempt: &Arc<Attempt>) -> i64 {
        if !matches!(script.kind, Kind::StopAfter | Kind::StopNow) {
            if script.frames {
                frames(&attempt.row.nonce, &attempt.bytes_from(0), 0, &self.output);
            }
            // Another attempt's uploader goes on, whatever became of its runner; one that was stopped before it began has none.
            if attempt.ended.borrow().as_ref().is_some_and(|ended| ended.size == 0) {
                self.start_push(attempt, script, row);
            }
        }
        self.show_result(attempt)
    }

    fn show_result(&self, attempt: &Attempt) -> i64 {
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
        drop(tokio::spawn(push(cloud, instance, Arc::clone(attempt), to, self.gone.clone())));
    }

    fn machine<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        self.cloud.with(|state| state.paper_machine(&self.instance, work))
    }

    fn say(&self, words: &str) {
        self.output.print(format!("drover: {words}\n").as_bytes());
    }

    /// Ends with a result that is not recorded.
    fn answer(&self, attempt: i64, status: &str, code: i64) -> i64 {
        self.output.print(reply(attempt, status, code).as_bytes());
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
        self.insist("reply", body).await;
        self.cloud.with(|state| state.paper_done(&self.instance, &self.id));
    }

    /// Makes a call of the agent's until the service can be reached.
    async fn insist(&self, verb: &str, body: Value) {
        let Ok(request) = serde_json::from_value(body) else { return };
        while self.cloud.with(|state| state.paper_call(verb, &request)) == Err(Refused::Offline) {
            let pause = self.cloud.with(|s| s.clock.wait_at_least(1.0, Duration::from_millis(50)));
            tokio::time::sleep(pause).await;
        }
    }
}
