//! The history of groups: activities begin, change and end.

use super::activity::Activity;
use crate::sim::state::State;

impl State {
    /// Writes an activity into a group's history and returns it.
    pub(super) fn record_activity(
        &mut self,
        group: &str,
        instance: &str,
        doing: &str,
        cause: &str,
        status: &'static str,
    ) -> Activity {
        let start = jiff::Timestamp::now().to_string();
        let id = self.random_uuid();
        let description = if instance.is_empty() { doing.to_owned() } else { format!("{doing}: {instance}") };
        let end = (status == "Successful").then(|| start.clone());
        let cause = format!("At {start} {cause}");
        let instance = instance.to_owned();
        let activity = Activity { id, description, cause, instance, start, end, status, message: None };
        if let Some(group) = self.groups.get_mut(group) {
            group.activities.push_front(activity.clone());
            group.activities.truncate(500);
        }
        activity
    }

    /// Ends an instance's activities that are still under way, successfully.
    pub(super) fn end_activities(&mut self, group: &str, instance: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            for activity in group.activities.iter_mut().filter(|a| a.instance == instance && a.end.is_none())
            {
                activity.end = Some(jiff::Timestamp::now().to_string());
                activity.status = "Successful";
            }
        }
    }

    /// Changes the status of an instance's launch in its group's history.
    pub(super) fn set_launch_status(&mut self, group: &str, id: &str, status: &'static str) {
        let Some(group) = self.groups.get_mut(group) else { return };
        for activity in group.activities.iter_mut().filter(|a| a.instance == id && a.end.is_none()) {
            activity.status = status;
        }
    }

    /// Writes into a group's history that a lifecycle action was abandoned and its instance's launch cancelled.
    pub(super) fn cancel_launch_activity(&mut self, group: &str, id: &str, token: &str, why: &str) {
        let reason = format!(
            "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {token} was abandoned: {why}"
        );
        let Some(group) = self.groups.get_mut(group) else { return };
        for activity in group.activities.iter_mut().filter(|a| a.instance == id && a.end.is_none()) {
            activity.end = Some(jiff::Timestamp::now().to_string());
            activity.status = "Cancelled";
            activity.description.push_str(&format!(".  Status Reason: {reason}"));
            activity.message = Some(reason.clone());
        }
    }
}
