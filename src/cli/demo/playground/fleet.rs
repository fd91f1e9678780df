//! The playground's fleet: its groups in the simulated cloud, up and healthy on the first revision.

use super::{GROUP, Playground, REPOSITORY};
use crate::{
    revision::bundle::{Form, Packed},
    revision::script::{Kind, Row, Spec, render},
    rollout::event::{LifecycleEvent, RUN},
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// The fleet is up and healthy within this.
const FLEET_TIMEOUT: Duration = Duration::from_secs(180);

/// A fleet that isn't by then may never be: it is said why.
const SAY_AFTER: Duration = Duration::from_secs(20);

impl Playground {
    pub(super) async fn make_fleet(&mut self) -> anyhow::Result<()> {
        let setup = &self.setup;
        if !setup.instance_policy.is_null() {
            self.control("instance-policy", &setup.instance_policy).await?;
        }
        let target_groups: Vec<Value> = setup
            .names()
            .map(|named| {
                json!({
                    "name": named.cloud,
                    "port": setup.port,
                    "health_check": {
                        "path": setup.health_path, "interval": setup.health_interval, "timeout": 2,
                        "healthy_threshold": 2, "unhealthy_threshold": 2,
                    },
                    "deregistration_delay": setup.deregistration_delay,
                    "slow_start": 0,
                    "listener_port": 0,
                })
            })
            .collect();
        let user_data = self.user_data();
        let groups: Vec<Value> = setup
            .names()
            .map(|named| {
                json!({
                    "name": named.cloud,
                    "min": setup.instances,
                    "max": setup.instances + 2,
                    "desired": setup.instances,
                    "zones": ["eu-central-1a", "eu-central-1b", "eu-central-1c"],
                    "target_groups": [named.cloud],
                    "health_check_type": "EC2",
                    "paper": setup.paper,
                    "user_data": user_data,
                    "tags": {},
                })
            })
            .collect();
        let made =
            self.control("world", &json!({ "target_groups": target_groups, "groups": groups })).await?;
        let url = made["target_groups"][0]["url"].as_str();
        self.service = url.context("the simulated cloud made no load balancer")?.to_owned();
        self.wait_until_healthy().await
    }

    async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let wanted = (self.setup.groups * self.setup.instances) as usize;
        let limit = Instant::now() + FLEET_TIMEOUT;
        let mut said = false;
        loop {
            let world = self.look("world").await?;
            let healthy = all(&world["target_groups"], "targets").filter(|t| t["state"] == "healthy").count();
            let members: Vec<&Value> = all(&world["groups"], "instances").collect();
            let agents = members.iter().filter(|member| member["agent_seen"] == true).count();
            if healthy.min(agents) == wanted {
                return Ok(());
            }
            if !said && Instant::now() > limit - FLEET_TIMEOUT + SAY_AFTER {
                said = true;
                self.say_why(&members, agents).await;
            }
            if Instant::now() > limit {
                bail!(
                    "only {healthy} of {wanted} instances became healthy; see {}",
                    self.setup.data.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A fleet that doesn't come up: what one instance's hooks said, as far as they came.
    async fn say_why(&self, members: &[&Value], agents: usize) {
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
}

/// The entries of a list in each entry of a list.
fn all<'a>(of: &'a Value, list: &'a str) -> impl Iterator<Item = &'a Value> {
    of.as_array().into_iter().flatten().flat_map(move |one| one[list].as_array()).flatten()
}
