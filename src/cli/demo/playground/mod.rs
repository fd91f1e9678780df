//! A cloud and a daemon of one's own: `drover sim` and `drover serve` as processes, with one application in them.
//!
//! The demo runs in it, and so do the end-to-end tests: what they try is what people run.

mod fleet;
mod process;
mod setup;

use crate::engine::Secrets;
use anyhow::Context as _;
use process::{end, start};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::{Child, Command};

pub use setup::{CloudAccess, GROUP, Named, REPOSITORY, Setup};

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
        let path = playground.config_path();
        std::fs::write(&path, playground.setup.config(&playground.cloud))
            .with_context(|| format!("writing {}", path.display()))?;
        playground.start_daemon().await?;
        playground.token = std::fs::read_to_string(playground.setup.data.join("daemon/admin-token"))
            .context("reading the daemon's first token")?
            .trim()
            .to_owned();
        playground.make_fleet().await?;
        Ok(playground)
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
