//! Creating groups: from the world description and through AWS's own calls.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use super::arn::group_arn;
use super::group::{Group, LaunchConfiguration, Tag};
use super::hook::{HookSpec, read_hooks};
use super::warm_pool::WarmPool;
use crate::sim::account::REGION;
use crate::sim::paper::Pattern;
use crate::sim::state::{Lifecycle, State};
use crate::sim::wire::{Answer, ApiError, Params};

fn default_max_size() -> i64 {
    100
}

/// An Auto Scaling group in the world description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Its name.
    pub name: String,
    /// MinSize; 0 by default.
    #[serde(default)]
    pub min: i64,
    /// MaxSize; 100 by default.
    #[serde(default = "default_max_size")]
    pub max: i64,
    /// DesiredCapacity; MinSize by default.
    #[serde(default)]
    pub desired: Option<i64>,
    /// Availability zones; three by default.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Names or ARNs of attached target groups.
    #[serde(default)]
    pub target_groups: Vec<String>,
    /// `ELB` or `EC2` (default).
    #[serde(default)]
    pub health_check_type: Option<String>,
    /// Health check grace period, seconds; 300 by default.
    #[serde(default)]
    pub grace: Option<i64>,
    /// The script that a new instance runs once.
    #[serde(default)]
    pub user_data: Option<String>,
    /// Whether its instances have neither namespaces nor processes; see [`crate::sim::paper`].
    #[serde(default)]
    pub paper: bool,
    /// How attempts on those instances go.
    #[serde(default)]
    pub paper_pattern: Option<Pattern>,
    /// Environment of the instances' processes.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Hooks on launches; none by default.
    #[serde(default)]
    pub lifecycle_hooks: Vec<HookSpec>,
    /// Whether it has a warm pool, which holds nothing; none by default.
    #[serde(default)]
    pub warm_pool: bool,
}

impl State {
    /// Creates a group; its instances are launched by the next tick.
    pub fn create_group(&mut self, spec: GroupSpec) -> Result<(), ApiError> {
        if spec.name.is_empty() || self.groups.contains_key(&spec.name) {
            return Err(ApiError::refused(
                "AlreadyExists",
                format!(
                    "AutoScalingGroup by this name already exists - A group with the name {} already exists",
                    spec.name
                ),
            ));
        }
        let desired = spec.desired.unwrap_or(spec.min);
        if spec.min < 0 || spec.max < spec.min || !(spec.min..=spec.max).contains(&desired) {
            return Err(ApiError::validation(format!(
                "Desired capacity:{desired} must be between the specified min size:{} and max size:{}",
                spec.min, spec.max
            )));
        }
        if let Some(pattern) = &spec.paper_pattern {
            pattern.check()?;
            if !spec.paper {
                return Err(ApiError::validation("a group with a 'paper_pattern' needs '\"paper\": true'"));
            }
        }
        let mut arns = Vec::new();
        for wanted in &spec.target_groups {
            let arn = self.elb.arn_of(wanted).ok_or_else(|| {
                ApiError::validation(format!("Provided Target Groups may not be valid: {wanted} not found"))
            })?;
            arns.push(arn);
        }
        let calls: Vec<Value> = spec.lifecycle_hooks.iter().map(HookSpec::as_call).collect();
        let calls: Vec<Params<'_>> = calls.iter().map(|c| Params::new(c, "ValidationError")).collect();
        let hooks = read_hooks(&calls)?;
        let zones = if spec.zones.is_empty() {
            ["a", "b", "c"].iter().map(|z| format!("{REGION}{z}")).collect()
        } else {
            spec.zones
        };
        let group = Group {
            arn: group_arn(&spec.name),
            min: spec.min,
            max: spec.max,
            desired,
            zones,
            target_groups: arns,
            elb_health: spec.health_check_type.as_deref() == Some("ELB"),
            grace: spec.grace.unwrap_or(300),
            user_data: spec.user_data,
            paper: spec.paper.then(|| spec.paper_pattern.unwrap_or_default()),
            env: spec.env.into_iter().collect(),
            launch_configuration: format!("{}-launch", spec.name),
            tags: spec.tags.into_iter().map(|(k, value)| (k, Tag { value, propagate: true })).collect(),
            suspended: Vec::new(),
            hooks,
            warm_pool: spec.warm_pool.then(WarmPool::default),
            refreshes: Vec::new(),
            created: jiff::Timestamp::now().to_string(),
            protect_new: false,
            activities: VecDeque::new(),
            next_look: self.clock.now(),
            uneven_since: None,
            rebalancing: None,
            deleting: false,
            name: spec.name.clone(),
        };
        self.groups.insert(spec.name, group);
        Ok(())
    }

    pub(super) fn create_launch_configuration(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("LaunchConfigurationName")?;
        let user_data = match p.str("UserData") {
            None => None,
            Some(text) => {
                Some(decode(text).ok_or_else(|| ApiError::validation("Invalid user data: not base64"))?)
            }
        };
        self.launch_configurations.insert(name.to_owned(), LaunchConfiguration { user_data });
        Ok(json!({}))
    }

    pub(super) fn create_group_call(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("AutoScalingGroupName")?.to_owned();
        let Some(min) = p.int("MinSize")? else { return Err(p.need("MinSize").unwrap_err()) };
        let Some(max) = p.int("MaxSize")? else { return Err(p.need("MaxSize").unwrap_err()) };
        let config = p.need("LaunchConfigurationName")?;
        let user_data = self
            .launch_configurations
            .get(config)
            .ok_or_else(|| ApiError::validation(format!("Launch configuration name not found - {config}")))?
            .user_data
            .clone();
        let hooks = read_hooks(&p.objects("LifecycleHookSpecificationList"))?;
        let tags = p.objects("Tags");
        let tag =
            |t: &Params<'_>| Some((t.str("Key")?.to_owned(), t.str("Value").unwrap_or_default().to_owned()));
        self.create_group(GroupSpec {
            name: name.clone(),
            min,
            max,
            desired: p.int("DesiredCapacity")?,
            zones: p.strings("AvailabilityZones"),
            target_groups: p.strings("TargetGroupARNs"),
            health_check_type: p.str("HealthCheckType").map(str::to_owned),
            grace: p.int("HealthCheckGracePeriod")?,
            user_data,
            paper: false,
            paper_pattern: None,
            env: BTreeMap::new(),
            tags: tags.iter().filter_map(tag).collect(),
            lifecycle_hooks: Vec::new(),
            warm_pool: false,
        })?;
        if let Some(group) = self.groups.get_mut(&name) {
            group.launch_configuration = config.to_owned();
            group.hooks = hooks;
        }
        Ok(json!({}))
    }

    pub(super) fn delete_group(&mut self, p: Params<'_>) -> Answer {
        let name = self.named_group(p)?.name.clone();
        let peopled =
            self.instances.values().any(|i| i.group == name && i.lifecycle != Lifecycle::Terminated);
        if peopled && p.bool("ForceDelete") != Some(true) {
            return Err(ApiError::refused(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.",
            ));
        }
        let group = self.named_group(p)?;
        (group.min, group.desired, group.deleting) = (0, 0, true);
        for id in self.members(&name) {
            if self.instances[&id].lifecycle != Lifecycle::Terminating {
                self.begin_terminating(&id, "group deleted");
            }
        }
        Ok(json!({}))
    }

    pub(super) fn attach_target_groups(&mut self, p: Params<'_>) -> Answer {
        let arns = p.strings("TargetGroupARNs");
        if let Some(unknown) = arns.iter().find(|a| self.elb.arn_of(a).is_none()) {
            return Err(ApiError::validation(format!(
                "Provided Target Groups may not be valid: {unknown} not found"
            )));
        }
        let group = self.named_group(p)?;
        let name = group.name.clone();
        let new: Vec<String> = arns.into_iter().filter(|a| !group.target_groups.contains(a)).collect();
        group.target_groups.extend(new.iter().cloned());
        for id in self.members(&name) {
            if self.instances[&id].lifecycle == Lifecycle::InService {
                new.iter().for_each(|arn| self.register(arn, &id, None));
            }
        }
        Ok(json!({}))
    }
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).ok()?).ok()
}
