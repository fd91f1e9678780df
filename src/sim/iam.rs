//! What the instances' role allows: an IAM policy document, held against the agent's own calls.
//!
//! `Effect`, `Action` and `Resource` are understood, with `*` and `?`. A statement with a condition allows nothing here.

use regex::Regex;
use serde::Deserialize;

/// The role of all instances. Without statements it allows nothing.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Policy {
    #[serde(rename = "Statement", default)]
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: Effect,
    action: Patterns,
    resource: Patterns,
    #[serde(default)]
    condition: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Patterns {
    One(String),
    Some(Vec<String>),
}

impl Patterns {
    fn fit(&self, name: &str) -> bool {
        match self {
            Patterns::One(pattern) => fits(pattern, name),
            Patterns::Some(patterns) => patterns.iter().any(|pattern| fits(pattern, name)),
        }
    }
}

/// `*` stands for anything, `?` for one character; actions differ in case only by accident.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("(?i)^{pattern}$")).is_ok_and(|pattern| pattern.is_match(name))
}

impl Policy {
    /// Whether the role may do that to this resource.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        self.says(Effect::Allow, action, resource) && !self.denies(action, resource)
    }

    /// Whether it may not, whatever another policy allows.
    pub fn denies(&self, action: &str, resource: &str) -> bool {
        self.says(Effect::Deny, action, resource)
    }

    fn says(&self, effect: Effect, action: &str, resource: &str) -> bool {
        self.statements.iter().any(|statement| {
            let holds = statement.condition.is_none() || effect == Effect::Deny;
            statement.effect == effect
                && holds
                && statement.action.fit(action)
                && statement.resource.fit(resource)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_role_may_what_its_policy_says_and_nothing_else() {
        let policy: Policy = serde_json::from_value(json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:Put*"], "Resource": "arn:aws:logs:*:*:log-group:/drover:*" },
            { "Effect": "Allow", "Action": "logs:DescribeLogGroups", "Resource": "*" },
            { "Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": { "Bool": {} } },
        ] }))
        .unwrap();
        let stream = "arn:aws:logs:eu-central-1:1:log-group:/drover:log-stream:a";
        assert!(policy.allows("logs:CreateLogStream", stream) && policy.allows("logs:PutLogEvents", stream));
        assert!(policy.allows("logs:DescribeLogGroups", "*"));
        assert!(
            !policy
                .allows("logs:CreateLogStream", "arn:aws:logs:eu-central-1:1:log-group:/other:log-stream:a")
        );
        assert!(!policy.allows("logs:CreateLogGroup", stream) && !policy.allows("s3:GetObject", "x"));
        assert!(!Policy::default().allows("logs:PutLogEvents", stream));
    }
}
