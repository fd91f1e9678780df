//! `drover.toml`: one struct a concern, unknown keys refused, errors that name file, line and key.

mod application;
mod aws;
mod check;
mod github;
mod load;
mod place;
mod server;
mod template;
#[cfg(test)]
mod tests;

pub use application::{Application, Group, Secret};
pub use aws::Aws;
pub use github::{GitHub, GitHubApp};
pub use load::{check_exposure, load, parse};
pub use place::ConfigError;
pub use server::{Server, Tls};
pub use template::{Place, Template};

use serde::Deserialize;
use std::collections::BTreeMap;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address on which the daemon listens, and what it keeps.
    #[serde(default)]
    pub server: Server,
    /// AWS.
    #[serde(default)]
    pub aws: Aws,
    /// GitHub.
    #[serde(default)]
    pub github: GitHub,
    /// Applications by name.
    pub applications: BTreeMap<String, Application>,
}

impl Config {
    /// Returns the group called `app/env`, with its application.
    pub fn group(&self, name: &str) -> Option<(&Application, &Group)> {
        let (application, group) = name.split_once('/')?;
        let application = self.applications.get(application)?;
        Some((application, application.groups.get(group)?))
    }

    /// Returns the names of all groups.
    pub fn group_names(&self) -> impl Iterator<Item = String> {
        self.applications.iter().flat_map(|(app, application)| {
            application.groups.keys().map(move |group| format!("{app}/{group}"))
        })
    }
}
