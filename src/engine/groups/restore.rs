//! What people ask of a deployment group itself: to hold its launches for drover, to put back what a lost daemon had
//! changed on it.

use crate::{
    api::Act,
    engine::{
        Engine, GroupError,
        groups::preconditions::{code_deploys, no_such_group},
        marks::{RESTORE_TAG, hook_name},
        record,
    },
    fleet::autoscaling::GroupSight,
    rollout::{
        plan::{Effect, MOST_PER_STANDBY},
        snapshot::Hold,
    },
    store::StoreError,
};
use jiff::Timestamp;
use tracing::info;

/// As many of the things that people did to a group are shown.
const ACTS_SHOWN: i64 = 10;

impl Engine {
    /// Writes down what a person did to a group.
    async fn note_act(&self, name: &str, by: &str, what: &str) -> Result<(), StoreError> {
        info!(group = name, "{by}: {what}");
        let mut tx = self.store.write().await?;
        tx.add_act(name, Timestamp::now().as_millisecond(), by, what).await?;
        tx.commit().await
    }

    /// The last few things that people did to a group itself, newest first.
    pub async fn acts(&self, name: &str) -> Result<Vec<Act>, StoreError> {
        let acts = self.store.acts(name, ACTS_SHOWN).await?.into_iter();
        Ok(acts.map(|row| Act { at: record::time(row.at), by: row.who, what: row.what }).collect())
    }

    /// Installs or removes the lifecycle hook that holds launches, on each Auto Scaling group. Answers a line each.
    pub async fn set_hook(&self, name: &str, wanted: bool, by: &str) -> Result<Vec<String>, GroupError> {
        let (_, group) = self.known_group(name)?;
        let hook = hook_name(name);
        let mut lines = Vec::new();
        for seen in self.seen_groups(&group.auto_scaling_groups).await? {
            let hooks = self.fleet.launch_hooks(&seen.name).await?;
            let there = hooks.iter().any(|h| h.name == hook);
            let (on, say) = (&seen.name, if wanted { "installed" } else { "not there" });
            if there == wanted {
                lines.push(format!("{on}: lifecycle hook {hook} is {say} already"));
                continue;
            }
            if let Some(why) = code_deploys(&hooks, on).filter(|_| wanted) {
                return Err(GroupError::Refused(why));
            }
            if wanted && seen.warm_pool {
                return Err(GroupError::Refused(format!(
                    "Auto Scaling group {on} has a warm pool: its launch hooks run twice, which drover does not handle; delete it first"
                )));
            }
            let done = if wanted { "installed" } else { "removed" };
            self.note_act(name, by, &format!("launch hook of {on} {done}")).await?;
            let group = seen.name.clone();
            let effect = match wanted {
                true => Effect::PutHook { group, hook: hook.clone() },
                false => Effect::DeleteHook { group, hook: hook.clone() },
            };
            self.act_alone(&effect).await??;
            lines.push(match wanted {
                true => format!(
                    "{on}: lifecycle hook {hook} installed: a launching instance waits for its revision"
                ),
                false => format!(
                    "{on}: lifecycle hook {hook} removed: instances go into service as their image makes them"
                ),
            });
        }
        Ok(lines)
    }

    async fn seen_groups(&self, names: &[String]) -> Result<Vec<GroupSight>, GroupError> {
        let seen = self.fleet.groups(names).await?;
        match names.iter().find(|name| !seen.iter().any(|group| group.name == **name)) {
            None => Ok(seen),
            Some(missing) => Err(GroupError::Refused(no_such_group(missing))),
        }
    }

    /// Puts back what a daemon that is gone for good had changed on a group's Auto Scaling groups, from the tag on each:
    /// standby, MinSize, suspended processes. Answers a line for each thing done.
    pub async fn restore(&self, name: &str, by: &str) -> Result<Vec<String>, GroupError> {
        let (_, group) = self.known_group(name)?;
        let names = &group.auto_scaling_groups;
        let unfinished = self.store.unfinished().await?;
        let under_way = unfinished.iter().find(|row| {
            let theirs = self.planned(row).map(|planned| planned.auto_scaling_groups);
            row.launch == 0
                && row.state != "Queued"
                && theirs.is_ok_and(|theirs| theirs.iter().any(|asg| names.contains(asg)))
        });
        if let Some(row) = under_way {
            return Err(GroupError::Refused(format!(
                "deployment {} is under way: it puts the group back itself, at its end or when it is paused",
                row.id
            )));
        }
        self.note_act(name, by, "put back from the tags of its Auto Scaling groups").await?;
        let mut lines = Vec::new();
        for seen in self.seen_groups(names).await? {
            self.restore_one(&seen, &mut lines).await?;
        }
        Ok(lines)
    }

    async fn restore_one(&self, seen: &GroupSight, lines: &mut Vec<String>) -> Result<(), GroupError> {
        let on = &seen.name;
        let Some(text) = seen.tag(RESTORE_TAG) else {
            lines.push(format!("{on}: no tag {RESTORE_TAG}: nothing to put back"));
            return Ok(());
        };
        let hold: Hold = serde_json::from_str(text).map_err(|e| {
            GroupError::Refused(format!("the tag {RESTORE_TAG} of {on} can't be read ({e}): {text}"))
        })?;
        let group = || on.clone();
        let quarantined: Vec<String> =
            self.store.quarantines().await?.into_iter().map(|row| row.instance).collect();
        if let Some(entering) = seen.instances.iter().find(|seen| seen.lifecycle == "EnteringStandby") {
            return Err(GroupError::Refused(format!(
                "{on}: {} is still on its way into standby: run it again in a moment",
                entering.id
            )));
        }
        let kept = |id: &String| hold.theirs.contains(id) || quarantined.contains(id);
        let standby = seen.instances.iter().filter(|instance| instance.lifecycle == "Standby");
        let (keep, back): (Vec<String>, Vec<String>) =
            standby.map(|instance| instance.id.clone()).partition(kept);
        // Before MinSize: a raised MinSize would launch others in their place.
        for some in back.chunks(MOST_PER_STANDBY) {
            let effect = Effect::ExitStandby { group: group(), instances: some.to_vec() };
            self.act_alone(&effect).await??;
            lines.push(format!(
                "{on}: back into service, on whatever release is current there: {}; a deployment brings them in line",
                some.join(", ")
            ));
        }
        if !keep.is_empty() {
            lines.push(format!(
                "{on}: left in standby, as they were before or in quarantine: {}",
                keep.join(", ")
            ));
        }
        if seen.min < hold.former_min {
            self.act_alone(&Effect::SetMin { group: group(), min: hold.former_min }).await??;
            lines.push(format!("{on}: MinSize {} → {}", seen.min, hold.former_min));
        }
        // Whatever is seen, which may be out of date: resuming what runs changes nothing.
        let processes = hold.suspended.clone();
        if !processes.is_empty() {
            self.act_alone(&Effect::Resume { group: group(), processes: processes.clone() }).await??;
            lines.push(format!("{on}: resumed {}", processes.join(", ")));
        }
        self.act_alone(&Effect::Release { group: group() }).await??;
        lines.push(format!("{on}: tag {RESTORE_TAG} removed"));
        Ok(())
    }
}
