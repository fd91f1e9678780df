//! What belongs to deployment groups and their Auto Scaling groups, beyond one deployment: what is seen of them, what must
//! hold of them, their launches and quarantined instances, and how they are put back in order.

mod launches;
pub(in crate::engine) mod preconditions;
mod quarantine;
mod restore;
pub(in crate::engine) mod seen;
mod shared;
pub(in crate::engine) mod survey;
mod takeover;
pub(in crate::engine) mod targets;
