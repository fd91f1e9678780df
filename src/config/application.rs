//! `[applications.NAME]`: a repository, and the groups of instances that run it.

use super::template::Template;
use crate::rollout::policy::Policy;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An application: a repository, and the groups of instances that run it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// `owner/name` on GitHub.
    pub repository: String,
    /// A commit must be on this branch to be deployed. Default `main`.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// The folder of the repository that holds the application, with its `appspec.yml`. Default: all of the repository.
    #[serde(default)]
    pub path: String,
    /// The place where CI puts the bundle of each commit, `"s3://bucket/path/{sha}.zip"` or `"https://host/{sha}.tar.gz"` with a
    /// checksum beside it (`….sha256`); a tar archive, alone or gzipped, or a zip. Default: GitHub's archive of the commit.
    #[serde(default)]
    pub bundle: Option<Template>,
    /// Releases kept on an instance. Default 5, as CodeDeploy.
    #[serde(default = "default_keep")]
    pub keep_releases: u32,
    /// Extra environment of the hooks.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Further variables of their environment, whose values are secret: hosts get them from Parameter Store by their
    /// own role.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Deployment groups by name: `production` of application `eval` is `eval/production`.
    pub groups: BTreeMap<String, Group>,
}

/// The place where a secret value is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// A parameter of Systems Manager's Parameter Store, in the instances' region.
    pub parameter: String,
}

fn default_branch() -> String {
    "main".into()
}

fn default_keep() -> u32 {
    5
}

/// A deployment group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Names of the Auto Scaling groups whose instances it deploys to.
    pub auto_scaling_groups: Vec<String>,
    /// ARNs of further target groups, which none of the Auto Scaling groups registers.
    #[serde(default)]
    pub target_groups: Vec<String>,
    /// Another branch than the application's.
    #[serde(default)]
    pub branch: Option<String>,
    /// A push to the branch deploys by itself. Default no.
    #[serde(default)]
    pub auto_deploy: bool,
    /// How it is rolled.
    #[serde(default)]
    pub policy: Policy,
}

impl Group {
    /// Returns the branch whose commits may be deployed here.
    pub fn branch<'a>(&'a self, application: &'a Application) -> &'a str {
        self.branch.as_deref().unwrap_or(&application.branch)
    }
}
