//! Log groups with their streams and events.

use std::collections::BTreeMap;

/// One event of a stream; times are milliseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) timestamp: i64,
    pub(super) message: String,
    pub(super) ingested: i64,
}

/// A log stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) created: i64,
    pub(super) events: Vec<Event>,
}

/// A log group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) created: i64,
    /// How long events are kept, days; `None` is for ever.
    pub(super) retention: Option<i64>,
    /// Its streams by name.
    pub(super) streams: BTreeMap<String, Stream>,
}

/// All log groups.
#[derive(Debug, Default)]
pub struct LogGroups {
    /// The groups by name.
    pub(super) groups: BTreeMap<String, Group>,
}
