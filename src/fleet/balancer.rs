//! Target groups and the health of their targets.

use super::{Fleet, Result, list::NonEmpty, more};
use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetTypeEnum};
use jiff::SignedDuration;

/// A target group, as far as drover reads it.
#[derive(Clone, Debug)]
pub struct TargetGroup {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Its targets are instances, not addresses.
    pub of_instances: bool,
    /// A load balancer uses it.
    pub in_use: bool,
    /// The network (VPC) that it is in.
    pub network: Option<String>,
    /// Default port of its targets.
    pub port: u16,
    /// `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: SignedDuration,
    /// Between two health checks.
    pub interval: SignedDuration,
    /// Passed checks until healthy.
    pub threshold: i32,
}

impl TargetGroup {
    /// Health-check interval × healthy threshold.
    pub fn becoming_healthy(&self) -> SignedDuration {
        self.interval * self.threshold
    }
}

/// A target and its health.
#[derive(Clone, Debug)]
pub struct TargetSight {
    /// Instance id.
    pub instance: String,
    /// Port.
    pub port: u16,
    /// `healthy`, `draining` … as AWS writes it.
    pub state: String,
    /// Reason code and words, if AWS gives them.
    pub reason: String,
}

/// What is answered of a target group that isn't there.
pub const NO_SUCH_GROUP: &str = "TargetGroupNotFound";

/// DescribeTargetGroups takes so many ARNs at once: none is left out of the answer below the size of its page.
const MOST_ARNS: usize = 20;

fn port(number: Option<i32>) -> u16 {
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

impl Fleet {
    /// The target groups of these ARNs with the settings that waits depend on. What is no longer there is missing from the
    /// answer.
    pub async fn target_groups(&self, arns: &[String]) -> Result<Vec<TargetGroup>> {
        let mut groups = Vec::new();
        if let Some(arns) = NonEmpty::of(arns) {
            for some in arns.pieces(MOST_ARNS) {
                match self.describe_target_groups(some, &mut groups).await {
                    // One that is missing spoils the answer for all.
                    Err(error) if error.code == NO_SUCH_GROUP && some.as_slice().len() > 1 => {
                        for one in some.pieces(1) {
                            match self.describe_target_groups(one, &mut groups).await {
                                Err(error) if error.code != NO_SUCH_GROUP => return Err(error),
                                _ => {}
                            }
                        }
                    }
                    Err(error) if error.code == NO_SUCH_GROUP => {}
                    done => done?,
                }
            }
        }
        Ok(groups)
    }

    async fn describe_target_groups(
        &self,
        arns: NonEmpty<'_, String>,
        groups: &mut Vec<TargetGroup>,
    ) -> Result<()> {
        let call = self.elb.describe_target_groups().set_target_group_arns(arns.parameter());
        let answer = self.call("DescribeTargetGroups", call.send()).await?;
        for group in answer.target_groups() {
            let arn = group.target_group_arn().unwrap_or_default();
            let call = self.elb.describe_target_group_attributes().target_group_arn(arn);
            let attributes = self.call("DescribeTargetGroupAttributes", call.send()).await?;
            let delay = attributes
                .attributes()
                .iter()
                .find(|attribute| attribute.key() == Some("deregistration_delay.timeout_seconds"))
                .and_then(|attribute| attribute.value()?.parse().ok())
                // AWS's default.
                .unwrap_or(300);
            let interval = i64::from(group.health_check_interval_seconds().unwrap_or(30));
            groups.push(TargetGroup {
                arn: arn.to_owned(),
                name: group.target_group_name().unwrap_or_default().to_owned(),
                of_instances: group.target_type().is_none_or(|kind| *kind == TargetTypeEnum::Instance),
                in_use: !group.load_balancer_arns().is_empty(),
                network: group.vpc_id().map(str::to_owned),
                port: port(group.port()),
                deregistration_delay: SignedDuration::from_secs(delay),
                interval: SignedDuration::from_secs(interval),
                threshold: group.healthy_threshold_count().unwrap_or(5),
            });
        }
        Ok(())
    }

    /// The ARNs of all target groups in these networks that have instances as targets and a load balancer: an instance is
    /// a target in its own network alone.
    pub async fn target_groups_in(&self, networks: &[String]) -> Result<Vec<String>> {
        let (mut arns, mut marker) = (Vec::new(), None);
        loop {
            let page = self.elb.describe_target_groups().set_marker(marker).send();
            let page = self.call("DescribeTargetGroups", page).await?;
            for group in page.target_groups() {
                let of_instances = group.target_type().is_none_or(|kind| *kind == TargetTypeEnum::Instance);
                let near = group.vpc_id().is_none_or(|vpc| networks.iter().any(|network| network == vpc));
                if of_instances && near && !group.load_balancer_arns().is_empty() {
                    arns.extend(group.target_group_arn().map(str::to_owned));
                }
            }
            marker = more(page.next_marker());
            if marker.is_none() {
                return Ok(arns);
            }
        }
    }

    /// The targets of one group.
    pub async fn target_health(&self, arn: &str) -> Result<Vec<TargetSight>> {
        let call = self.elb.describe_target_health().target_group_arn(arn);
        let answer = self.call("DescribeTargetHealth", call.send()).await?;
        let targets = answer.target_health_descriptions().iter().filter_map(|description| {
            let (target, health) = (description.target()?, description.target_health());
            let code = health.and_then(|h| h.reason()).map(|r| r.as_str()).unwrap_or_default();
            let words = health.and_then(|h| h.description()).unwrap_or_default();
            Some(TargetSight {
                instance: target.id().unwrap_or_default().to_owned(),
                port: port(target.port()),
                state: health.and_then(|h| h.state()).map(|s| s.as_str().to_owned()).unwrap_or_default(),
                reason: format!("{code} {words}").trim().to_owned(),
            })
        });
        Ok(targets.collect())
    }

    /// Adds targets.
    pub async fn register(&self, arn: &str, targets: &[(String, u16)]) -> Result<()> {
        let Some(targets) = NonEmpty::of(targets) else { return Ok(()) };
        let call = self.elb.register_targets().target_group_arn(arn).set_targets(described(targets));
        self.call("RegisterTargets", call.send()).await.map(drop)
    }

    /// Removes targets: they drain.
    pub async fn deregister(&self, arn: &str, targets: &[(String, u16)]) -> Result<()> {
        let Some(targets) = NonEmpty::of(targets) else { return Ok(()) };
        let call = self.elb.deregister_targets().target_group_arn(arn).set_targets(described(targets));
        self.call("DeregisterTargets", call.send()).await.map(drop)
    }
}

fn described(targets: NonEmpty<'_, (String, u16)>) -> Option<Vec<TargetDescription>> {
    let described =
        |(id, port): &(String, u16)| TargetDescription::builder().id(id).port(i32::from(*port)).build();
    Some(targets.as_slice().iter().map(described).collect())
}
