//! What a deployment was planned with. The configuration may say something else after a restart: nothing is done on its
//! word to instances that nobody asked for.

use crate::{
    config::Group,
    engine::{Engine, record::json},
    store::DeploymentRow,
};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Carried by the deployment from its preparation on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planned {
    /// The Auto Scaling groups.
    pub(super) auto_scaling_groups: Vec<String>,
    /// The target groups that the configuration names, beside those attached to the Auto Scaling groups.
    pub(super) target_groups: Vec<String>,
    /// Extra environment of the hooks.
    pub(super) environment: BTreeMap<String, String>,
    /// Releases kept on the host.
    pub(super) keep_releases: u32,
    /// The folder of the repository that is the application; empty: all of it.
    #[serde(default)]
    pub(super) path: String,
    /// Secret variables, and the parameters that hold them.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// SHA-256 of the appspec file of what something else had put on the instances when the group was taken over.
    #[serde(default)]
    pub(super) adopted: Option<String>,
    /// Where CI puts its bundles; none: GitHub packs them.
    #[serde(default)]
    pub(super) bundle: Option<String>,
}

impl Engine {
    /// What a deployment of this group would be planned with now; none where the group isn't configured.
    fn configured(&self, name: &str) -> Option<Planned> {
        let (application, group) = self.config.group(name)?;
        let Group { auto_scaling_groups, target_groups, .. } = group.clone();
        let environment = application.environment.clone().into_iter().collect();
        Some(Planned {
            auto_scaling_groups,
            target_groups,
            environment,
            keep_releases: application.keep_releases,
            secrets: application
                .secrets
                .iter()
                .map(|(name, secret)| (name.clone(), secret.parameter.clone()))
                .collect(),
            adopted: None,
            path: application.path.clone(),
            bundle: application.bundle.as_ref().map(|template| template.as_str().to_owned()),
        })
    }

    /// As it is written down with a deployment that is prepared.
    pub(super) fn planned_text(&self, name: &str) -> Option<String> {
        self.configured(name).as_ref().map(json)
    }

    /// As it is written down with a group that is taken over.
    pub(super) fn adopted_text(&self, name: &str, digest: String) -> Option<String> {
        self.configured(name).map(|planned| json(&Planned { adopted: Some(digest), ..planned }))
    }

    /// What a deployment was planned with. One that an earlier version prepared goes by the configuration.
    pub(super) fn planned(&self, row: &DeploymentRow) -> anyhow::Result<Planned> {
        match &row.planned {
            Some(text) => serde_json::from_str(text)
                .with_context(|| format!("what deployment {} was planned with can't be read", row.id)),
            None => self.configured(&row.group_name).with_context(|| not_configured(&row.group_name)),
        }
    }

    /// Why a deployment may not go on by the configuration as it is now, if so: its group is gone from it, or points
    /// elsewhere.
    pub(super) fn moved(&self, row: &DeploymentRow) -> Option<String> {
        let Some(now) = self.configured(&row.group_name) else {
            return Some(format!(
                "{}; put it back and restart drover, then resume the deployment, or cancel it",
                not_configured(&row.group_name)
            ));
        };
        let planned = self.planned(row).ok()?;
        let lists = |planned: &Planned| -> [BTreeSet<String>; 2] {
            [&planned.auto_scaling_groups, &planned.target_groups].map(|list| list.iter().cloned().collect())
        };
        (lists(&now) != lists(&planned)).then(|| {
            format!(
                "deployment group '{}' points elsewhere in the configuration than when this deployment was planned: then {}, \
                 now {}; set it back and restart drover, then resume the deployment, or cancel it",
                row.group_name,
                words(&planned),
                words(&now)
            )
        })
    }
}

fn not_configured(name: &str) -> String {
    format!("deployment group '{name}' is no longer configured")
}

fn words(planned: &Planned) -> String {
    let groups = format!("Auto Scaling groups {}", planned.auto_scaling_groups.join(", "));
    match planned.target_groups.as_slice() {
        [] => groups,
        arns => format!("{groups} and target groups {}", arns.join(", ")),
    }
}
