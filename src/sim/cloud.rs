//! Carries out what the state orders: starts and kills process trees, makes health checks, serves the balancers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::balancer::Balancer;
use super::balancing::Pool;
use super::elb::{Found, Probe};
use super::github::GitHub;
use super::instance::{AgentSpec, Host, HostSpec};
use super::paper::{Uplink, carry::carry};
use super::state::{Effect, State};
use super::wire::sigv4::Keys;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(25);
/// Process trees being started at the same time.
const LAUNCHES: usize = 4;

/// What callers need to show.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// AWS keys.
    pub keys: Keys,
    /// Bearer token of the control API.
    pub token: String,
    /// Bearer token of the GitHub API.
    pub github: String,
    /// Bearer token of the agents.
    pub agent: String,
}

/// The running cloud.
pub struct Cloud {
    state: Mutex<State>,
    /// GitHub's side.
    pub github: GitHub,
    /// What callers need to show.
    pub secrets: Secrets,
    /// Where the API is served.
    pub address: SocketAddr,
    /// Cancelled at the end.
    pub stop: CancellationToken,
    /// Told when messages wait for agents.
    pub agents: Notify,
    balancers: Mutex<Vec<(String, Arc<Balancer>)>>,
    data: PathBuf,
    launches: Semaphore,
    tasks: TaskTracker,
    /// What paper instances push their logs with.
    pub uplink: Uplink,
}

impl Cloud {
    /// A cloud that keeps its instances' files below `data`.
    pub fn new(
        state: State,
        github: GitHub,
        secrets: Secrets,
        address: SocketAddr,
        data: PathBuf,
        uplink: Uplink,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            github,
            secrets,
            address,
            stop: CancellationToken::new(),
            agents: Notify::new(),
            balancers: Mutex::default(),
            data,
            launches: Semaphore::new(LAUNCHES),
            tasks: TaskTracker::new(),
            uplink,
        })
    }

    /// `http://host:port` of the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the state, then sets off what that ordered.
    pub fn with<R>(self: &Arc<Self>, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, effects) = {
            let mut state = self.lock();
            let result = work(&mut state);
            (result, std::mem::take(&mut state.effects))
        };
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        result
    }

    /// Looks at the time until the end.
    pub async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = interval.tick() => self.with(State::tick),
            }
        }
    }

    /// Ends everything: the servers, then all process trees.
    pub async fn shut_down(self: &Arc<Self>) {
        self.stop.cancel();
        self.launches.close();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        let hosts: Vec<Arc<Host>> = self.lock().instances.values().filter_map(|i| i.host.clone()).collect();
        futures_util::future::join_all(hosts.iter().map(|h| h.terminate())).await;
    }

    /// An instance's process tree, while it has one.
    pub fn host(&self, id: &str) -> Option<Arc<Host>> {
        self.lock().instances.get(id).and_then(|i| i.host.clone())
    }

    fn carry_out(self: &Arc<Self>, effect: Effect) {
        let cloud = Arc::clone(self);
        match effect {
            Effect::WakeAgents => self.agents.notify_waiters(),
            Effect::Launch(id) if self.with(|s| s.launch_paper(&id)) => {}
            Effect::RunOnPaper { instance, command, cancelled } => {
                drop(tokio::spawn(carry(cloud, instance, command, cancelled)));
            }
            Effect::Launch(id) => drop(self.tasks.spawn(async move { cloud.launch(id).await })),
            Effect::Listen { target_group, listener } => cloud.listen(target_group, listener),
            Effect::CloseTarget { target_group, instance } => {
                let balancers = self.balancers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, balancer)) = balancers.iter().find(|(arn, _)| *arn == target_group) {
                    balancer.close_target(&instance);
                }
            }
            Effect::HealthCheck(probe) => drop(tokio::spawn(async move {
                let found = cloud.check(&probe).await;
                cloud.with(|s| s.checked(&probe, &found));
            })),
            other => drop(tokio::spawn(async move { cloud.to_host(other).await })),
        }
    }

    async fn to_host(self: Arc<Self>, effect: Effect) {
        let id = match &effect {
            Effect::Terminate(id) | Effect::Reboot(id) | Effect::Cut(id) | Effect::Restore(id) => id.clone(),
            Effect::ArmFault { instance, .. } => instance.clone(),
            _ => return,
        };
        let Some(host) = self.host(&id) else { return self.with(|s| s.carry_out_on_paper(&effect)) };
        match effect {
            Effect::Terminate(_) => {
                host.terminate().await;
                self.with(|s| s.host_gone(&id));
            }
            Effect::Reboot(_) => {
                if let Err(e) = host.reboot().await {
                    tracing::error!(instance = id, "the instance could not be rebooted: {e:#}");
                }
            }
            Effect::Cut(_) => host.cut_network().await,
            Effect::Restore(_) => host.restore_network().await,
            Effect::ArmFault { event, exit, message, times, .. } => {
                if let Err(e) = host.arm_fault(&event, exit, &message, times).await {
                    tracing::error!(instance = id, "the fault could not be armed: {e}");
                }
            }
            _ => {}
        }
    }

    async fn launch(self: Arc<Self>, id: String) {
        let Ok(permit) = self.launches.acquire().await else { return };
        let spec = self.with(|s| {
            let group = s.groups.get(&s.instances.get(&id)?.group)?;
            let mut env = group.env.clone();
            env.push(("AWS_SSM_INSTANCE_ID".to_owned(), id.clone()));
            let mut reach = s.reach.clone();
            reach.push(self.address);
            Some(HostSpec {
                id: id.clone(),
                data_dir: self.data.join("instances"),
                user_data: group.user_data.clone(),
                env,
                reach,
                share_network: s.share_network,
                agent: AgentSpec { url: self.url(), token: self.secrets.agent.clone() },
                time_scale: s.clock.scale(),
                program: None,
            })
        });
        let Some(spec) = spec else { return };
        let launched = Host::launch(spec).await;
        drop(permit);
        match launched {
            Ok(host) => {
                let host = Arc::new(host);
                self.with(|s| s.launched(&id, Arc::clone(&host)));
                // The handle stays; the flag tells who watches the world that user-data has run.
                while !self.stop.is_cancelled() && self.host(&id).is_some() {
                    if host.booted().await {
                        self.with(|s| s.booted(&id));
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Err(e) => {
                tracing::error!(instance = id, "the instance could not be launched: {e:#}");
                self.with(|s| s.launch_failed(&id, &format!("{e:#}")));
            }
        }
    }

    fn listen(self: Arc<Self>, target_group: String, listener: std::net::TcpListener) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let balancer = Balancer::new(Arc::new(Pool::new(&self, &target_group)));
                drop(tokio::spawn(Arc::clone(&balancer).serve(listener, self.stop.clone())));
                let mut balancers = self.balancers.lock().unwrap_or_else(PoisonError::into_inner);
                balancers.push((target_group, balancer));
            }
            Err(e) => tracing::error!(target_group, "the balancer can't listen: {e}"),
        }
    }

    async fn check(&self, probe: &Probe) -> Found {
        let (host, fault) = {
            let state = self.lock();
            let instance = state.instances.get(&probe.instance);
            (instance.and_then(|i| i.host.clone()), instance.and_then(|i| i.health_fault))
        };
        match fault {
            Some((true, _)) => {
                tokio::time::sleep(probe.timeout).await;
                return Found::Nothing;
            }
            Some((false, _)) => return Found::Status(503),
            None => {}
        }
        let Some(host) = host else { return Found::Broken };
        match tokio::time::timeout(probe.timeout, get_status(&host, probe)).await {
            Ok(Ok(status)) => Found::Status(status),
            Ok(Err(_)) => Found::Broken,
            Err(_) => Found::Nothing,
        }
    }
}

/// A GET of the probe's path, as far as its status line.
async fn get_status(host: &Host, probe: &Probe) -> std::io::Result<u16> {
    let mut stream = host.connect(probe.port).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n",
        probe.path, probe.instance, probe.port
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') {
        if head.len() > 1024 || stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|l| l.get(2..5)).and_then(|s| s.parse().ok());
    status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
