//! The keeper: it holds an instance's file system across reboots, and starts and kills its pid 1. It is single-threaded and
//! has no async runtime: a user namespace can't be entered otherwise.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

use super::boot_spec::{BootSpec, Isolation};
use super::rootfs;
use super::wire::{self, Answer, Ask, Envelope};

/// A running boot: the launcher, and pid 1 as seen from here.
struct Boot {
    launcher: Child,
    init: Pid,
}

/// Serves the control socket that is stdin, until it closes.
pub(super) fn main() -> anyhow::Result<()> {
    let control = take_control()?;
    let mut buffer = Vec::new();
    let mut running: Option<Boot> = None;
    while let Some((Envelope { id, body }, fds)) = wire::receive::<Ask>(control.as_fd(), &mut buffer)? {
        let answer = match body {
            Ask::Prepare(dir) => prepare(&dir),
            Ask::Boot(spec) => boot(&spec, fds).map(|boot| {
                running = Some(boot);
                Answer::Done
            }),
            Ask::Kill => finish(running.take()).map(|()| Answer::Done),
            other => Err(anyhow::anyhow!("the keeper does not do {other:?}")),
        };
        let body = answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
        wire::send(control.as_fd(), &Envelope { id, body }, &[])?;
    }
    finish(running.take())
}

/// The control socket, taken from stdin; what is started here gets a stdin of its own.
pub(super) fn take_control() -> anyhow::Result<OwnedFd> {
    std::io::stdin().as_fd().try_clone_to_owned().context("take the control socket from stdin")
}

fn prepare(dir: &Path) -> anyhow::Result<Answer> {
    let isolation = separate()?;
    let limits = rootfs::build(dir, isolation).context("make the instance's file system")?;
    Ok(Answer::Prepared { isolation, limits })
}

/// Enters a mount namespace of its own, through a user namespace where that is needed.
fn separate() -> anyhow::Result<Isolation> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(Isolation::Root);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context(
        "enter a user namespace (is kernel.unprivileged_userns_clone or user.max_user_namespaces 0?)",
    )?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        let path = format!("/proc/self/{file}");
        std::fs::write(&path, text).with_context(|| format!("write {path}"))?;
    }
    Ok(Isolation::User)
}

fn boot(spec: &BootSpec, fds: Vec<OwnedFd>) -> anyhow::Result<Boot> {
    let control = fds.into_iter().next().context("no control socket came with the boot")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("drover").args(["sim-instance", "launcher"]).env_clear();
    command.env("DROVER_SIM_BOOT", serde_json::to_string(spec)?);
    command.stdin(Stdio::from(control)).stdout(Stdio::piped());
    let mut launcher = command.spawn().context("start the launcher")?;
    drop(command);
    let mut line = String::new();
    if let Some(stdout) = launcher.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("read pid 1's number from the launcher")?;
    }
    match line.trim().parse::<i32>() {
        Ok(pid) => Ok(Boot { launcher, init: Pid::from_raw(pid) }),
        Err(_) => {
            launcher.wait().context("wait for the launcher")?;
            bail!("{}", if line.trim().is_empty() { "the launcher died" } else { line.trim() });
        }
    }
}

/// Kills pid 1, and with it the whole instance; the launcher ends when all of it is dead.
fn finish(running: Option<Boot>) -> anyhow::Result<()> {
    let Some(mut boot) = running else { return Ok(()) };
    // The launcher not having ended means that pid 1's number still is pid 1's.
    if boot.launcher.try_wait().context("look at the launcher")?.is_none() {
        let _ = kill(boot.init, Signal::SIGKILL);
    }
    boot.launcher.wait().context("wait for the launcher")?;
    Ok(())
}
