//! The JSON in which answers describe target groups, load balancers and listeners.

use serde_json::{Value, json};

use super::resources::{Listener, LoadBalancer};
use super::target_group::TargetGroup;

/// Describes a target group.
pub(super) fn target_group_json(g: &TargetGroup) -> Value {
    json!({
        "TargetGroupArn": g.arn,
        "TargetGroupName": g.name,
        "Protocol": "HTTP",
        "ProtocolVersion": "HTTP1",
        "Port": g.port,
        "VpcId": "vpc-00000000000000001",
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckEnabled": true,
        "HealthCheckIntervalSeconds": g.check.interval,
        "HealthCheckTimeoutSeconds": g.check.timeout,
        "HealthyThresholdCount": g.check.healthy_threshold,
        "UnhealthyThresholdCount": g.check.unhealthy_threshold,
        "HealthCheckPath": g.check.path,
        "Matcher": {"HttpCode": g.check.matcher},
        "LoadBalancerArns": g.load_balancer.iter().collect::<Vec<_>>(),
        "TargetType": "instance",
        "IpAddressType": "ipv4",
    })
}

/// Describes a load balancer.
pub(super) fn load_balancer_json(l: &LoadBalancer) -> Value {
    json!({
        "LoadBalancerArn": l.arn,
        "LoadBalancerName": l.name,
        "DNSName": "127.0.0.1",
        "CreatedTime": l.created,
        "Scheme": "internal",
        "VpcId": "vpc-00000000000000001",
        "State": {"Code": "active"},
        "Type": "application",
        "AvailabilityZones": [],
        "SecurityGroups": [],
        "IpAddressType": "ipv4",
    })
}

/// Describes a listener.
pub(super) fn listener_json(l: &Listener) -> Value {
    let forward = json!({"TargetGroups": [{"TargetGroupArn": l.target_group, "Weight": 1}]});
    json!({
        "ListenerArn": l.arn,
        "LoadBalancerArn": l.load_balancer,
        "Port": l.port,
        "Protocol": "HTTP",
        "DefaultActions": [{"Type": "forward", "TargetGroupArn": l.target_group, "ForwardConfig": forward}],
    })
}

/// Lists the attributes of a target group.
pub(super) fn attributes_json(group: &TargetGroup) -> Vec<Value> {
    group.attributes.iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect()
}
