//! Pid 1 of an instance: it runs user-data, keeps the agent running, reaps orphans, and serves the control socket. It has no
//! async runtime: its threads block.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};

use super::boot_spec::{BootSpec, Isolation, plain_port};
use super::processes::{self, Processes};
use super::wire::{self, AgentVerb, Answer, Ask, Envelope};
use super::{devices, keeper, netlink, rootfs};

/// How long the service manager waits before it starts a dead agent again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capabilities that root of an instance doesn't have, because its kernel is the machine's.
const OF_THE_MACHINE: [CapabilitySet; 20] = [
    CapabilitySet::DAC_READ_SEARCH,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::PERFMON,
    CapabilitySet::BPF,
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_TIME,
    CapabilitySet::SYS_PACCT,
    CapabilitySet::SYS_TTY_CONFIG,
    CapabilitySet::MKNOD,
    CapabilitySet::AUDIT_CONTROL,
    CapabilitySet::AUDIT_READ,
    CapabilitySet::MAC_OVERRIDE,
    CapabilitySet::MAC_ADMIN,
    CapabilitySet::SYSLOG,
    CapabilitySet::WAKE_ALARM,
    CapabilitySet::BLOCK_SUSPEND,
    CapabilitySet::LINUX_IMMUTABLE,
];

/// The capabilities that it doesn't have either where the machine's network is its own.
const OF_ITS_NETWORK: [CapabilitySet; 2] = [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW];

/// What pid 1's threads share.
struct Init {
    spec: BootSpec,
    /// The instance's root: empty in namespaces, the path of a plain folder.
    prefix: PathBuf,
    /// The id of this boot; in a plain folder the kernel's would stay the same.
    boot: String,
    control: OwnedFd,
    processes: Processes,
    agent: Mutex<Agent>,
    agent_changed: Condvar,
}

#[derive(Default)]
struct Agent {
    wanted: bool,
    pid: Option<Pid>,
}

/// Runs an instance until its control socket closes.
pub(super) fn main() -> anyhow::Result<()> {
    let spec = BootSpec::from_environment()?;
    let control = keeper::take_control()?;
    let mut buffer = Vec::new();
    if let Err(error) = set_up(&spec) {
        if let Some((Envelope { id, .. }, _)) = wire::receive::<Ask>(control.as_fd(), &mut buffer)? {
            let body = Answer::Failed(format!("{error:#}"));
            wire::send(control.as_fd(), &Envelope { id, body }, &[])?;
        }
        return Err(error);
    }
    let prefix = if spec.isolation == Isolation::Plain { spec.root.clone() } else { PathBuf::new() };
    let boot = match spec.isolation {
        Isolation::Plain => fs::read_to_string("/proc/sys/kernel/random/uuid"),
        Isolation::Root | Isolation::User => fs::read_to_string("/proc/sys/kernel/random/boot_id"),
    };
    let boot = boot.context("read the boot id")?.trim().to_owned();
    let init = Arc::new(Init {
        spec,
        boot,
        prefix,
        control,
        processes: Processes::default(),
        agent: Mutex::default(),
        agent_changed: Condvar::new(),
    });
    let reaper = init.clone();
    std::thread::spawn(move || reaper.processes.reap());
    // What an instance's role gives: to root alone here.
    let role = init.inside("etc/drover-sim-role");
    let text = format!("{}\n{}\n", init.spec.agent_url.trim_end_matches('/'), init.spec.agent_token);
    fs::write(&role, text).and_then(|()| fs::set_permissions(&role, fs::Permissions::from_mode(0o600)))?;
    let starter = init.clone();
    std::thread::spawn(move || starter.start_up());
    while let Some((Envelope { id, body }, fds)) = wire::receive::<Ask>(init.control.as_fd(), &mut buffer)? {
        let server = init.clone();
        // Sockets are asked for on every connection: answered here; what takes long gets a thread.
        match body {
            Ask::Exec(_) | Ask::Agent(_) => drop(std::thread::spawn(move || server.answer(id, body, fds))),
            body => server.answer(id, body, fds),
        }
    }
    if init.spec.isolation == Isolation::Plain {
        init.agent().wanted = false;
        processes::kill_descendants(Pid::this());
    }
    // As pid 1 of its namespace it takes all others with it.
    Ok(())
}

fn set_up(spec: &BootSpec) -> anyhow::Result<()> {
    if spec.isolation == Isolation::Plain {
        set_child_subreaper(true).context("inherit the orphans")?;
        rootfs::furnish_plain(&spec.root)?;
        let text = format!(
            "DROVER_ROOT='{}'\nADDRESS='{}'\nPORT='{}'\nAWS_SSM_INSTANCE_ID='{}'\n",
            spec.root.display(),
            spec.address,
            plain_port(80),
            spec.id
        );
        fs::write(spec.root.join("etc/drover-sim.env"), text)?;
        return Ok(());
    }
    // Not in a plain folder: there a thread of the simulated cloud is the parent, and the orphans have to be killed.
    set_pdeathsig(Signal::SIGKILL).context("ask to die with the launcher")?;
    if spec.share_network {
        // Names are resolved as on the machine, whose /run, where the link may lead, is not in sight.
        let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
        let inside = spec.root.join("etc/resolv.conf");
        drop(fs::remove_file(&inside));
        drop(fs::write(inside, resolver));
    }
    devices::mount_all(&spec.root, spec.share_network)?;
    rootfs::enter(&spec.root)?;
    let network = set_up_network(spec);
    // Whatever runs here, as root too, can do nothing to the machine: mount, load, make devices, set its clock.
    let of_the_network: &[CapabilitySet] = if spec.share_network { &OF_ITS_NETWORK } else { &[] };
    for &capability in OF_THE_MACHINE.iter().chain(of_the_network) {
        remove_capability_from_bounding_set(capability).context("give up the machine's capabilities")?;
    }
    // And not by way of pid 1, which it could trace if that had more.
    let mut ours = capabilities(None).context("see our own capabilities")?;
    for &capability in OF_THE_MACHINE.iter().chain(of_the_network) {
        ours.effective.remove(capability);
        ours.permitted.remove(capability);
        ours.inheritable.remove(capability);
    }
    set_capabilities(None, ours).context("give up our own capabilities")?;
    network
}

fn set_up_network(spec: &BootSpec) -> anyhow::Result<()> {
    let name = format!("ip-{}", spec.address.to_string().replace('.', "-"));
    nix::unistd::sethostname(&name).context("set the host name")?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{} {name}\n", spec.address))?;
    if spec.share_network {
        return Ok(());
    }
    netlink::bring_up(spec.address).context("bring the instance's network up")
}

impl Init {
    /// Runs user-data at the first boot, then keeps the agent running.
    fn start_up(&self) {
        if let (true, Some(script)) = (self.spec.first, &self.spec.user_data) {
            let code = self.run_user_data(script).unwrap_or_else(|error| {
                eprintln!("drover: run user-data of {}: {error:#}", self.spec.id);
                126
            });
            self.report(Answer::Booted(code));
        } else {
            self.report(Answer::Booted(0));
        }
        self.agent().wanted = true;
        loop {
            let mut agent = self.agent();
            while !agent.wanted {
                agent = self.agent_changed.wait(agent).unwrap_or_else(PoisonError::into_inner);
            }
            match self.processes.spawn(&mut self.agent_command()) {
                Ok(pid) => {
                    agent.pid = Some(pid);
                    drop(agent);
                    self.processes.wait(pid);
                    self.agent().pid = None;
                    self.agent_changed.notify_all();
                }
                Err(error) => eprintln!("drover: start the agent of {}: {error}", self.spec.id),
            }
            std::thread::sleep(RESTART_PAUSE);
        }
    }

    /// Runs user-data and returns its exit code.
    fn run_user_data(&self, script: &str) -> anyhow::Result<i32> {
        let dir = self.inside("var/lib/cloud/instance");
        fs::create_dir_all(&dir)?;
        let file = dir.join("user-data.sh");
        fs::write(&file, script)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700))?;
        let log = File::create(self.inside("var/log/user-data.log"))?;
        let mut command = if script.starts_with("#!") {
            Command::new(&file)
        } else {
            let mut shell = Command::new("/bin/sh");
            shell.arg(&file);
            shell
        };
        command.stdout(log.try_clone()?).stderr(log);
        let pid = self.processes.spawn(self.set_environment(&mut command)).context("start user-data")?;
        Ok(self.processes.wait(pid))
    }

    /// Returns the path of a file inside the instance.
    fn inside(&self, path: &str) -> PathBuf {
        match self.spec.isolation {
            Isolation::Plain => self.prefix.join(path),
            _ => PathBuf::from("/").join(path),
        }
    }

    /// Gives a command the environment that everything in the instance starts with.
    fn set_environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear().stdin(Stdio::null()).process_group(0);
        command.env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
        if self.spec.isolation == Isolation::Plain {
            let root = self.prefix.display();
            command.env("PATH", format!("{root}/usr/local/bin:{PATH}")).env("HOME", root.to_string());
            command.env("DROVER_ROOT", &self.prefix).env("ADDRESS", self.spec.address.to_string());
            command.env("PORT", plain_port(80).to_string());
        } else {
            // The network is the instance's own: there is nobody else to reach what listens on all of it.
            command.env("ADDRESS", "0.0.0.0").env("PORT", "80");
        }
        command.envs(self.spec.env.iter().map(|(name, value)| (name, value)))
    }

    fn agent_command(&self) -> Command {
        // Not by the path in the instance: a script may have replaced that file.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("drover").arg("sim-agent");
        self.set_environment(&mut command);
        let log = self.inside("var/log/drover-sim-agent.log");
        if let Ok(log) = File::options().create(true).append(true).open(log) {
            command.stdout(Stdio::null()).stderr(log);
        }
        command.env("AWS_SSM_INSTANCE_ID", &self.spec.id);
        command.env("SIM_AGENT_URL", &self.spec.agent_url).env("SIM_AGENT_TOKEN", &self.spec.agent_token);
        command.env("SIM_AGENT_BOOT", &self.boot);
        command.env("SIM_AGENT_TIME_SCALE", self.spec.time_scale.to_string());
        command.env("SIM_AGENT_STATE", self.inside(&format!("var/lib/amazon/ssm/{}/document", self.spec.id)));
        command
    }

    fn report(&self, body: Answer) {
        // Nobody listening means that the end is near.
        drop(wire::send(self.control.as_fd(), &Envelope { id: 0, body }, &[]));
    }

    /// Answers a request of the control socket.
    fn answer(&self, id: u64, ask: Ask, fds: Vec<OwnedFd>) {
        let result = match ask {
            Ask::Socket => {
                rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                    .map_err(io::Error::from)
                    .map(|socket| (Answer::Done, Some(socket)))
            }
            Ask::Listen(address) => TcpListener::bind(address)
                .map(|listener| (Answer::Done, Some(listener.into())))
                .map_err(|error| io::Error::other(format!("listen on {address} inside: {error}"))),
            Ask::Exec(argv) => self.exec(&argv, fds).map(|answer| (answer, None)),
            Ask::Agent(verb) => {
                self.act_on_agent(verb);
                Ok((Answer::Done, None))
            }
            other => Err(io::Error::other(format!("pid 1 does not do {other:?}"))),
        };
        let (body, fd) = result.unwrap_or_else(|error| (Answer::Failed(error.to_string()), None));
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        if let Err(error) = wire::send(self.control.as_fd(), &Envelope { id, body }, &fds) {
            // Nobody listening means that the end is near.
            drop(writeln!(io::stderr(), "drover: answer from {}: {error}", self.spec.id));
        }
    }

    /// Runs a command and waits for it to end.
    fn exec(&self, argv: &[String], fds: Vec<OwnedFd>) -> io::Result<Answer> {
        if argv.is_empty() {
            return Ok(Answer::Done);
        }
        let mut fds = fds.into_iter();
        let (Some(stdout), Some(stderr)) = (fds.next(), fds.next()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // The shell finds the program, and says so when there is none.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$@""#, "sh"]).args(argv).stdout(stdout).stderr(stderr);
        let pid = self.processes.spawn(self.set_environment(&mut command))?;
        // The command holds the pipes' ends: the reader must see them close with the process.
        drop(command);
        Ok(Answer::Exit(self.processes.wait(pid)))
    }

    /// Starts, stops, kills, freezes or thaws the agent.
    fn act_on_agent(&self, verb: AgentVerb) {
        let mut agent = self.agent();
        let signal = |signal, pid: Option<Pid>| {
            if let Some(pid) = pid {
                self.processes.signal(pid, signal, false);
            }
        };
        match verb {
            AgentVerb::Start => agent.wanted = true,
            AgentVerb::Stop => {
                agent.wanted = false;
                signal(Signal::SIGTERM, agent.pid);
                while agent.pid.is_some() && !agent.wanted {
                    agent = self.agent_changed.wait(agent).unwrap_or_else(PoisonError::into_inner);
                }
            }
            AgentVerb::Kill => {
                signal(Signal::SIGKILL, agent.pid);
                kill_workers();
            }
            AgentVerb::Freeze => signal(Signal::SIGSTOP, agent.pid),
            AgentVerb::Thaw => signal(Signal::SIGCONT, agent.pid),
        }
        drop(agent);
        self.agent_changed.notify_all();
    }

    fn agent(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the agent's workers and the process groups of their scripts.
fn kill_workers() {
    use nix::sys::signal::{kill, killpg};
    let all = processes::all();
    // Only this instance's: in a plain folder all of the machine's processes are in sight.
    let mut ours = vec![Pid::this().as_raw()];
    let mut at = 0;
    while let Some(parent) = ours.get(at).copied() {
        ours.extend(all.iter().filter(|seen| seen.parent == parent).map(|seen| seen.pid));
        at += 1;
    }
    let workers = all.iter().filter(|seen| {
        ours.contains(&seen.pid) && seen.words.get(1..3).is_some_and(|words| words == ["sim-agent", "worker"])
    });
    for worker in workers {
        let _ = kill(Pid::from_raw(worker.pid), Signal::SIGKILL);
        for script in all.iter().filter(|seen| seen.parent == worker.pid) {
            let _ = killpg(Pid::from_raw(script.pid), Signal::SIGKILL);
        }
    }
}
