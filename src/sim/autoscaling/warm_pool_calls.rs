//! The calls about warm pools: a group's is put, described and deleted.

use serde_json::json;

use super::warm_pool::{POOL_STATES, WarmPool};
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    /// Makes or changes a group's warm pool; what the call doesn't name stays as it was.
    pub(super) fn put_warm_pool(&mut self, p: Params<'_>) -> Answer {
        let most = i64::from(i32::MAX);
        let min = p.int_in("MinSize", 0..=most)?;
        let prepared = p.int_in("MaxGroupPreparedCapacity", -1..=most)?;
        let state = p.str("PoolState");
        if let Some(unknown) = state.filter(|s| !POOL_STATES.contains(s)) {
            return Err(p.error(format!("Value '{unknown}' at 'poolState' is not valid")));
        }
        let policy = p.get("InstanceReusePolicy").map(|tree| Params::new(tree, "ValidationError"));
        let reuse = policy.and_then(|policy| policy.bool("ReuseOnScaleIn"));
        let group = self.named_group(p)?;
        group.ensure_not_refreshing()?;
        let pool = group.warm_pool.get_or_insert_default();
        pool.min = min.unwrap_or(pool.min);
        if let Some(state) = state {
            pool.state = state.to_owned();
        }
        if let Some(prepared) = prepared {
            // -1 takes an earlier value back.
            pool.prepared = (prepared >= 0).then_some(prepared);
        }
        pool.reuse = reuse.or(pool.reuse);
        Ok(json!({}))
    }

    pub(super) fn delete_warm_pool(&mut self, p: Params<'_>) -> Answer {
        let group = self.named_group(p)?;
        if group.warm_pool.take().is_none() {
            let message = format!("No warm pool found for Auto Scaling group {}", group.name);
            return Err(ApiError::validation(message));
        }
        Ok(json!({}))
    }

    pub(super) fn describe_warm_pool(&mut self, p: Params<'_>) -> Answer {
        let pool = self.named_group(p)?.warm_pool.as_ref().map(WarmPool::json);
        Ok(json!({"WarmPoolConfiguration": pool, "Instances": []}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::World;

    #[test]
    fn a_warm_pool_is_described_and_holds_nothing() {
        let mut state = State::new(1000.0, 7);
        let world: World =
            serde_json::from_value(json!({"groups": [{"name": "web", "min": 1, "warm_pool": true}]}))
                .unwrap();
        state.create_world(world).unwrap();
        let named = json!({"AutoScalingGroupName": "web"});
        let groups = state.autoscaling("DescribeAutoScalingGroups", &json!({})).unwrap();
        let group = &groups["AutoScalingGroups"][0];
        assert_eq!(
            (&group["WarmPoolConfiguration"]["PoolState"], &group["WarmPoolSize"]),
            (&json!("Stopped"), &json!(0))
        );
        let change = json!({
            "AutoScalingGroupName": "web", "MinSize": "1", "MaxGroupPreparedCapacity": "3", "PoolState": "Running",
            "InstanceReusePolicy": {"ReuseOnScaleIn": "true"},
        });
        state.autoscaling("PutWarmPool", &change).unwrap();
        let back = json!({"AutoScalingGroupName": "web", "MaxGroupPreparedCapacity": "-1"});
        state.autoscaling("PutWarmPool", &back).unwrap();
        let described = state.autoscaling("DescribeWarmPool", &named).unwrap();
        assert_eq!(
            described["WarmPoolConfiguration"],
            json!({
                "MinSize": 1, "PoolState": "Running", "MaxGroupPreparedCapacity": null,
                "InstanceReusePolicy": {"ReuseOnScaleIn": true},
            })
        );
        assert_eq!((state.members("web").len(), described["Instances"].clone()), (1, json!([])));
        let odd = json!({"AutoScalingGroupName": "web", "PoolState": "Cold"});
        assert!(state.autoscaling("PutWarmPool", &odd).is_err());
        state.autoscaling("DeleteWarmPool", &named).unwrap();
        assert!(state.autoscaling("DescribeWarmPool", &named).unwrap()["WarmPoolConfiguration"].is_null());
        assert!(state.autoscaling("DeleteWarmPool", &named).unwrap_err().message.contains("No warm pool"));
    }
}
