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
//! | [`engine`] | load → observe → plan → record → perform → record; one task and one value a deployment; one function through which every effect passes |
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
//! # The way of a SHA, from the form to the host
//! 1. `web::pages::list::submit` takes the form, `web::api::deployments::submit` the same from a command line.
//! 2. `engine::intake::submit::submit` resolves it to a commit of the branch (`github::resolve`) and writes a deployment into the
//!    queue (`engine::intake::submit::queue`).
//! 3. `engine::schedule::look_at_queue` starts its task when its turn has come: `engine::deployment::tick::drive`.
//! 4. `engine::deployment::prepare::prepare` fetches and examines the bundle (`engine::revisions::fetch::fetch_bundle`) and looks at the fleet
//!    (`engine::groups::survey::survey`).
//! 5. A tick: `engine::deployment::observe::observe` makes a snapshot, `rollout::plan::plan` says what to do,
//!    `engine::deployment::changes::record` writes it down, `engine::deployment::act::act` does it.
//! 6. `engine::deployment::dispatch::dispatch` writes down an attempt for each instance, and sends the script that
//!    `revision::script::render` makes by `fleet::commands::send_command`.
//! 7. On the host `hooks/runner/3-decide.sh::decide` sees to it that no attempt runs twice, `hooks/runner/6-release.sh::fetch`
//!    brings the bundle, `hooks/runner/6-release.sh::switch` makes it current, `hooks/runner/5-hooks.sh::run_event` runs its
//!    hooks.
//!
//! # The way of a log byte, from the host to the terminal
//! 1. `hooks/runner/5-hooks.sh::run_hook` writes what a hook prints into the attempt's file, without the secrets
//!    (`hooks/runner/4-secrets.sh::masked`).
//! 2. `hooks/runner/9-upload.sh::upload` pushes the file from the offset that the daemon wants.
//! 3. `web::hosts::push` takes the bytes; where nothing comes in, `engine::uploads::read_upload` reads them from CloudWatch
//!    Logs and `logs::frames::event` puts them together again.
//! 4. `logs::ingest::take` parses and hashes them, `logs::writer::write` stores the lines of many attempts with one commit,
//!    and only then `logs::announce` tells the readers.
//! 5. `logs::follow::follow` reads the store from a reader's number on, `web::stream::respond` sends it.
//! 6. `cli::follow::stream::read` receives it and reconnects, `cli::follow::follow` prints it.
//!
//! # What is safe against a crash
//! - Every effect is an intent in the store before it is performed. Effects on groups are idempotent by observation: the next
//!   plan sees what is so.
//! - A dispatch is found again by its comment; not found proves nothing, so the same is sent again, and the host's
//!   journal lets no attempt run twice (`hooks/runner`).
//! - A log is a byte stream with offsets: lines and offset are stored in one transaction.
//!
//! # Departures from the design page
//! - The outcome that a host pushes at the end of its log, under a token of that attempt, counts at once; Systems
//!   Manager's own word is asked for in parallel and counts where the push doesn't come.
//! - AWS is asked about the fleet at `server.poll` where something is due, a fifth as often where nothing is; a look that is
//!   younger than half a second serves whoever is woken meanwhile. Where hosts push, Systems Manager is asked a fifth as often.
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
