//! Submissions.

use crate::rollout::policy::{Batches, Mode, Size};
use serde::{Deserialize, Serialize, Serializer};

/// What is to be deployed, and where; what is absent comes from the group's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// A full or abbreviated SHA, a branch or a tag.
    pub revision: String,
    /// The deployment group, `application/environment`.
    pub group: String,
    /// Instances at a time: a count, a percentage, or steps of them.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub batch: Option<Batches>,
    /// How one instance or batch follows another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Healthy instances that must stay in service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_in_service: Option<Size>,
    /// Instances that may end failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<Size>,
}

/// Writes batches as people write them: steps in one text, separated by commas.
fn as_text<S: Serializer>(batches: &Option<Batches>, serializer: S) -> Result<S::Ok, S::Error> {
    match batches {
        Some(batches) => serializer.collect_str(batches),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_read_in_every_form_and_written_as_text() {
        for batch in [r#""1, 10%""#, r#""1,10%""#, r#"["1", "10%"]"#, r#"[1, "10%"]"#] {
            let text = format!(r#"{{"revision":"main","group":"a/b","batch":{batch}}}"#);
            let read: Submission = serde_json::from_str(&text).unwrap();
            let written = serde_json::to_string(&read).unwrap();
            assert_eq!(written, r#"{"revision":"main","group":"a/b","batch":"1, 10%"}"#);
        }
    }
}
