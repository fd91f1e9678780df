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
    /// What drover changed on it and must put back.
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
    /// Each MinSize that drover set, or was about to set.
    #[serde(default)]
    pub our_mins: Vec<u32>,
    /// Processes that drover suspended.
    pub suspended: Vec<String>,
    /// Whether AWS has confirmed that they were resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Whether AWS has confirmed that MinSize was set back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub min_restored: bool,
    /// For how many instances that don't come back AWS has confirmed that their desired capacity was returned.
    #[serde(default, skip_serializing_if = "is_none")]
    pub returned: u32,
    /// The desired capacity that is about to be set in order to return some, until AWS has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<u32>,
    /// Whether the tag is on the group.
    pub tagged: bool,
    /// Instances that an operator had put into standby before the deployment began: drover leaves them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub theirs: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Hold {
    /// Records that the desired capacity is about to be set to `desired`. A number recorded before stays until AWS has
    /// answered.
    pub fn note_return(&mut self, desired: u32) {
        self.returning.get_or_insert(desired);
    }

    /// Records that AWS has confirmed the return of desired capacity for `count` instances.
    pub fn note_returned(&mut self, count: u32) {
        (self.returned, self.returning) = (count, None);
    }

    /// Records that these processes are about to be suspended.
    pub fn note_suspended(&mut self, processes: &[String]) {
        let new: Vec<String> = processes.iter().filter(|p| !self.suspended.contains(p)).cloned().collect();
        self.suspended.extend(new);
        self.resumed = false;
    }

    /// Records that MinSize is about to be set to `min`. If the one seen is neither the former one nor one of drover's,
    /// somebody else has set it since: that is then the one to go back to.
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
