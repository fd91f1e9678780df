//! # drover: the house
//!
//! One crate, one binary. `drover serve` is the daemon; everything else on the command line talks to it over HTTP, or
//! is a world of its own (`sim`, `demo`). Upper floors import lower ones, never the reverse; `tests/all/house.rs`
//! holds these arrows.
//!
//! | floor | what it is |
//! |---|---|
//! | [`cli`] | arguments, one file a subcommand; `serve` and `check` run here, the rest are clients |
//! | [`web`] | the page, the HTTP API, the log streams, what hosts fetch and push, the webhook, all behind one gate |
//! | [`api`] | every request and answer that crosses HTTP, and the one table of routes |
//! | [`engine`] | load → observe → plan → record → act → record; one task a deployment; one function through which every effect passes |
//! | [`fleet`], [`github`] | the AWS SDK and octocrab: what drover asks of them, in drover's words |
//! | [`logs`] | ingest, sequence, chunks, follow, on top of the store |
//! | [`store`] | sqlx over SQLite and PostgreSQL, and the claim that makes one daemon the active one; knows no other |
//! | [`revision`] | `appspec.yml`, the bundle, the script that goes to the host |
//! | [`rollout`] | pure: states, the transition function, the planner, policy, explanations |
//! | [`config`] | `drover.toml` |
//! | `sim` | the simulated cloud, a house of its own: only `cli::{sim, demo, rehearse}` and tests enter it; left out of a build without the feature `sim` |
//!
//! # A deployment
//! `Queued → Preparing → Rolling → Succeeded | Partial | Failed | Cancelled`, with `Halted` on the side of Rolling.
//! Preparing does what can be done before a host is touched: resolve and prove the commit, fetch and examine the bundle,
//! look at the groups, count. Rolling is a loop: [`engine`] reads the store and the fleet, [`rollout::plan`] says what
//! changes and what to do, the engine writes that down and does it. A start of the daemon is an ordinary turn of that
//! loop; there is no separate recovery code.
//!
//! An instance: `Pending → Staging → Staged → (PreBlocking) → Blocking → Deploying → Allowing → (PostAllowing) →
//! Succeeded`, with `Waiting` for retries; `Restoring → Restored` after a cancel; `Failed`, `Gone`, `Skipped`.
//!
//! # What is safe against a crash
//! - Every effect is an intent in the store before it is had. Effects on groups are idempotent by observation: the next
//!   plan sees what is so.
//! - A dispatch is found again by its comment; not found proves nothing, so the same is sent again, and the host's
//!   journal lets no attempt run twice (`hooks/runner`).
//! - A log is a byte stream with offsets: lines and offset are stored in one transaction.
//!
//! # Departures from the design page
//! - The outcome that a host pushes at the end of its log, under a token of that attempt, counts at once; Systems
//!   Manager's own word is asked for in parallel and counts where the push doesn't come.
//! - `Restored` is a state of its own: 'put back' is neither success nor failure.
//! - Backoff has jitter on top of the exponential pause, not full jitter: a retry never comes sooner than the base.
//! - A bundle by GitHub's link has no checksum of ours: GitHub makes the archive anew and doesn't promise the same bytes.
//!   The commit's SHA in the link says what it is.
//! - Without `public_url` the runner frames its log (`D_LOG_FORM=frames`): the agent uploads text only, so a piece that is
//!   not plain text goes as base64, and the daemon puts the same byte stream together as a push would have brought.
//! - Migrations run under the claim, never beside an active daemon: a standby of a newer version waits with them.
//! - Secrets are read from Parameter Store by the hosts, not by the daemon, and masked by the runner before a line is written to
//!   the log: they pass through no command, no daemon and no upload, with `public_url` or without. The price is the `aws`
//!   command on the host.
//! - ApplicationStop and the Block events of the release that runs are tried twice before the new revision's stand in.
//! - A failure while staging leaves the instance in service on its old release; only touched instances are quarantined.

pub mod api;
pub mod artifact;
pub mod cli;
pub mod config;
pub mod download;
pub mod engine;
pub mod fleet;
pub mod github;
pub mod logs;
pub mod revision;
pub mod rollout;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
pub mod web;
