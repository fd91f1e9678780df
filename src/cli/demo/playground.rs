//! A cloud and a daemon of one's own: `drover sim` and `drover serve` as processes, with one application in them.
//!
//! The demo runs in it, and so do the end-to-end tests: what they try is what people run.

use crate::{
    engine::Secrets,
    revision::appspec::AppSpec,
    revision::bundle::{Form, Packed},
    revision::script::{Kind, Row, Spec, render},
    rollout::event::{LifecycleEvent, RUN},
};
use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::Instant,
};

/// The repository's name in the simulated GitHub.
pub const REPOSITORY: &str = "acme/sample";
/// The deployment group.
pub const GROUP: &str = "sample/demo";
/// A process says that it is ready within this, on a busy machine too.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The fleet is up and healthy within this.
const FLEET_TIMEOUT: Duration = Duration::from_secs(180);

/// A fleet that isn't by then may never be: it is said why.
const SAY_AFTER: Duration = Duration::from_secs(20);

/// What kind of playground.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The drover executable.
    pub drover: PathBuf,
    /// Where everything is kept.
    pub data: PathBuf,
    /// A git repository with an `appspec.yml`.
    pub repository: PathBuf,
    /// The branch of it that is deployed.
    pub branch: String,
    /// The revision that the fleet runs at the start.
    pub first: String,
    /// What its `appspec.yml` says.
    pub first_appspec: AppSpec,
    /// Forks of the repository.
    pub forks: Vec<PathBuf>,
    /// Instances in the Auto Scaling group.
    pub instances: u32,
    /// They are paper instances, without processes.
    pub paper: bool,
    /// The port that targets are registered with.
    pub port: u16,
    /// What the simulated cloud's waits are divided by.
    pub time_scale: f64,
    /// Seed of all chance.
    pub seed: u64,
    /// `deregistration_delay.timeout_seconds`, before the time scale.
    pub deregistration_delay: u32,
    /// Health-check interval in seconds, before the time scale; AWS's range is 5–300.
    pub health_interval: u32,
    /// What health checks ask for.
    pub health_path: String,
    /// Instances have this machine's network.
    pub share_network: bool,
    /// More lines of the application's table in `drover.toml`.
    pub application: String,
    /// The policy's table in `drover.toml`, as TOML lines.
    pub policy: String,
    /// How often the daemon asks AWS, as written in `drover.toml`.
    pub poll: String,
    /// Where instances reach the daemon, port 0 for the one that it listens on; none: nothing comes in.
    pub public_url: Option<String>,
    /// The IAM policy of the instances' role, for the agent's own calls; null: Run Command alone.
    pub instance_policy: Value,
    /// A PostgreSQL database instead of a file.
    pub database: Option<String>,
    /// Where the daemon listens.
    pub listen: String,
}

/// How to get into the simulated cloud.
#[derive(Clone, Debug, Deserialize)]
pub struct CloudAccess {
    /// Its address.
    pub url: String,
    /// Its control API's token.
    pub token: String,
    access_key_id: String,
    secret_access_key: String,
    region: String,
    github_token: String,
}

/// Running processes; they end with it.
pub struct Playground {
    /// What it was made from.
    pub setup: Setup,
    /// The simulated cloud.
    pub cloud: CloudAccess,
    /// The daemon's address.
    pub url: String,
    /// The daemon's token.
    pub token: String,
    /// What webhooks are signed with.
    pub webhook_secret: String,
    /// The load balancer's address.
    pub service: String,
    /// What the daemon's environment has besides, from its next start on; empty at first.
    pub environment: Vec<(String, String)>,
    http: reqwest::Client,
    sim: Child,
    daemon: Option<Child>,
}

impl Playground {
    /// Starts everything and waits until the fleet is healthy.
    pub async fn start(setup: Setup) -> anyhow::Result<Playground> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let mut command = Command::new(&setup.drover);
        command
            .args(["sim", "--until-stdin-closes", "--listen", "127.0.0.1:0", "--data"])
            .arg(setup.data.join("cloud"));
        command.arg("--repo").arg(named(&setup.repository));
        for fork in &setup.forks {
            command.arg("--fork").arg(named(fork));
        }
        command.args(["--time-scale", &setup.time_scale.to_string(), "--seed", &setup.seed.to_string()]);
        if setup.share_network {
            command.arg("--share-network");
        }
        let log = setup.data.join("sim.log");
        let (sim, ready) = start(command, &log).await.context("starting the simulated cloud")?;
        let cloud: CloudAccess = serde_json::from_value(ready)?;
        let mut playground = Playground {
            url: String::new(),
            token: String::new(),
            webhook_secret: Secrets::fresh(),
            service: String::new(),
            environment: Vec::new(),
            setup,
            cloud,
            http,
            sim,
            daemon: None,
        };
        playground.write_config()?;
        playground.start_daemon().await?;
        playground.token = std::fs::read_to_string(playground.setup.data.join("daemon/admin-token"))
            .context("reading the daemon's first token")?
            .trim()
            .to_owned();
        playground.make_fleet().await?;
        Ok(playground)
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let (setup, cloud) = (&self.setup, &self.cloud);
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key} = {value:?}\n")).unwrap_or_default()
        };
        let text = format!(
            "[server]\n{}{}listen = {:?}\ndata = {:?}\npoll = {:?}\n\n[aws]\nregion = {:?}\nendpoint = {:?}\ncall_budget = {}\n\n[github]\napi = {:?}\n{}\n\
             [applications.sample]\nrepository = {REPOSITORY:?}\nbranch = {:?}\n{}\n[applications.sample.groups.demo]\n\
             auto_scaling_groups = [\"sample\"]\nauto_deploy = true\n\n[applications.sample.groups.demo.policy]\n{}\n",
            line("public_url", &setup.public_url),
            line("database", &setup.database),
            setup.listen,
            setup.data.join("daemon"),
            setup.poll,
            cloud.region,
            cloud.url,
            // The simulated limits refill as fast as its time runs.
            (30.0 * setup.time_scale.max(1.0)) as u32,
            cloud.url,
            if setup.public_url.is_some() { "" } else { "poll_branches = \"2s\"\n" },
            setup.branch,
            setup.application,
            setup.policy,
        );
        let path = self.config_path();
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The daemon's process, while it runs.
    pub fn daemon_id(&self) -> Option<u32> {
        self.daemon.as_ref()?.id()
    }

    /// The daemon's configuration.
    pub fn config_path(&self) -> PathBuf {
        self.setup.data.join("drover.toml")
    }

    /// The command that starts the daemon.
    pub fn daemon_command(&self) -> Command {
        let mut command = self.beside_daemon("serve");
        command.arg("--until-stdin-closes");
        command
    }

    /// A subcommand with the configuration and the environment of the daemon.
    pub fn beside_daemon(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.setup.drover);
        command
            .env("AWS_ACCESS_KEY_ID", &self.cloud.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.cloud.secret_access_key)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("GITHUB_TOKEN", &self.cloud.github_token)
            .envs(self.environment.clone())
            .args([subcommand, "--config"])
            .arg(self.config_path());
        if self.setup.public_url.is_some() {
            command.env("DROVER_WEBHOOK_SECRET", &self.webhook_secret);
        }
        command
    }

    /// Starts the daemon, for the first time or again, at the same address.
    pub async fn start_daemon(&mut self) -> anyhow::Result<()> {
        let mut command = self.daemon_command();
        if !self.url.is_empty() {
            command.args(["--listen", self.url.trim_start_matches("http://")]);
        }
        let log = self.setup.data.join("daemon.log");
        let (daemon, ready) = start(command, &log).await.context("starting the daemon")?;
        self.daemon = Some(daemon);
        let url = ready["url"].as_str().context("the daemon didn't say its address")?;
        if self.url.is_empty() {
            self.url = url.to_owned();
            if let Some(public) = &self.setup.public_url {
                let reached = if public.ends_with(":0") { url } else { public };
                self.control("reach", &json!({ "address": reached.trim_start_matches("http://") })).await?;
            }
        }
        Ok(())
    }

    /// Kills the daemon as a power cut would.
    pub async fn kill_daemon(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().await.context("killing the daemon")?;
        }
        Ok(())
    }

    /// Whether the daemon ends by itself within this time; then [`Playground::start_daemon`] may start another.
    pub async fn daemon_ended(&mut self, within: Duration) -> anyhow::Result<bool> {
        let Some(daemon) = &mut self.daemon else { return Ok(true) };
        // Waiting closes standard input, and that would end the daemon.
        let stdin = daemon.stdin.take();
        let ended = tokio::time::timeout(within, daemon.wait()).await;
        daemon.stdin = stdin;
        let Ok(status) = ended else { return Ok(false) };
        status.context("waiting for the daemon's end")?;
        self.daemon = None;
        Ok(true)
    }

    /// `POST /_sim/…`.
    pub async fn control(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request =
            self.http.post(format!("{}/_sim/{path}", self.cloud.url)).bearer_auth(&self.cloud.token);
        let answer = request.json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(status.is_success(), "the simulated cloud refused {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// `GET /_sim/…`.
    pub async fn look(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}/_sim/{path}", self.cloud.url)).bearer_auth(&self.cloud.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// The ids of the fleet's instances.
    pub async fn instances(&self) -> anyhow::Result<Vec<String>> {
        let world = self.look("world").await?;
        let instances = world["groups"][0]["instances"].as_array().cloned().unwrap_or_default();
        Ok(instances.iter().filter_map(|instance| instance["id"].as_str()).map(str::to_owned).collect())
    }

    async fn make_fleet(&mut self) -> anyhow::Result<()> {
        let setup = &self.setup;
        if !setup.instance_policy.is_null() {
            self.control("instance-policy", &setup.instance_policy).await?;
        }
        let world = json!({
            "target_groups": [{
                "name": "sample",
                "port": setup.port,
                "health_check": {
                    "path": setup.health_path, "interval": setup.health_interval, "timeout": 2,
                    "healthy_threshold": 2, "unhealthy_threshold": 2,
                },
                "deregistration_delay": setup.deregistration_delay,
                "slow_start": 0,
                "listener_port": 0,
            }],
            "groups": [{
                "name": "sample",
                "min": setup.instances,
                "max": setup.instances + 2,
                "desired": setup.instances,
                "zones": ["eu-central-1a", "eu-central-1b", "eu-central-1c"],
                "target_groups": ["sample"],
                "health_check_type": "EC2",
                "paper": setup.paper,
                "user_data": self.user_data(),
                "tags": {},
            }],
        });
        let made = self.control("world", &world).await?;
        let url = made["target_groups"][0]["url"].as_str();
        self.service = url.context("the simulated cloud made no load balancer")?.to_owned();
        let limit = Instant::now() + FLEET_TIMEOUT;
        let mut said = false;
        loop {
            let world = self.look("world").await?;
            let targets = world["target_groups"][0]["targets"].as_array().cloned().unwrap_or_default();
            let healthy = targets.iter().filter(|target| target["state"] == "healthy").count();
            let members = world["groups"][0]["instances"].as_array().cloned().unwrap_or_default();
            let agents = members.iter().filter(|member| member["agent_seen"] == true).count();
            if healthy.min(agents) == self.setup.instances as usize {
                return Ok(());
            }
            if !said && Instant::now() > limit - FLEET_TIMEOUT + SAY_AFTER {
                said = true;
                self.say_why(&members, agents).await;
            }
            if Instant::now() > limit {
                bail!(
                    "only {healthy} of {} instances became healthy; see {}",
                    self.setup.instances,
                    self.setup.data.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A fleet that doesn't come up: what one instance's hooks said, as far as they came.
    async fn say_why(&self, members: &[Value], agents: usize) {
        let [first, ..] = members else { return };
        let id = first["id"].as_str().unwrap_or_default();
        eprintln!(
            "the fleet is not healthy after {} s ({agents} of {} instances are up): waiting up to {} s for it",
            SAY_AFTER.as_secs(),
            self.setup.instances,
            FLEET_TIMEOUT.as_secs()
        );
        let script = "tail -n 20 /var/log/user-data.log 2>/dev/null; cat /opt/drover/*/attempts/*/log 2>/dev/null | tail -n 20";
        let argv = json!({ "argv": ["/bin/sh", "-c", script] });
        match self.control(&format!("instances/{id}/exec"), &argv).await {
            Ok(done) => {
                eprintln!("the last lines of the first revision's hooks on {id}:");
                for line in done["stdout"].as_str().unwrap_or_default().lines() {
                    eprintln!("  {}", crate::logs::clean::clean(line, false));
                }
                eprintln!(
                    "health checks ask for GET {} on port {}, and want a status of 200",
                    self.setup.health_path, self.setup.port
                );
            }
            Err(error) => eprintln!("{id} can't be looked into: {error:#}"),
        }
    }

    /// Installs and starts the first revision when an instance boots, with the same runner that deploys later.
    pub fn user_data(&self) -> String {
        render(&Spec {
            kind: Kind::Run,
            application: "sample",
            group: GROUP,
            deployment: 0,
            dispatch: "launch",
            sha: &self.setup.first,
            bundle_url: &format!("{}/repos/{REPOSITORY}/tarball/{}", self.cloud.url, self.setup.first),
            bundle_sha256: "",
            bundle_auth: &format!("Bearer {}", self.cloud.github_token),
            log_url: "",
            frames: false,
            keep: 5,
            log_max: 1 << 28,
            not_after: i64::MAX,
            events: &RUN,
            appspec: &self.setup.first_appspec,
            former: None,
            build: "",
            form: Form::TarGz,
            packed: &Packed::by_github(),
            stop: Default::default(),
            environment: &[],
            secrets: &[],
            rows: vec![Row {
                instance: "*".into(),
                attempt: 1,
                first: LifecycleEvent::AfterBlockTraffic,
                nonce: "launch".into(),
                token: "-".into(),
                good: Some(self.setup.first.clone()),
                zone: String::new(),
            }],
        })
    }

    /// Ends the daemon, then the cloud with its instances.
    pub async fn stop(mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            end(&mut daemon).await;
        }
        end(&mut self.sim).await;
    }
}

/// `OWNER/NAME=PATH`.
fn named(path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(format!("{REPOSITORY}="));
    text.push(path);
    text
}

/// Starts a process whose first line of output is `{"ready": …}`.
async fn start(mut command: Command, log: &Path) -> anyhow::Result<(Child, Value)> {
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
async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(20), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
