//! The processes that make an instance, as the simulated cloud holds them: the keeper, and pid 1 of each boot.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use super::boot_spec::{BootSpec, Isolation};
use super::spec::HostSpec;
use super::wire::{self, Answer, Ask, Wire};

/// How long an instance may take to be made, to boot or to die before it is given up: far above what a loaded
/// machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An instance's processes; dropping it kills them.
pub(super) struct Machine {
    isolation: Isolation,
    /// The directory that holds this instance's root.
    dir: PathBuf,
    program: PathBuf,
    keeper: Option<(Child, Wire)>,
    /// Pid 1 where there is no keeper.
    plain: Option<Child>,
    /// Closes pid 1's control socket when cancelled.
    alive: Option<tokio_util::sync::CancellationToken>,
}

impl Machine {
    /// Makes an instance's file system, in namespaces where they can be had; also says what can't be had.
    pub(super) async fn prepare(spec: &HostSpec) -> anyhow::Result<(Machine, Vec<String>)> {
        let dir = spec.data_dir.join(&spec.id);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("make the instance directory {}", dir.display()))?;
        let dir =
            dir.canonicalize().with_context(|| format!("find the instance directory {}", dir.display()))?;
        let program = program(spec);
        let (ours, theirs) = wire::pair().context("make a control socket")?;
        let child = command(&program, "keeper", theirs).spawn().with_context(|| start_failed(&program))?;
        let keeper = Wire::start(ours, |_| {}).context("use a control socket")?;
        let prepared = tokio::time::timeout(PATIENCE, keeper.ask(Ask::Prepare(dir.clone()), &[])).await;
        match prepared.with_context(|| format!("instance {} was not made in time", spec.id))? {
            Ok((Answer::Prepared { isolation, limits }, _)) => {
                let keeper = Some((child, keeper));
                Ok((Machine { isolation, dir, program, keeper, plain: None, alive: None }, limits))
            }
            other => {
                let error = match other {
                    Ok((answer, _)) => format!("the keeper answered {answer:?}"),
                    Err(error) => error.to_string(),
                };
                let mut limits = vec![format!("namespaces cannot be had here: {error}")];
                let machine = Machine::plain(spec, &mut limits)?;
                Ok((machine, limits))
            }
        }
    }

    /// An instance in a plain folder.
    pub(super) fn plain(spec: &HostSpec, limits: &mut Vec<String>) -> anyhow::Result<Machine> {
        let dir = spec.data_dir.join(&spec.id);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("make the instance directory {}", dir.display()))?;
        limits.extend(
            [
                "an instance is a plain folder named by DROVER_ROOT: scripts that write elsewhere write to this machine",
                "applications listen on ADDRESS, a loopback address of their own, and ports below 1024 stand for port + 8000 (PORT)",
                "runas and ownership do nothing: all runs as the user that started the simulated cloud",
                "a cut network stops the agent and the balancer's connections, nothing else",
            ]
            .map(str::to_owned),
        );
        Ok(Machine {
            isolation: Isolation::Plain,
            dir: dir.canonicalize()?,
            program: program(spec),
            keeper: None,
            plain: None,
            alive: None,
        })
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Where the instance's root directory is.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Starts pid 1 and waits until it serves its control socket.
    pub(super) async fn boot(
        &mut self,
        spec: BootSpec,
        report: impl Fn(Answer) + Send + 'static,
    ) -> anyhow::Result<Wire> {
        let (ours, theirs) = wire::pair().context("make a control socket")?;
        let control = Wire::start(ours, report).context("use a control socket")?;
        match &self.keeper {
            Some((_, keeper)) => {
                let fds = [theirs.as_fd()];
                let asked = keeper.ask(Ask::Boot(Box::new(spec)), &fds);
                tokio::time::timeout(PATIENCE, asked)
                    .await
                    .context("the instance did not boot in time")??;
            }
            None => {
                let child = command(&self.program, "init", theirs)
                    .env("DROVER_SIM_BOOT", serde_json::to_string(&spec)?)
                    .spawn()
                    .with_context(|| start_failed(&self.program))?;
                self.plain = Some(child);
            }
        }
        self.alive = Some(control.gone.clone());
        // A harmless question: its answer says that pid 1 has come up.
        let asked = control.ask(Ask::Exec(Vec::new()), &[]);
        match tokio::time::timeout(PATIENCE, asked).await.context("pid 1 did not come up in time")? {
            Ok(_) => Ok(control),
            Err(error) => bail!("pid 1 did not come up: {error}"),
        }
    }

    /// Kills all processes of the instance; its files stay.
    pub(super) async fn halt(&mut self) -> io::Result<()> {
        if let Some(alive) = self.alive.take() {
            alive.cancel();
        }
        if let Some((_, keeper)) = &self.keeper {
            keeper.ask(Ask::Kill, &[]).await?;
        }
        if let Some(mut child) = self.plain.take() {
            // It has seen its control socket close and kills what it started, then itself.
            if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
                child.kill().await?;
            }
        }
        Ok(())
    }

    /// Kills all processes of the instance and lets go of its files.
    pub(super) async fn end(mut self) {
        if let Err(error) = self.halt().await {
            tracing::debug!(dir = %self.dir.display(), %error, "an instance was already dead");
        }
        if let Some((mut child, keeper)) = self.keeper.take() {
            drop(keeper);
            if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
                drop(child.kill().await);
            }
        }
        if let Err(error) = tokio::fs::remove_dir_all(&self.dir).await {
            tracing::debug!(dir = %self.dir.display(), %error, "an instance's directory stays");
        }
    }
}

fn program(spec: &HostSpec) -> PathBuf {
    spec.program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

fn start_failed(program: &Path) -> String {
    format!("start {} as a part of an instance", program.display())
}

/// This binary as one of an instance's processes, with its control socket as stdin, in a process group of its own so that
/// an interrupt from the terminal reaches the simulated cloud alone.
fn command(program: &Path, part: &str, control: OwnedFd) -> Command {
    let mut command = Command::new(program);
    command.arg0("drover").args(["sim-instance", part]);
    command.env_clear().stdin(Stdio::from(control)).stdout(Stdio::null()).process_group(0);
    command
}
