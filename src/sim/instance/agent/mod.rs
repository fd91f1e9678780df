//! The agent of an instance: polls its service for commands, runs each in a worker process, reports what came of it.
//! It behaves as Systems Manager's agent was seen to: five workers and a buffer of five, SIGKILL on cancel, exit 194
//! for a reboot, a restart that leaves running commands alone, output uploaded once a second where that is asked for.

mod client;
mod state;
pub(in crate::sim) mod upload;
mod worker;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::LocalSet;

use client::{Kind, Message, Service};
use state::{Document, Folder, Outcome, Phase, boot_id, now};
use upload::{Ended, Uploads};

/// Commands that run at the same time, and commands taken beyond that.
const WORKERS: usize = 5;
const BUFFER: usize = 5;
/// The service shows this much of a command's output.
const STDOUT_CHARACTERS: usize = 24_000;
const STDERR_CHARACTERS: usize = 8_000;
/// How often the agent says that it is there, before the time scale.
const PING: Duration = Duration::from_secs(5);
/// How long a worker that died unnoticed is waited for, before the time scale.
const LOST_WORKER: Duration = Duration::from_secs(60);
/// How often output is uploaded, before the time scale.
const UPLOAD: Duration = Duration::from_secs(1);
/// How late the reply is where the stream can't be made, before the time scale.
const NO_STREAM: Duration = Duration::from_secs(60);
/// How often a worker that is not our child is looked at.
const WATCH: Duration = Duration::from_millis(30);

struct Agent {
    service: Service,
    state: PathBuf,
    time_scale: f64,
    /// Free workers.
    workers: Semaphore,
    /// Free places, running and buffered.
    places: Arc<Semaphore>,
}

/// Runs the agent, or (`worker DIR`) one command's worker.
pub(super) fn main(args: &[String]) -> anyhow::Result<()> {
    match args {
        [] => {}
        [word, dir] if word == "worker" => return worker::main(Path::new(dir)),
        _ => bail!("sim-agent is started in a simulated instance, not by hand"),
    }
    let variable = |name: &str| std::env::var(name).with_context(|| format!("read {name}"));
    let time_scale: f64 = variable("SIM_AGENT_TIME_SCALE")?.parse().context("read SIM_AGENT_TIME_SCALE")?;
    let pause = scaled(Duration::from_secs(1), time_scale);
    let service = Service::new(
        variable("SIM_AGENT_URL")?,
        variable("SIM_AGENT_TOKEN")?,
        variable("AWS_SSM_INSTANCE_ID")?,
        pause,
    );
    let agent = Rc::new(Agent {
        service,
        state: variable("SIM_AGENT_STATE")?.into(),
        time_scale,
        workers: Semaphore::new(WORKERS),
        places: Arc::new(Semaphore::new(WORKERS + BUFFER)),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, agent.serve(pause))
}

/// A wait divided by the time scale, but never so short that it spins.
fn scaled(wait: Duration, time_scale: f64) -> Duration {
    wait.div_f64(time_scale.max(0.001)).max(Duration::from_millis(50))
}

impl Agent {
    async fn serve(self: Rc<Self>, pause: Duration) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.state.join("orchestration"))
            .with_context(|| format!("make {}", self.state.display()))?;
        for folder in Folder::all(&self.state) {
            if let Some(document) = folder.document().filter(|document| document.phase != Phase::Replied) {
                let place = self.places.clone().try_acquire_owned().ok();
                tokio::task::spawn_local(self.clone().carry(folder, document, place));
            }
        }
        self.service.insist("hello", hello()).await;
        let pinger = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(scaled(PING, pinger.time_scale)).await;
                // A ping that fails is made up for by the next.
                drop(pinger.service.call("hello", hello(), Duration::from_secs(5)).await);
            }
        });
        loop {
            match self.service.poll().await {
                Ok(messages) => {
                    let mut nothing_new = !messages.is_empty();
                    for message in messages {
                        nothing_new &= !self.clone().take(message).await;
                    }
                    // Messages that can't be taken yet come again: not at once.
                    if nothing_new {
                        tokio::time::sleep(WATCH).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "the service can't be polled");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Takes a message on, if there is room; whether anything was done.
    async fn take(self: Rc<Self>, message: Message) -> bool {
        let folder = Folder::of(&self.state, &message.command_id);
        let known = folder.document();
        match (message.kind, known) {
            (Kind::Run, None) => {
                let Ok(place) = self.places.clone().try_acquire_owned() else { return false };
                let document = Document {
                    command_id: message.command_id,
                    commands: message.commands,
                    execution_timeout: message.execution_timeout,
                    region: message.region,
                    uploads: message.uploads,
                    phase: Phase::Queued,
                    boot: boot_id(),
                    started_at: now(),
                };
                let kept = std::fs::create_dir_all(&folder.0)
                    .and_then(|()| folder.write("document.json", &document));
                if let Err(error) = kept {
                    tracing::warn!(document = message.document_name, %error, "a command can't be kept on disk");
                    return false;
                }
                tokio::task::spawn_local(self.clone().carry(folder, document, Some(place)));
            }
            // Its reply, made or to come, answers it.
            (Kind::Run, Some(_)) => {}
            (Kind::Cancel, Some(document)) if document.phase != Phase::Replied => {
                if let Err(error) = folder.cancel() {
                    tracing::warn!(%error, "a cancel can't be kept on disk");
                    return false;
                }
            }
            (Kind::Cancel, _) => {}
        }
        self.service.insist("ack", json!({"message_id": message.id})).await;
        true
    }

    /// Carries one command to its end, from wherever it is, holding its place.
    async fn carry(
        self: Rc<Self>,
        folder: Folder,
        mut document: Document,
        _place: Option<OwnedSemaphorePermit>,
    ) {
        let started = document.started_at;
        let progress =
            json!({"command_id": document.command_id, "status": "InProgress", "started_at": started});
        if document.phase == Phase::Queued {
            self.service.insist("progress", progress).await;
        }
        let Some(_worker) = self.free_worker(&folder, &document).await else {
            return self.reply(&folder, document, cancelled()).await;
        };
        loop {
            match self.step(&folder, &mut document).await {
                Ok(Some(outcome)) => return self.reply(&folder, document, outcome).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "a command can't be carried on");
                    tokio::time::sleep(scaled(Duration::from_secs(1), self.time_scale)).await;
                }
            }
        }
    }

    /// A worker's place; None where the command is cancelled before there is one.
    async fn free_worker(&self, folder: &Folder, document: &Document) -> Option<SemaphorePermit<'_>> {
        loop {
            if document.phase == Phase::Queued && folder.cancelled() {
                return None;
            }
            if let Ok(permit) = tokio::time::timeout(WATCH, self.workers.acquire()).await {
                return permit.ok();
            }
        }
    }

    /// One step of a command; its outcome when it has ended.
    async fn step(&self, folder: &Folder, document: &mut Document) -> anyhow::Result<Option<Outcome>> {
        match document.phase {
            Phase::Queued => {
                self.enter(folder, document, Phase::Running)?;
                let mut worker = tokio::process::Command::new("/proc/self/exe");
                worker.arg0("drover").args(["sim-agent", "worker"]).arg(&folder.0).process_group(0);
                worker.stdout(std::process::Stdio::null());
                worker.spawn().context("start a worker")?.wait().await?;
                Ok(None)
            }
            Phase::Running => {
                let Some(outcome) = self.watched(folder, document).await else {
                    tokio::time::sleep(scaled(LOST_WORKER, self.time_scale)).await;
                    if folder.outcome().is_some() || folder.worker().is_some_and(|worker| worker.alive()) {
                        return Ok(None);
                    }
                    let message = "document process failed unexpectedly: document worker timed out";
                    std::fs::write(folder.0.join("stderr"), message)?;
                    return Ok(Some(Outcome { status: "Failed".into(), exit_code: 1, ended_at: now() }));
                };
                if outcome.status != "Failed" || outcome.exit_code != worker::REBOOT {
                    return Ok(Some(outcome));
                }
                self.enter(folder, document, Phase::Rebooting)?;
                Ok(None)
            }
            Phase::Rebooting if document.boot == boot_id() => {
                self.service.insist("reboot", json!({})).await;
                tokio::time::sleep(scaled(LOST_WORKER, self.time_scale)).await;
                Ok(None)
            }
            Phase::Rebooting => {
                std::fs::remove_file(folder.0.join("outcome.json"))?;
                self.enter(folder, document, Phase::Queued)?;
                Ok(None)
            }
            Phase::Replied => bail!("command {} has been replied to already", document.command_id),
        }
    }

    fn enter(&self, folder: &Folder, document: &mut Document, phase: Phase) -> anyhow::Result<()> {
        document.phase = phase;
        document.boot = boot_id();
        folder.write("document.json", document).context("keep a command's state")
    }

    /// What the worker left; None where it died without leaving anything.
    async fn watched(&self, folder: &Folder, document: &Document) -> Option<Outcome> {
        let mut uploads = Uploads::of(folder, document);
        let every = scaled(UPLOAD, self.time_scale);
        let mut due = tokio::time::Instant::now() + every;
        loop {
            if tokio::time::Instant::now() >= due {
                uploads.tick(&self.service).await;
                due = tokio::time::Instant::now() + every;
            }
            // In this order: an outcome written just before the worker ended is seen.
            let alive = match folder.worker() {
                Some(worker) => worker.boot == document.boot && worker.alive(),
                None => false,
            };
            if let Some(outcome) = folder.outcome() {
                // The terminal status comes after the final upload.
                if uploads.finish(&self.service, every).await == Ended::WithoutStream {
                    tokio::time::sleep(scaled(NO_STREAM, self.time_scale)).await;
                }
                return Some(outcome);
            }
            if !alive {
                return None;
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    async fn reply(&self, folder: &Folder, mut document: Document, outcome: Outcome) {
        let mut stderr = folder.output("stderr", STDERR_CHARACTERS);
        if outcome.status == "Failed" {
            let _ = write!(stderr, "failed to run commands: exit status {}", outcome.exit_code);
        }
        let body = json!({
            "command_id": document.command_id,
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "stdout": folder.output("stdout", STDOUT_CHARACTERS),
            "stderr": stderr,
            "started_at": document.started_at,
            "ended_at": outcome.ended_at,
        });
        self.service.insist("reply", body).await;
        if let Err(error) = self.enter(folder, &mut document, Phase::Replied) {
            tracing::warn!(error = format!("{error:#}"), "a reply is made again after the next start");
        }
    }
}

fn hello() -> serde_json::Value {
    json!({"version": "3.3.0.0", "platform": "Linux"})
}

fn cancelled() -> Outcome {
    Outcome { status: "Cancelled".into(), exit_code: -1, ended_at: now() }
}
