//! Auto Scaling groups: what they look like, and the few things that drover changes on them.

use super::{Fleet, Result, list::NonEmpty, more};
use aws_sdk_autoscaling::types::{AutoScalingGroup, Tag};

/// An Auto Scaling group.
#[derive(Clone, Debug)]
pub struct GroupSight {
    /// Name.
    pub name: String,
    /// MinSize.
    pub min: u32,
    /// MaxSize.
    pub max: u32,
    /// Desired capacity.
    pub desired: u32,
    /// Suspended processes.
    pub suspended: Vec<String>,
    /// ARNs of the target groups attached to it.
    pub target_groups: Vec<String>,
    /// Its instances.
    pub instances: Vec<InstanceSight>,
    /// It has a warm pool.
    pub warm_pool: bool,
    /// Its tags: key and value.
    pub tags: Vec<(String, String)>,
}

impl GroupSight {
    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// An instance in its group.
#[derive(Clone, Debug)]
pub struct InstanceSight {
    /// `i-…`.
    pub id: String,
    /// Availability zone.
    pub zone: String,
    /// Lifecycle state, as AWS writes it.
    pub lifecycle: String,
    /// A health check has found it unhealthy: Auto Scaling takes it out.
    pub unhealthy: bool,
}

/// An instance that Auto Scaling ended, and why.
#[derive(Clone, Debug)]
pub struct Termination {
    /// `i-…`.
    pub instance: String,
    /// In Auto Scaling's words.
    pub cause: String,
}

/// DescribeAutoScalingGroups takes so many names at once.
const MOST_NAMES: usize = 50;

fn size(number: Option<i32>) -> u32 {
    number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn sight_of(group: &AutoScalingGroup) -> GroupSight {
    let suspended = group.suspended_processes().iter().filter_map(|p| p.process_name()).map(str::to_owned);
    let instances = group.instances().iter().map(|instance| InstanceSight {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        zone: instance.availability_zone().unwrap_or_default().to_owned(),
        lifecycle: instance.lifecycle_state().map(|s| s.as_str().to_owned()).unwrap_or_default(),
        unhealthy: instance.health_status().is_some_and(|status| status.eq_ignore_ascii_case("Unhealthy")),
    });
    let tags = group
        .tags()
        .iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())));
    GroupSight {
        tags: tags.collect(),
        name: group.auto_scaling_group_name().unwrap_or_default().to_owned(),
        min: size(group.min_size()),
        max: size(group.max_size()),
        desired: size(group.desired_capacity()),
        suspended: suspended.collect(),
        target_groups: group.target_group_arns().to_vec(),
        instances: instances.collect(),
        warm_pool: group.warm_pool_configuration().is_some(),
    }
}

impl Fleet {
    /// The groups of these names; missing ones are missing from the answer.
    pub async fn groups(&self, names: &[String]) -> Result<Vec<GroupSight>> {
        let mut groups = Vec::new();
        if let Some(names) = NonEmpty::of(names) {
            for some in names.pieces(MOST_NAMES) {
                self.describe_groups(some, &mut groups).await?;
            }
        }
        Ok(groups)
    }

    async fn describe_groups(&self, names: NonEmpty<'_, String>, groups: &mut Vec<GroupSight>) -> Result<()> {
        let call = self.autoscaling.describe_auto_scaling_groups();
        let call = call.set_auto_scaling_group_names(names.parameter());
        let mut token = None;
        loop {
            let page = call.clone().set_next_token(token).send();
            let page = self.call("DescribeAutoScalingGroups", page).await?;
            groups.extend(page.auto_scaling_groups().iter().map(sight_of));
            token = more(page.next_token());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// The instances that Auto Scaling lately ended or is ending in a group, and why, in its own words: of its last 100
    /// activities.
    pub async fn terminations(&self, group: &str) -> Result<Vec<Termination>> {
        let call = self.autoscaling.describe_scaling_activities().auto_scaling_group_name(group);
        let call = call.max_records(100);
        let answer = self.call("DescribeScalingActivities", call.send()).await?;
        let ended = answer.activities().iter().filter_map(|activity| {
            // "Terminating EC2 instance: i-…", with what became of it behind.
            let about = activity.description()?.strip_prefix("Terminating EC2 instance: ")?;
            let instance = about.split([' ', '.', ',']).next()?.to_owned();
            Some(Termination { instance, cause: activity.cause().unwrap_or_default().to_owned() })
        });
        Ok(ended.collect())
    }

    /// The id of an instance refresh that is under way, if there is one.
    pub async fn instance_refresh(&self, group: &str) -> Result<Option<String>> {
        let call = self.autoscaling.describe_instance_refreshes().auto_scaling_group_name(group);
        let answer = self.call("DescribeInstanceRefreshes", call.send()).await?;
        let active = ["Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"];
        let under_way = answer
            .instance_refreshes()
            .iter()
            .find(|r| r.status().is_some_and(|s| active.contains(&s.as_str())));
        Ok(under_way.and_then(|refresh| refresh.instance_refresh_id()).map(str::to_owned))
    }

    /// At most 20 instances into standby; desired capacity goes down with them, so that none is replaced.
    pub async fn enter_standby(&self, group: &str, instances: &[String]) -> Result<()> {
        let Some(instances) = NonEmpty::of(instances) else { return Ok(()) };
        let call = self.autoscaling.enter_standby().auto_scaling_group_name(group);
        let call = call.set_instance_ids(instances.parameter()).should_decrement_desired_capacity(true);
        self.call("EnterStandby", call.send()).await.map(drop)
    }

    /// Back into service; desired capacity goes up with them.
    pub async fn exit_standby(&self, group: &str, instances: &[String]) -> Result<()> {
        let Some(instances) = NonEmpty::of(instances) else { return Ok(()) };
        let call = self.autoscaling.exit_standby().auto_scaling_group_name(group);
        self.call("ExitStandby", call.set_instance_ids(instances.parameter()).send()).await.map(drop)
    }

    /// Suspends processes.
    pub async fn suspend(&self, group: &str, processes: &[String]) -> Result<()> {
        let Some(processes) = NonEmpty::of(processes) else { return Ok(()) };
        let call = self.autoscaling.suspend_processes().auto_scaling_group_name(group);
        self.call("SuspendProcesses", call.set_scaling_processes(processes.parameter()).send())
            .await
            .map(drop)
    }

    /// Resumes processes.
    pub async fn resume(&self, group: &str, processes: &[String]) -> Result<()> {
        let Some(processes) = NonEmpty::of(processes) else { return Ok(()) };
        let call = self.autoscaling.resume_processes().auto_scaling_group_name(group);
        self.call("ResumeProcesses", call.set_scaling_processes(processes.parameter()).send()).await.map(drop)
    }

    /// Sets MinSize.
    pub async fn set_min(&self, group: &str, min: u32) -> Result<()> {
        let call = self.autoscaling.update_auto_scaling_group().auto_scaling_group_name(group);
        let call = call.min_size(i32::try_from(min).unwrap_or(i32::MAX));
        self.call("UpdateAutoScalingGroup", call.send()).await.map(drop)
    }

    /// Sets the desired capacity.
    pub async fn set_desired(&self, group: &str, desired: u32) -> Result<()> {
        let call = self.autoscaling.update_auto_scaling_group().auto_scaling_group_name(group);
        let call = call.desired_capacity(i32::try_from(desired).unwrap_or(i32::MAX));
        self.call("UpdateAutoScalingGroup", call.send()).await.map(drop)
    }

    /// Terminates an instance. One in standby does not count towards the desired capacity, so that stays as it is.
    pub async fn terminate(&self, instance: &str) -> Result<()> {
        let call = self.autoscaling.terminate_instance_in_auto_scaling_group().instance_id(instance);
        let call = call.should_decrement_desired_capacity(false);
        self.call("TerminateInstanceInAutoScalingGroup", call.send()).await.map(drop)
    }

    /// Puts a tag on the group itself, not on its instances.
    pub async fn tag(&self, group: &str, key: &str, value: &str) -> Result<()> {
        let tag = tag(group, key).value(value).propagate_at_launch(false).build();
        let call = self.autoscaling.create_or_update_tags().tags(tag);
        self.call("CreateOrUpdateTags", call.send()).await.map(drop)
    }

    /// Removes it.
    pub async fn untag(&self, group: &str, key: &str) -> Result<()> {
        let call = self.autoscaling.delete_tags().tags(tag(group, key).build());
        self.call("DeleteTags", call.send()).await.map(drop)
    }
}

fn tag(group: &str, key: &str) -> aws_sdk_autoscaling::types::builders::TagBuilder {
    Tag::builder().resource_type("auto-scaling-group").resource_id(group).key(key)
}
