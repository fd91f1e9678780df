//! What drover leaves on an Auto Scaling group: the tag that says how to put the group back, and the launch hook.

/// The tag on an Auto Scaling group that says how to put it back.
pub const RESTORE_TAG: &str = "drover:restore";
/// A group's tag takes 256 characters, which must name the instances that an operator has put in standby.
pub(super) const MOST_STANDBY: usize = 6;

/// The name of a deployment group's lifecycle hook: two groups may share an Auto Scaling group, which then waits for
/// both. AWS takes letters, digits, `-`, `_` and `/`.
pub(super) fn hook_name(group: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    format!("drover-{}", group.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_named_after_the_deployment_group() {
        assert_eq!(hook_name("eval.api/production"), "drover-eval-api-production");
    }
}
