//! An Auto Scaling group, and the journal of what drover changed on it.

use serde::{Deserialize, Serialize};

/// An Auto Scaling group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its sizes now.
    pub min: u32,
    /// Its sizes now.
    pub desired: u32,
    /// Its sizes now.
    pub max: u32,
    /// Suspended processes.
    pub suspended: Vec<String>,
    /// What we changed on it and must put back.
    pub hold: Option<Hold>,
}

/// The journal of what we changed on an Auto Scaling group, kept in the store and in the group's tag
/// `drover:restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The deployment that holds it.
    pub deployment: i64,
    /// MinSize before.
    pub former_min: u32,
    /// Each MinSize that we set, or meant to.
    #[serde(default)]
    pub our_mins: Vec<u32>,
    /// Processes that we suspended.
    pub suspended: Vec<String>,
    /// They were resumed, as AWS has answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// MinSize was set back, as AWS has answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub min_restored: bool,
    /// Desired capacity was given back for so many instances that don't come back, as AWS has answered …
    #[serde(default, skip_serializing_if = "is_none")]
    pub returned: u32,
    /// … or is about to be, to this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<u32>,
    /// The tag is on the group.
    pub tagged: bool,
    /// In standby before we began, by an operator's hand: not ours to put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub theirs: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Hold {
    /// Desired capacity is about to be given back for so many. What is meant stays what it was until AWS has answered.
    pub fn note_return(&mut self, desired: u32) {
        self.returning.get_or_insert(desired);
    }

    /// AWS has answered.
    pub fn note_returned(&mut self, count: u32) {
        (self.returned, self.returning) = (count, None);
    }

    /// Processes are about to be suspended by us.
    pub fn note_suspended(&mut self, processes: &[String]) {
        let new: Vec<String> = processes.iter().filter(|p| !self.suspended.contains(p)).cloned().collect();
        self.suspended.extend(new);
        self.resumed = false;
    }

    /// MinSize is about to be set by us. What is neither the former one nor ours was set by somebody else since: that is
    /// the one to go back to.
    pub fn note_min(&mut self, seen: u32, min: u32) {
        if seen != self.former_min && !self.our_mins.contains(&seen) {
            self.former_min = seen;
        }
        if min != self.former_min && !self.our_mins.contains(&min) {
            self.our_mins.push(min);
        }
        self.min_restored = false;
    }
}
