//! One command's worker: a process of its own, so that an agent restart leaves the command alone. Threads, no runtime.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::state::{Document, Folder, Outcome, Worker, now};

/// The exit code that asks for a reboot.
pub(super) const REBOOT: i32 = 194;
/// The code of a script that was killed: by its time-out or a cancel.
const STOPPED: i32 = 137;
/// How fast the agent takes a script's output, before the time scale: it does so byte by byte.
const BYTES_PER_SECOND: f64 = 300_000.0;
/// The exit code that the agent takes for a success.
const PASSES: i32 = 168;
/// How often a cancel is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long a killed script's output is waited for: what left its process group may hold it for ever.
const AFTER_KILL: Duration = Duration::from_secs(1);

enum Event {
    Exited(ExitStatus),
    EndOfOutput,
}

/// Runs the command in this directory and leaves its outcome there.
pub(super) fn main(dir: &Path) -> anyhow::Result<()> {
    let folder = Folder(dir.to_owned());
    let document = folder.document().with_context(|| format!("read the command in {}", dir.display()))?;
    if let Some(worker) = Worker::of(std::process::id()) {
        folder.write("worker.json", &worker)?;
    }
    let outcome = run(&folder, &document).unwrap_or_else(|error| {
        drop(fs::write(dir.join("stderr"), format!("failed to run commands: {error:#}\n")));
        Outcome { status: "Failed".into(), exit_code: 1, ended_at: now() }
    });
    folder.write("outcome.json", &outcome).context("keep the outcome")
}

fn run(folder: &Folder, document: &Document) -> anyhow::Result<Outcome> {
    let script_dir = folder.0.join("awsrunShellScript/0.awsrunShellScript");
    fs::create_dir_all(&script_dir)?;
    let script = script_dir.join("_script.sh");
    fs::write(&script, document.commands.join("\n") + "\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;

    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(&script).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).current_dir("/usr/bin");
    let time_scale = std::env::var("SIM_AGENT_TIME_SCALE").ok().and_then(|text| text.parse().ok());
    let pace = BYTES_PER_SECOND * time_scale.unwrap_or(1.0);
    for name in
        ["SIM_AGENT_URL", "SIM_AGENT_TOKEN", "SIM_AGENT_TIME_SCALE", "SIM_AGENT_STATE", "SIM_AGENT_BOOT"]
    {
        command.env_remove(name);
    }
    command.env("AWS_SSM_REGION_NAME", &document.region).env("SSM_COMMAND_ID", &document.command_id);
    let mut child = command.spawn().context("start the script")?;
    let group = Pid::from_raw(i32::try_from(child.id())?);

    let (sender, events) = mpsc::channel();
    let stdout = child.stdout.take().context("take stdout")?;
    let stderr = child.stderr.take().context("take stderr")?;
    copy(stdout, append(folder, "stdout")?, pace, sender.clone());
    copy(stderr, append(folder, "stderr")?, pace, sender.clone());
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            // Nobody waits any more once the output was given up.
            drop(sender.send(Event::Exited(status)));
        }
    });

    let deadline = Instant::now() + Duration::from_secs(document.execution_timeout);
    let (mut exited, mut open) = (None, 2);
    let mut stopped: Option<(&str, Instant)> = None;
    let mut ended_by_itself = false;
    while exited.is_none() || open > 0 {
        match events.recv_timeout(TICK) {
            Ok(Event::Exited(status)) => exited = Some(status),
            Ok(Event::EndOfOutput) => open -= 1,
            Err(_) => {}
        }
        match stopped {
            Some((_, at)) if exited.is_some() && at.elapsed() > AFTER_KILL => break,
            Some(_) => {}
            None => {
                let why = if folder.cancelled() {
                    "Cancelled"
                } else if Instant::now() >= deadline {
                    "TimedOut"
                } else {
                    continue;
                };
                stopped = Some((why, Instant::now()));
                ended_by_itself = exited.is_some();
                let _ = killpg(group, Signal::SIGKILL);
            }
        }
    }
    let exit_code = exited.map_or(-1, |status| status.code().unwrap_or(128 + status.signal().unwrap_or(0)));
    let (status, exit_code) = match stopped {
        // What left the script's group held its output.
        Some(("TimedOut", _)) if ended_by_itself => ("Failed", 1),
        Some((why, _)) => (why, STOPPED),
        None if exit_code == 0 || exit_code == PASSES => ("Success", exit_code),
        None => ("Failed", exit_code),
    };
    Ok(Outcome { status: status.into(), exit_code, ended_at: now() })
}

/// What a script that ran before a reboot wrote stays.
fn append(folder: &Folder, name: &str) -> io::Result<File> {
    File::options().create(true).append(true).open(folder.0.join(name))
}

fn copy(mut from: impl Read + Send + 'static, mut to: File, pace: f64, done: mpsc::Sender<Event>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                // A full disk loses output, it does not block the script.
                Ok(count) => {
                    drop(to.write_all(&buffer[..count]));
                    std::thread::sleep(Duration::from_secs_f64(count as f64 / pace));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(done.send(Event::EndOfOutput));
    });
}
