//! The calls about instance refreshes: one is started, cancelled or described.

use serde_json::{Value, json};

use super::refresh::Refresh;
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn start_refresh(&mut self, p: Params<'_>) -> Answer {
        let strategy = p.str("Strategy").unwrap_or("Rolling").to_owned();
        if !["Rolling", "ReplaceRootVolume"].contains(&strategy.as_str()) {
            return Err(p.error(format!("Value '{strategy}' at 'strategy' is not valid")));
        }
        let id = self.random_uuid();
        let name = self.named_group(p)?.name.clone();
        let instances =
            self.instances.values().filter(|i| i.group == name && i.lifecycle.is_active()).count();
        let group = self.named_group(p)?;
        group.ensure_not_refreshing()?;
        group.refreshes.push(Refresh {
            id: id.clone(),
            strategy,
            preferences: p.get("Preferences").filter(|v| v.is_object()).cloned(),
            instances,
            start: jiff::Timestamp::now().to_string(),
            end: None,
        });
        Ok(json!({"InstanceRefreshId": id}))
    }

    pub(super) fn cancel_refresh(&mut self, p: Params<'_>) -> Answer {
        let group = self.named_group(p)?;
        let Some(refresh) = group.refreshes.last_mut().filter(|r| r.is_under_way()) else {
            return Err(ApiError::refused(
                "ActiveInstanceRefreshNotFound",
                format!(
                    "No in progress or pending Instance Refresh found for Auto Scaling group {}",
                    group.name
                ),
            ));
        };
        refresh.end = Some(jiff::Timestamp::now().to_string());
        Ok(json!({"InstanceRefreshId": refresh.id}))
    }

    /// Describes a group's refreshes, the newest first.
    pub(super) fn describe_refreshes(&mut self, p: Params<'_>) -> Answer {
        let ids = p.strings("InstanceRefreshIds");
        let group = self.named_group(p)?;
        let refreshes: Vec<Value> = group
            .refreshes
            .iter()
            .rev()
            .filter(|r| ids.is_empty() || ids.contains(&r.id))
            .map(|r| r.json(&group.name))
            .collect();
        let (page, next) = p.page(refreshes, "NextToken", "MaxRecords", (50, 100))?;
        Ok(json!({"InstanceRefreshes": page, "NextToken": next}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::World;

    #[test]
    fn a_refresh_is_in_progress_until_it_is_cancelled() {
        let mut state = State::new(1000.0, 7);
        let world: World = serde_json::from_value(json!({"groups": [{"name": "web", "min": 2}]})).unwrap();
        state.create_world(world).unwrap();
        let mut call = |action: &str| state.autoscaling(action, &json!({"AutoScalingGroupName": "web"}));
        assert_eq!(call("CancelInstanceRefresh").unwrap_err().code, "ActiveInstanceRefreshNotFound");
        let first = call("StartInstanceRefresh").unwrap()["InstanceRefreshId"].clone();
        assert_eq!(call("StartInstanceRefresh").unwrap_err().code, "InstanceRefreshInProgress");
        assert_eq!(call("PutWarmPool").unwrap_err().code, "InstanceRefreshInProgress");
        let listed = call("DescribeInstanceRefreshes").unwrap()["InstanceRefreshes"].clone();
        assert_eq!(
            (&listed[0]["Status"], &listed[0]["InstancesToUpdate"]),
            (&json!("InProgress"), &json!(2))
        );
        assert_eq!(call("CancelInstanceRefresh").unwrap()["InstanceRefreshId"], first);
        let second = call("StartInstanceRefresh").unwrap()["InstanceRefreshId"].clone();
        let listed = call("DescribeInstanceRefreshes").unwrap()["InstanceRefreshes"].clone();
        assert_eq!((&listed[0]["InstanceRefreshId"], &listed[1]["Status"]), (&second, &json!("Cancelled")));
        let one = json!({"AutoScalingGroupName": "web", "InstanceRefreshIds": [first]});
        let found = state.autoscaling("DescribeInstanceRefreshes", &one).unwrap();
        assert_eq!(found["InstanceRefreshes"].as_array().unwrap().len(), 1);
        let odd = json!({"AutoScalingGroupName": "web", "Strategy": "Fast"});
        assert_eq!(state.autoscaling("StartInstanceRefresh", &odd).unwrap_err().code, "ValidationError");
    }
}
