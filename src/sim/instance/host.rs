//! A running instance as the simulated cloud holds it: connecting to it, cutting its network, rebooting and killing it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::boot_spec::{BootSpec, Isolation, plain_port, private_address};
use super::machine::Machine;
use super::reach;
use super::spec::HostSpec;
use super::stream::Stream;
use super::wire::{AgentVerb, Answer, Ask, Wire};

/// How long a connection attempt to an instance without network takes to fail: the balancer's connect time-out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running simulated instance; dropping it kills it.
pub struct Host {
    spec: HostSpec,
    address: Ipv4Addr,
    limits: Vec<String>,
    isolation: Isolation,
    /// The machine; `None` once it is terminated. The lock is held during a reboot.
    machine: tokio::sync::Mutex<Option<Machine>>,
    network: Mutex<Network>,
    booted: watch::Sender<bool>,
}

/// The state of an instance's network as the simulated cloud sees it.
struct Network {
    /// The control socket of pid 1; `None` while the instance is down.
    control: Option<Arc<Wire>>,
    /// Ends every open connection when cancelled.
    open: CancellationToken,
    cut: bool,
    reach: Vec<SocketAddr>,
}

impl Host {
    /// Launches an instance; returns when pid 1 runs, before user-data has ended.
    ///
    /// # Errors
    /// Where not even a plain folder can be made.
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

    /// Returns the instance id.
    pub fn id(&self) -> &str {
        &self.spec.id
    }

    /// Returns the instance's private address, which is valid only inside its own network.
    pub fn private_address(&self) -> Ipv4Addr {
        self.address
    }

    /// Returns what this instance lacks for want of privileges on this machine, in words; empty if it lacks nothing.
    pub fn limits(&self) -> &[String] {
        &self.limits
    }

    /// Connects to a port of the instance's private address.
    ///
    /// # Errors
    /// As for any connection; `TimedOut` after ten seconds while the network is cut, `NotConnected` once the instance is
    /// down.
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
        self.act_on_plain_agent(AgentVerb::Freeze).await;
    }

    /// Restores the network after [`Host::cut_network`].
    pub async fn restore_network(&self) {
        {
            let mut network = self.network();
            if !network.cut {
                return;
            }
            network.cut = false;
            network.open = CancellationToken::new();
        }
        self.act_on_plain_agent(AgentVerb::Thaw).await;
        self.open_reach().await;
    }

    /// Freezes or thaws the agent in a plain folder: it uses the machine's own network, which can't be cut.
    async fn act_on_plain_agent(&self, verb: AgentVerb) {
        if self.isolation == Isolation::Plain {
            drop(self.act_on_agent(verb).await);
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

    /// Makes all reachable addresses reachable from inside.
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

    /// Kills everything in the instance at once, for good; returns when everything is dead.
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

    /// Closes the instance's network.
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
        self.act_on_agent(AgentVerb::Stop).await
    }

    /// Starts the agent if it is stopped.
    ///
    /// # Errors
    /// Where the instance is not running.
    pub async fn start_agent(&self) -> io::Result<()> {
        self.act_on_agent(AgentVerb::Start).await
    }

    /// Kills the agent with its workers and their scripts (a hook in a process group of its own survives); as a
    /// service it is started again at once.
    ///
    /// # Errors
    /// Where the instance is not running.
    pub async fn kill_agent(&self) -> io::Result<()> {
        self.act_on_agent(AgentVerb::Kill).await
    }

    /// Has pid 1 act on the agent.
    async fn act_on_agent(&self, verb: AgentVerb) -> io::Result<()> {
        self.control()?.ask(Ask::Agent(verb), &[]).await.map(drop)
    }

    /// Returns the control socket of pid 1.
    pub(super) fn control(&self) -> io::Result<Arc<Wire>> {
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

/// Returns the handler of pid 1's reports, which notes that user-data has ended.
fn report(booted: &watch::Sender<bool>) -> impl Fn(Answer) + Send + use<> {
    let booted = booted.clone();
    move |answer| {
        if let Answer::Booted(_) = answer {
            booted.send_replace(true);
        }
    }
}

/// Describes a boot for the processes of the instance.
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
