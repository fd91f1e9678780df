//! The launcher, of which each boot has one: it makes the namespaces that a reboot renews, starts pid 1 in them and waits for
//! it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::Context;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::boot_spec::BootSpec;

/// Starts pid 1 and writes its number to stdout, or what went wrong.
pub(super) fn run_launcher() -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("ask to die with the keeper")?;
    let mut stdout = std::io::stdout();
    let mut init = match BootSpec::from_environment().and_then(|spec| start_init(&spec)) {
        Ok(init) => init,
        Err(error) => {
            writeln!(stdout, "{error:#}")?;
            return Ok(());
        }
    };
    writeln!(stdout, "{}", init.id())?;
    stdout.flush()?;
    init.wait().context("wait for pid 1")?;
    Ok(())
}

fn start_init(spec: &BootSpec) -> anyhow::Result<std::process::Child> {
    let network = if spec.share_network { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNET };
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | network,
    )
    .context("make pid, mount, network, uts and ipc namespaces")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("drover").args(["sim-instance", "init"]);
    // stdin stays the control socket.
    command.stdin(Stdio::inherit()).stdout(Stdio::null());
    command.spawn().context("start pid 1")
}
