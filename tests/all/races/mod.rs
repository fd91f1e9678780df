//! Races with Auto Scaling, and with people who change a group in mid-rollout.

mod capacity;
mod launches;
mod others;
mod restore;

use crate::ground::{Play as _, Repository, policy, serving, small, until};
use drover::cli::demo::playground::Playground;
use serde_json::{Value, json};
use std::path::Path;

/// A fleet of `size` on the sample's version 3, quick drains; `lines` are its policy.
async fn world(directory: &Path, size: u32, lines: &str) -> (Playground, Repository) {
    world_of(directory, size, &policy(lines)).await
}

/// The same with all that follows the policy's table in the configuration.
async fn world_of(directory: &Path, size: u32, policy: &str) -> (Playground, Repository) {
    let repository = Repository::wrapped(directory);
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = small(directory, &repository, &first, size, policy.to_owned());
    setup.deregistration_delay = 10;
    (Playground::start(setup).await.unwrap(), repository)
}

/// What a race needs of a playground.
trait Race {
    /// An operator calls Auto Scaling.
    async fn operator(&self, action: &str, parameters: Value) -> Value;
    /// Somebody's scaling policy wants so many more than the group has now. While a batch goes in or out of standby, the
    /// group's size is not its fleet's: at such a moment it is another number than meant.
    async fn scale(&self, more: i64);
    /// What `drover check --aws` says, and whether it finds nothing wrong.
    async fn check(&self) -> (String, bool);
    /// The Auto Scaling group of this name.
    async fn group(&self, name: &str) -> Value;
    /// Submits to another group than the usual one.
    async fn submit_to(&self, group: &str, revision: &str) -> i64;
    /// The revision that is current on an instance.
    async fn current(&self, instance: &str) -> String;
    /// Waits until an instance of the deployment is in this state, and answers it.
    async fn in_state(&self, id: i64, state: &str) -> String;
    /// Waits until the deployment has ended for good: a halt that is cancelled has its exit code before.
    async fn finished(&self, id: i64);
    /// All that serve have this revision, and nothing of drover's is left on the group.
    async fn all_serve(&self, count: usize, sha: &str, min: u32);
}

impl Race for Playground {
    async fn operator(&self, action: &str, parameters: Value) -> Value {
        let mut parameters = parameters;
        if parameters["AutoScalingGroupName"].is_null() && parameters["InstanceId"].is_null() {
            parameters["AutoScalingGroupName"] = json!("sample");
        }
        self.control(&format!("aws/autoscaling/{action}"), &parameters).await.unwrap()
    }

    async fn scale(&self, more: i64) {
        let desired = self.group("sample").await["desired"].as_i64().unwrap() + more;
        self.operator("SetDesiredCapacity", json!({ "DesiredCapacity": desired.to_string() })).await;
    }

    async fn check(&self) -> (String, bool) {
        let output = self.beside_daemon("check").arg("--aws").output().await.unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    }

    async fn group(&self, name: &str) -> Value {
        let seen = self.look("world").await.unwrap();
        let groups = seen["groups"].as_array().unwrap().clone();
        groups.into_iter().find(|group| group["name"] == name).unwrap()
    }

    async fn submit_to(&self, group: &str, revision: &str) -> i64 {
        let ran = self.drover(&["deploy", revision, "--group", group, "--json"]).await;
        let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
        answer["id"].as_i64().unwrap_or_else(|| panic!("{answer:#}"))
    }

    async fn current(&self, instance: &str) -> String {
        let link = self.on(instance, "readlink /opt/drover/sample/current").await;
        link.trim().rsplit('/').next().unwrap_or_default().to_owned()
    }

    async fn in_state(&self, id: i64, state: &str) -> String {
        let found = std::sync::Mutex::new(String::new());
        until(&format!("an instance in {state}"), 90, async || {
            let deployment = self.api(&format!("deployments/{id}")).await;
            let instances = deployment["instances"].as_array().cloned().unwrap_or_default();
            let hit = instances.iter().find(|instance| instance["state"] == state);
            match hit.and_then(|instance| instance["id"].as_str()) {
                Some(id) => {
                    *found.lock().unwrap() = id.to_owned();
                    true
                }
                None => false,
            }
        })
        .await;
        found.into_inner().unwrap()
    }

    async fn finished(&self, id: i64) {
        until("it has ended", 60, async || {
            !self.api(&format!("deployments/{id}")).await["finished_at"].is_null()
        })
        .await;
    }

    async fn all_serve(&self, count: usize, sha: &str, min: u32) {
        until("everyone in service", 60, async || serving(&self.group("sample").await).len() == count).await;
        let group = self.group("sample").await;
        for instance in serving(&group) {
            assert_eq!(self.current(&instance).await, sha, "{instance}: {group:#}");
        }
        assert_eq!((&group["min"], &group["suspended"]), (&json!(min), &json!([])), "{group:#}");
        assert!(group["tags"].get("drover:restore").is_none(), "{group:#}");
    }
}
