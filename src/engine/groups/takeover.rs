//! Taking over a group that something else has deployed to: what runs there is written down as its last good revision.
//!
//! No host is touched. The diff, a rollback and launches go by it at once; the first deployment finds on the hosts what
//! CodeDeploy has left (hooks/runner/7-files.sh, 5-hooks.sh).

use crate::{
    engine::{
        Engine, GroupError,
        intake::{Order, queue},
        record::json,
    },
    logs::{lines_of, note_chunk},
    rollout::snapshot::Lifecycle,
    store::DeploymentRow,
};
use jiff::Timestamp;

impl Engine {
    /// Writes down that this revision is what the group runs; answers what was done, a line each.
    pub async fn take_over(&self, name: &str, revision: &str, by: &str) -> Result<Vec<String>, GroupError> {
        let (application, group) = self.known_group(name)?;
        let known = |id: i64| {
            GroupError::Refused(format!(
                "drover has deployed to {name} before (deployment {id}): it knows what runs there"
            ))
        };
        if let Some(before) = self.store.deployments(Some(name), 1).await?.first() {
            return Err(known(before.id));
        }
        let commit = self.resolve(application, group, revision).await?;
        let draft = DeploymentRow {
            group_name: name.to_owned(),
            repository: application.repository.clone(),
            ..DeploymentRow::default()
        };
        let bundle =
            self.fetch_bundle(&self.origin(&draft, &commit.sha).await?, &commit.sha).await?.map_err(
                |why| GroupError::Refused(format!("revision {} can't be deployed: {why}", commit.sha)),
            )?;
        let groups = self.shared_groups(&group.auto_scaling_groups).await?;
        let instances: Vec<&str> = groups
            .iter()
            .flat_map(|group| &group.instances)
            .filter(|instance| {
                crate::engine::groups::seen::lifecycle(&instance.lifecycle) == Lifecycle::InService
            })
            .map(|instance| instance.id.as_str())
            .collect();
        if instances.is_empty() {
            let names = group.auto_scaling_groups.join(", ");
            return Err(GroupError::Refused(format!(
                "no instance of {names} is in service: there is nothing to take over"
            )));
        }
        let count = instances.len();
        let words = format!(
            "{by} wrote down that {} runs on the {count} instances of {name}: no host was touched",
            commit.sha
        );
        let now = Timestamp::now().as_millisecond();
        let mut tx = self.store.write().await?;
        // Somebody may have submitted one meanwhile.
        if let Some(before) = tx.newest_rollout(name).await? {
            return Err(known(before.id));
        }
        let order = Order {
            group: name,
            repository: &application.repository,
            requested: revision.trim(),
            by,
            automatic: false,
            only: None,
        };
        let row = queue(&mut tx, &order, commit, &group.policy).await?;
        let prepared = DeploymentRow {
            revision: Some(json(&bundle.appspec.timed(&group.policy.time_outs))),
            bundle_sha256: Some(bundle.sha256),
            total_at_start: i64::try_from(count).unwrap_or(0),
            healthy_at_start: i64::try_from(count).unwrap_or(0),
            planned: self.adopted_text(name, bundle.appspec_sha256.clone()),
            ..row
        };
        tx.set_prepared(&prepared).await?;
        tx.set_state(prepared.id, "Succeeded", Some("taken over: no host was touched"), now, true).await?;
        let goods: Vec<_> = instances.iter().map(|id| ((*id).to_owned(), prepared.sha.clone())).collect();
        tx.set_good_revisions(name, &goods, now).await?;
        tx.append_log(prepared.id, &note_chunk(None, &lines_of(&words))).await?;
        tx.commit().await?;
        Ok(std::iter::once(words)
            .chain(bundle.warnings.iter().map(|warning| format!("warning: {warning}")))
            .chain([format!(
                "deployment {} stands for it: 'drover plan' and 'drover rollback' go by it",
                prepared.id
            )])
            .collect())
    }
}
