//! Child processes that say when they are ready, and end with this one.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// A process says that it is ready within this, on a busy machine too.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a process whose first line of output is `{"ready": …}`.
pub(super) async fn start(mut command: Command, log: &Path) -> anyhow::Result<(Child, Value)> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("writing {}", log.display()))?;
    // The pipe to its standard input closes with this process, however that ends, and the child with it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
    let mut child =
        command.spawn().with_context(|| format!("running {:?}", command.as_std().get_program()))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await;
    let first = match first {
        Ok(line) => line?,
        Err(_) => bail!("not ready within {} s; see {}", START_TIMEOUT.as_secs(), log.display()),
    };
    let Some(line) = first else {
        let words = std::fs::read_to_string(log).unwrap_or_default();
        let words: Vec<&str> = words.lines().rev().take(5).collect();
        bail!("it ended at once: {}", words.into_iter().rev().collect::<Vec<_>>().join("; "));
    };
    let mut ready: Value =
        serde_json::from_str(&line).with_context(|| format!("its first line was: {line}"))?;
    // Nobody reads on; keep the pipe drained, lest it block.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, ready["ready"].take()))
}

/// SIGTERM, then SIGKILL.
pub(super) async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(20), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
