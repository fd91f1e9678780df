//! Simulated instances: a process tree in pid, mount, network, uts and ipc namespaces of its own, with an agent
//! inside that runs what Systems Manager's agent would run. Must not import anything of the daemon.
//!
//! Three processes of this same binary make an instance. The *keeper* holds the file system (a tmpfs with overlays
//! over the machine's own directories) so that a reboot keeps it; for each boot a *launcher* makes the other
//! namespaces, and its child is *pid 1*. All die when the simulated cloud does: each sees its control socket close.
//! As root the namespaces are made directly, else through a user namespace; where neither is allowed an instance is a
//! plain folder with a loopback address. What is missing then is said by [`Host::limits`].

pub(super) mod agent;
mod boot;
mod devices;
mod exec;
mod init;
mod keeper;
mod machine;
mod netlink;
mod processes;
mod reach;
mod rootfs;
mod spec;
mod stream;
mod wire;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use exec::Executed;
pub use spec::{AgentSpec, HostSpec};
pub use stream::Stream;

use machine::Machine;
use wire::{AgentVerb, Answer, Ask, BootSpec, Isolation};

/// How long a connection attempt to an instance without network takes to fail: the balancer's connect time-out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running simulated instance; dropping it kills it.
pub struct Host {
    spec: HostSpec,
    address: Ipv4Addr,
    limits: Vec<String>,
    isolation: Isolation,
    /// None once terminated; held during a reboot.
    machine: tokio::sync::Mutex<Option<Machine>>,
    network: Mutex<Network>,
    booted: watch::Sender<bool>,
}

/// The state of an instance's network as the simulated cloud sees it.
struct Network {
    /// What sockets are asked of; None while the instance is down.
    control: Option<Arc<wire::Wire>>,
    /// Ends every open connection when cancelled.
    open: CancellationToken,
    cut: bool,
    reach: Vec<SocketAddr>,
}

impl Host {
    /// Launches an instance; returns when pid 1 runs, before user-data has ended.
    ///
    /// # Errors
    /// Where not even the plain folder can be had.
    pub async fn launch(spec: HostSpec) -> anyhow::Result<Host> {
        let mut reach = spec.reach.clone();
        let agent = spec.agent.url.strip_prefix("http://").unwrap_or(&spec.agent.url).trim_end_matches('/');
        let agent = agent
            .parse::<SocketAddr>()
            .with_context(|| format!("read the agent's service address {}", spec.agent.url))?;
        if !reach.contains(&agent) {
            reach.push(agent);
        }
        let booted = watch::Sender::new(false);
        let (mut machine, mut limits) = Machine::prepare(&spec).await?;
        let mut address = private_address(&spec.id, machine.isolation(), spec.share_network);
        let mut started = machine.boot(boot_spec(&spec, &machine, address, true), report(&booted)).await;
        if let (Err(error), true) = (&started, machine.isolation() != Isolation::Plain) {
            limits.clear();
            limits.push(format!("namespaces cannot be had here: {error:#}"));
            machine.end().await;
            machine = Machine::plain(&spec, &mut limits)?;
            address = private_address(&spec.id, Isolation::Plain, spec.share_network);
            started = machine.boot(boot_spec(&spec, &machine, address, true), report(&booted)).await;
        }
        let control = started.with_context(|| format!("boot instance {}", spec.id))?;
        let host = Host {
            address,
            limits,
            isolation: machine.isolation(),
            machine: tokio::sync::Mutex::new(Some(machine)),
            network: Mutex::new(Network {
                control: Some(Arc::new(control)),
                open: CancellationToken::new(),
                cut: false,
                reach,
            }),
            booted,
            spec,
        };
        host.open_reach().await;
        Ok(host)
    }

    /// The instance id.
    pub fn id(&self) -> &str {
        &self.spec.id
    }

    /// The instance's private address; it means something only inside its own network.
    pub fn private_address(&self) -> Ipv4Addr {
        self.address
    }

    /// What this machine's privileges can't give this instance, in words; empty when all is there.
    pub fn limits(&self) -> &[String] {
        &self.limits
    }

    /// Connects to a port of the instance's private address.
    ///
    /// # Errors
    /// As any connect; `TimedOut` after ten seconds while the network is cut, `NotConnected` once it is down.
    pub async fn connect(&self, port: u16) -> io::Result<Stream> {
        let (control, open) = {
            let network = self.network();
            (network.control.clone(), (!network.cut).then(|| network.open.clone()))
        };
        let Some(open) = open else {
            tokio::time::sleep(CONNECT_TIMEOUT).await;
            return Err(io::ErrorKind::TimedOut.into());
        };
        let connecting = async {
            let stream = match (self.isolation, control) {
                (Isolation::Plain, _) => TcpStream::connect((self.address, plain_port(port))).await?,
                (_, None) => return Err(io::ErrorKind::NotConnected.into()),
                _ if self.spec.share_network => TcpStream::connect((self.address, port)).await?,
                (_, Some(control)) => {
                    let (_, fds) = control.ask(Ask::Socket, &[]).await?;
                    let socket = fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof)?;
                    let socket = std::net::TcpStream::from(socket);
                    socket.set_nonblocking(true)?;
                    TcpSocket::from_std_stream(socket).connect((self.address, port).into()).await?
                }
            };
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        tokio::select! {
            stream = connecting => Ok(Stream::new(stream?, open.clone())),
            () = open.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Closes every connection into and out of the instance and lets none through.
    pub async fn cut_network(&self) {
        {
            let mut network = self.network();
            network.cut = true;
            network.open.cancel();
        }
        self.plain_agent(AgentVerb::Freeze).await;
    }

    /// Ends what [`Host::cut_network`] began.
    pub async fn restore_network(&self) {
        {
            let mut network = self.network();
            if !network.cut {
                return;
            }
            network.cut = false;
            network.open = CancellationToken::new();
        }
        self.plain_agent(AgentVerb::Thaw).await;
        self.open_reach().await;
    }

    /// In a plain folder the agent uses the machine's own network: a cut one is an agent that stands still.
    async fn plain_agent(&self, verb: AgentVerb) {
        if self.isolation == Isolation::Plain {
            drop(self.agent(verb).await);
        }
    }

    /// Makes one more address of this machine reachable from inside, at once and after every reboot.
    ///
    /// # Errors
    /// Where it can't be listened on inside (taken there).
    pub async fn add_reach(&self, address: SocketAddr) -> io::Result<()> {
        {
            let mut network = self.network();
            if network.reach.contains(&address) {
                return Ok(());
            }
            network.reach.push(address);
        }
        self.listen_inside(address).await
    }

    async fn open_reach(&self) {
        let reach = self.network().reach.clone();
        for address in reach {
            if let Err(error) = self.listen_inside(address).await {
                tracing::warn!(instance = self.spec.id, %address, %error, "an address can't be reached from inside");
            }
        }
    }

    async fn listen_inside(&self, address: SocketAddr) -> io::Result<()> {
        let (control, open, cut) = {
            let network = self.network();
            (network.control.clone(), network.open.clone(), network.cut)
        };
        match control {
            Some(control) if self.isolation != Isolation::Plain && !self.spec.share_network && !cut => {
                reach::forward(&control, address, open).await
            }
            _ => Ok(()),
        }
    }

    /// Kills everything in the instance, at once and for good; returns when all is dead.
    pub async fn terminate(&self) {
        let machine = self.machine.lock().await.take();
        self.go_down();
        if let Some(machine) = machine {
            machine.end().await;
        }
    }

    /// Kills everything in the instance and boots it again: its files stay (but for /tmp and /run), user-data
    /// does not run again.
    ///
    /// # Errors
    /// Where it is terminated, or does not come up again.
    pub async fn reboot(&self) -> anyhow::Result<()> {
        let mut guard = self.machine.lock().await;
        let machine = guard.as_mut().with_context(|| format!("reboot {}: it is terminated", self.spec.id))?;
        self.go_down();
        machine.halt().await.with_context(|| format!("stop {} for its reboot", self.spec.id))?;
        let spec = boot_spec(&self.spec, machine, self.address, false);
        let control = machine
            .boot(spec, report(&self.booted))
            .await
            .with_context(|| format!("boot {} again", self.spec.id))?;
        {
            let mut network = self.network();
            network.control = Some(Arc::new(control));
            if !network.cut {
                network.open = CancellationToken::new();
            }
        }
        drop(guard);
        self.open_reach().await;
        Ok(())
    }

    fn go_down(&self) {
        let mut network = self.network();
        network.control = None;
        network.open.cancel();
    }

    /// Whether user-data has ended since the launch.
    pub async fn booted(&self) -> bool {
        *self.booted.borrow()
    }

    /// Waits until user-data has ended.
    pub async fn wait_booted(&self) {
        let mut booted = self.booted.subscribe();
        // The sender lives as long as self does.
        drop(booted.wait_for(|done| *done).await);
    }

    /// Whether pid 1 is alive.
    pub fn running(&self) -> bool {
        self.network().control.as_ref().is_some_and(|control| !control.gone.is_cancelled())
    }

    /// Stops the agent and keeps it stopped; the commands in work go on.
    ///
    /// # Errors
    /// Where the instance is not running.
    pub async fn stop_agent(&self) -> io::Result<()> {
        self.agent(AgentVerb::Stop).await
    }

    /// Starts the agent if it is stopped.
    ///
    /// # Errors
    /// Where the instance is not running.
    pub async fn start_agent(&self) -> io::Result<()> {
        self.agent(AgentVerb::Start).await
    }

    /// Kills the agent with its workers and their scripts (a hook in a process group of its own survives); as a
    /// service it is started again at once.
    ///
    /// # Errors
    /// Where the instance is not running.
    pub async fn kill_agent(&self) -> io::Result<()> {
        self.agent(AgentVerb::Kill).await
    }

    async fn agent(&self, verb: AgentVerb) -> io::Result<()> {
        self.control()?.ask(Ask::Agent(verb), &[]).await.map(drop)
    }

    fn control(&self) -> io::Result<Arc<wire::Wire>> {
        self.network()
            .control
            .clone()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the instance is not running"))
    }

    fn network(&self) -> std::sync::MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// The port that stands for this one in a plain folder, where low ports may not be had.
fn plain_port(port: u16) -> u16 {
    if port < 1024 { port + 8000 } else { port }
}

fn report(booted: &watch::Sender<bool>) -> impl Fn(Answer) + Send + use<> {
    let booted = booted.clone();
    move |answer| {
        if let Answer::Booted(_) = answer {
            booted.send_replace(true);
        }
    }
}

fn boot_spec(spec: &HostSpec, machine: &Machine, address: Ipv4Addr, first: bool) -> BootSpec {
    BootSpec {
        id: spec.id.clone(),
        isolation: machine.isolation(),
        root: machine.root(),
        address,
        share_network: spec.share_network,
        first,
        user_data: spec.user_data.clone(),
        env: spec.env.clone(),
        agent_url: spec.agent.url.trim_end_matches('/').to_owned(),
        agent_token: spec.agent.token.clone(),
        time_scale: spec.time_scale,
    }
}

/// An address made from the instance id: 10.x.y.z inside its own network, 127.x.y.z without one.
fn private_address(id: &str, isolation: Isolation, share_network: bool) -> Ipv4Addr {
    // FNV-1a: any spread will do, as long as it is the same at every boot.
    let hash =
        id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [_, b, c, d] = hash.to_be_bytes();
    match isolation {
        Isolation::Root | Isolation::User if !share_network => Ipv4Addr::new(10, b, c, d.clamp(2, 254)),
        _ => Ipv4Addr::new(127, b | 1, c, d.clamp(2, 254)),
    }
}

/// Runs the hidden subcommand that these arguments (program name first) ask for, if they ask for one. Must be called
/// before any thread exists: a user namespace can't be entered by a process that has several.
pub fn hidden_subcommand(argv: &[OsString]) -> Option<anyhow::Result<ExitCode>> {
    let words: Vec<String> = argv.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (first, rest) = words.split_first()?;
    let result = match first.as_str() {
        "sim-instance" => match rest.first().map(String::as_str) {
            Some("keeper") => keeper::main(),
            Some("launcher") => boot::launcher(),
            Some("init") => init::main(),
            _ => Err(anyhow::anyhow!("sim-instance is started by `drover sim`, not by hand")),
        },
        "sim-agent" => agent::main(rest),
        "sample-service" => super::sample::service::main(rest),
        _ => return None,
    };
    Some(result.map(|()| ExitCode::SUCCESS))
}
