//! Lifecycle hooks of launches: the ones that there are, ours, and the answers to them.

use super::{Fleet, Result};

const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
/// Seconds that a launch is held without a word of drover: three of its heartbeats. AWS takes 30 to 7200.
const HEARTBEAT_TIMEOUT: i32 = 900;

/// A launch without a word of drover is given up.
const ABANDON: &str = "ABANDON";

/// A lifecycle hook for launches.
#[derive(Clone, Debug, Default)]
pub struct LaunchHook {
    /// Its name.
    pub name: String,
    /// Seconds until its default result.
    pub heartbeat_timeout: Option<i32>,
    /// `CONTINUE` or `ABANDON`.
    pub default_result: Option<String>,
    /// Where AWS tells of launches, if anywhere.
    pub notification_target: Option<String>,
    /// As which role it does.
    pub role: Option<String>,
    /// What it sends along.
    pub metadata: Option<String>,
}

impl LaunchHook {
    /// Of CodeDeploy's own making: it installs its last good revision on every new instance.
    pub fn is_code_deploys(&self) -> bool {
        self.name.starts_with("CodeDeploy-managed-")
    }

    /// Whether its settings are those that drover installs.
    pub fn is_as_installed(&self) -> bool {
        self.heartbeat_timeout == Some(HEARTBEAT_TIMEOUT) && self.default_result.as_deref() == Some(ABANDON)
    }

    /// The commands that take it off the group, and put it back.
    pub fn commands(&self, group: &str) -> (String, String) {
        let words = format!("--auto-scaling-group-name {group} --lifecycle-hook-name {}", self.name);
        let more = [
            ("--heartbeat-timeout", self.heartbeat_timeout.map(|seconds| seconds.to_string())),
            ("--default-result", self.default_result.clone()),
            ("--notification-target-arn", self.notification_target.clone().filter(|arn| !arn.is_empty())),
            ("--role-arn", self.role.clone()),
            (
                "--notification-metadata",
                self.metadata.as_ref().map(|text| format!("'{}'", text.replace('\'', r"'\''"))),
            ),
        ];
        let more: String =
            more.into_iter().filter_map(|(key, value)| Some(format!(" {key} {}", value?))).collect();
        (
            format!("aws autoscaling delete-lifecycle-hook {words}"),
            format!("aws autoscaling put-lifecycle-hook {words} --lifecycle-transition {LAUNCHING}{more}"),
        )
    }
}

impl Fleet {
    /// The hooks for launches of an Auto Scaling group.
    pub async fn launch_hooks(&self, group: &str) -> Result<Vec<LaunchHook>> {
        let call = self.autoscaling.describe_lifecycle_hooks().auto_scaling_group_name(group);
        let answer = self.call("DescribeLifecycleHooks", call.send()).await?;
        let launching =
            answer.lifecycle_hooks().iter().filter(|h| h.lifecycle_transition() == Some(LAUNCHING));
        let hook = |hook: &aws_sdk_autoscaling::types::LifecycleHook| LaunchHook {
            name: hook.lifecycle_hook_name().unwrap_or_default().to_owned(),
            heartbeat_timeout: hook.heartbeat_timeout(),
            default_result: hook.default_result().map(str::to_owned),
            notification_target: hook.notification_target_arn().map(str::to_owned),
            role: hook.role_arn().map(str::to_owned),
            metadata: hook.notification_metadata().map(str::to_owned),
        };
        Ok(launching.map(hook).collect())
    }

    /// Installs our hook: launches are held, and given up without a word of drover.
    pub async fn put_launch_hook(&self, group: &str, name: &str) -> Result<()> {
        let call = self
            .autoscaling
            .put_lifecycle_hook()
            .auto_scaling_group_name(group)
            .lifecycle_hook_name(name)
            .lifecycle_transition(LAUNCHING)
            .heartbeat_timeout(HEARTBEAT_TIMEOUT)
            .default_result(ABANDON);
        self.call("PutLifecycleHook", call.send()).await.map(drop)
    }

    /// Removes it.
    pub async fn delete_launch_hook(&self, group: &str, name: &str) -> Result<()> {
        let call = self.autoscaling.delete_lifecycle_hook().auto_scaling_group_name(group);
        self.call("DeleteLifecycleHook", call.lifecycle_hook_name(name).send()).await.map(drop)
    }

    /// Lets a held launch go on into service, or gives it up.
    pub async fn complete_launch(
        &self,
        group: &str,
        instance: &str,
        hook: &str,
        proceed: bool,
    ) -> Result<()> {
        let result = if proceed { "CONTINUE" } else { ABANDON };
        let call = self.autoscaling.complete_lifecycle_action().auto_scaling_group_name(group);
        let call = call.lifecycle_hook_name(hook).instance_id(instance).lifecycle_action_result(result);
        self.call("CompleteLifecycleAction", call.send()).await.map(drop)
    }

    /// Keeps a launch waiting.
    pub async fn heartbeat(&self, group: &str, instance: &str, hook: &str) -> Result<()> {
        let call = self.autoscaling.record_lifecycle_action_heartbeat().auto_scaling_group_name(group);
        let call = call.lifecycle_hook_name(hook).instance_id(instance);
        self.call("RecordLifecycleActionHeartbeat", call.send()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_of_codedeploy_is_taken_off_and_put_back_by_command() {
        let hook = LaunchHook {
            name: "CodeDeploy-managed-automatic-launch-deployment-hook-web-1".into(),
            heartbeat_timeout: Some(600),
            default_result: Some("ABANDON".into()),
            metadata: Some("0f-1".into()),
            ..LaunchHook::default()
        };
        assert!(hook.is_code_deploys());
        let (remove, restore) = hook.commands("web");
        assert_eq!(
            remove,
            "aws autoscaling delete-lifecycle-hook --auto-scaling-group-name web \
             --lifecycle-hook-name CodeDeploy-managed-automatic-launch-deployment-hook-web-1"
        );
        assert!(
            restore.ends_with("EC2_INSTANCE_LAUNCHING --heartbeat-timeout 600 --default-result ABANDON --notification-metadata '0f-1'"),
            "{restore}"
        );
    }
}
