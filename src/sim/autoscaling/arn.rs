//! ARNs of Auto Scaling groups.

use sha2::{Digest, Sha256};

use crate::sim::account::{ACCOUNT, REGION};

/// Returns a group's ARN. The id inside is made of the name, so that it is the same in every run.
pub(super) fn group_arn(name: &str) -> String {
    let h = hex::encode(Sha256::digest(name.as_bytes()));
    format!(
        "arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{}-{}-{}-{}-{}:autoScalingGroupName/{name}",
        &h[..8],
        &h[8..12],
        &h[12..16],
        &h[16..20],
        &h[20..32]
    )
}
