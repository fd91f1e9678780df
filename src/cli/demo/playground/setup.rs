//! What a playground is made from, and the daemon's configuration that follows from it.

use crate::revision::appspec::AppSpec;
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// The repository's name in the simulated GitHub.
pub const REPOSITORY: &str = "acme/sample";
/// The deployment group.
pub const GROUP: &str = "sample/demo";

/// How to get into the simulated cloud.
#[derive(Clone, Debug, Deserialize)]
pub struct CloudAccess {
    /// Its address.
    pub url: String,
    /// Its control API's token.
    pub token: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) region: String,
    pub(super) github_token: String,
}

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
    /// Deployment groups, each with an Auto Scaling group and a load balancer of its own: [`GROUP`], and more of its kind.
    pub groups: u32,
    /// Instances in each of them.
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

/// A deployment group of the playground: `demo` of the Auto Scaling group `sample`, then `demo-2` of `sample-2` and so on.
pub struct Named {
    /// The deployment group, without its application.
    pub group: String,
    /// The Auto Scaling group, and the target group of the same name.
    pub cloud: String,
}

impl Setup {
    /// The names of all its groups.
    pub fn names(&self) -> impl Iterator<Item = Named> {
        (1..=self.groups).map(|number| match number {
            1 => Named { group: "demo".into(), cloud: "sample".into() },
            more => Named { group: format!("demo-{more}"), cloud: format!("sample-{more}") },
        })
    }

    /// `drover.toml`.
    pub(super) fn config(&self, cloud: &CloudAccess) -> String {
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key} = {value:?}\n")).unwrap_or_default()
        };
        let head = format!(
            "[server]\n{}{}listen = {:?}\ndata = {:?}\npoll = {:?}\n\n[aws]\nregion = {:?}\nendpoint = {:?}\ncall_budget = {}\n\n[github]\napi = {:?}\n{}\n\
             [applications.sample]\nrepository = {REPOSITORY:?}\nbranch = {:?}\n{}\n",
            line("public_url", &self.public_url),
            line("database", &self.database),
            self.listen,
            self.data.join("daemon"),
            self.poll,
            cloud.region,
            cloud.url,
            // The simulated limits refill as fast as its time runs.
            (30.0 * self.time_scale.max(1.0)) as u32,
            cloud.url,
            if self.public_url.is_some() { "" } else { "poll_branches = \"2s\"\n" },
            self.branch,
            self.application,
        );
        let own = format!("[applications.{}.", GROUP.replace('/', ".groups."));
        let groups = self.names().map(|Named { group, cloud }| {
            format!(
                "[applications.sample.groups.{group}]\nauto_scaling_groups = [{cloud:?}]\nauto_deploy = true\n\n\
                 [applications.sample.groups.{group}.policy]\n{}\n\n",
                self.policy.replace(&own, &format!("[applications.sample.groups.{group}.")),
            )
        });
        head + &groups.collect::<String>()
    }
}
