//! How much is taken in, how many at the same time, and for how long a client is waited for.

use std::time::Duration;

/// The largest body of an API request: a lock's reason is a sentence, a submission a few hundred bytes.
pub const LARGEST_JSON: usize = 64 * 1024;
/// The largest HTML form: a few hundred bytes, as a rule.
pub const LARGEST_FORM: usize = 16 * 1024;
/// The largest webhook. GitHub's own limit is 25 MB; a push of the 2,048 commits that it names at most stays far below this.
pub const LARGEST_WEBHOOK: usize = 8 * 1024 * 1024;
/// The largest last message of a host: the runner's last line is short.
pub const LARGEST_RESULT: usize = 16 * 1024;

/// How long a body may take, or its connection is cut: the largest that is taken is 8 MiB.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request's head may take, and a TLS handshake.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long open connections get to end after the signal to stop.
pub const LAST_MOMENT: Duration = Duration::from_secs(3);
/// How long a reader of a stream may take nothing before it counts as gone.
pub const READER_TIMEOUT: Duration = Duration::from_secs(120);

/// Connections at the same time, each with one request at most. Past it new ones are closed at once; those that say nothing
/// are cut before long.
pub const MOST_CONNECTIONS: usize = 8192;
/// Bodies of strangers that are gathered at the same time, each with [`BODY_PIECE`] bytes.
pub const MOST_STRANGERS: usize = 512;
/// The bytes that a stranger's body has room for at once, and more by the piece.
pub const BODY_PIECE: usize = 64 * 1024;
/// What all larger ones hold beyond that together, in pieces of [`BODY_PIECE`] bytes: 64 MiB.
pub const MOST_PIECES: usize = 1024;
/// Instances that download a bundle at the same time; as many as a small machine's network carries well.
pub const DOWNLOADS: usize = 24;
/// How long an instance waits for its turn to download: its curl waits a minute for the first byte.
pub const DOWNLOAD_TURN: Duration = Duration::from_secs(45);

/// Deployments in a list, unless asked otherwise.
pub const LIST: i64 = 50;
/// Deployments in a list at most.
pub const LONGEST_LIST: i64 = 500;
