//! The world description: the groups and target groups that are created at the start or by `POST /_sim/world`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::autoscaling::GroupSpec;
use super::elb::TargetGroupSpec;
use super::state::{Lifecycle, State};
use super::wire::ApiError;

/// What is to be created, in addition to what there is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Target groups, each with a load balancer and a listener.
    #[serde(default)]
    pub target_groups: Vec<TargetGroupSpec>,
    /// Auto Scaling groups.
    #[serde(default)]
    pub groups: Vec<GroupSpec>,
}

impl State {
    /// Creates what a description asks for and returns it with addresses and ids; instances start afterwards.
    pub fn create_world(&mut self, world: World) -> Result<Value, ApiError> {
        let mut target_groups = Vec::new();
        for spec in &world.target_groups {
            let arn = self.create_target_group(spec)?;
            let balancer = self.add_load_balancer(&spec.name)?;
            self.serve_target_group(&arn, &balancer, spec.listener_port)?;
            target_groups.push(arn);
        }
        let names: Vec<String> = world.groups.iter().map(|g| g.name.clone()).collect();
        for spec in world.groups {
            self.create_group(spec)?;
        }
        self.tick_groups();
        let mut all = self.describe_world();
        if let Some(listed) = all["target_groups"].as_array_mut() {
            listed.retain(|g| target_groups.iter().any(|arn| g["arn"] == **arn));
        }
        if let Some(listed) = all["groups"].as_array_mut() {
            listed.retain(|g| names.iter().any(|name| g["name"] == **name));
        }
        Ok(all)
    }

    /// Describes all target groups and groups with their states.
    pub fn describe_world(&self) -> Value {
        let target_groups: Vec<Value> = self
            .elb
            .target_groups
            .values()
            .map(|g| {
                let targets: Vec<Value> = g
                    .targets
                    .iter()
                    .map(|((id, port), t)| {
                        json!({"instance": id, "port": port, "state": t.state.name(), "reason": t.reason})
                    })
                    .collect();
                json!({
                    "name": g.name,
                    "arn": g.arn,
                    "url": g.address.map(|a| format!("http://{a}")),
                    "load_balancer": g.load_balancer,
                    "requests": g.requests,
                    "balancer_failures": g.failures,
                    "targets": targets,
                })
            })
            .collect();
        let groups: Vec<Value> = self
            .groups
            .values()
            .map(|g| {
                let members = self.instances.values().filter(|i| i.group == g.name);
                let instances: Vec<Value> = members
                    .filter(|i| i.lifecycle != Lifecycle::Terminated)
                    .map(|i| {
                        json!({
                            "id": i.id,
                            "zone": i.zone,
                            "lifecycle": i.lifecycle.name(),
                            "healthy": i.healthy,
                            "running": i.is_up() && !i.dead,
                            "booted": i.booted,
                            "agent_seen": i.agent.last_ping.is_some(),
                            "agent_online": self.is_agent_online(i),
                            "limits": i.host.as_ref().map(|h| h.limits().to_vec()).unwrap_or_default(),
                        })
                    })
                    .collect();
                json!({
                    "name": g.name,
                    "arn": g.arn,
                    "paper": g.paper.is_some(),
                    "min": g.min,
                    "max": g.max,
                    "desired": g.desired,
                    "suspended": g.suspended,
                    "hooks": g.hooks.keys().collect::<Vec<_>>(),
                    "tags": g.tags.iter().map(|(k, t)| (k.clone(), Value::from(t.value.as_str()))).collect::<serde_json::Map<_, _>>(),
                    "instances": instances,
                })
            })
            .collect();
        json!({"target_groups": target_groups, "groups": groups})
    }
}
