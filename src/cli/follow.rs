//! Follows a deployment in the terminal or in a pipe: the log as it comes, what is in work below it, and a
//! summary at the end. Survives restarts of the daemon; Ctrl-C detaches and leaves the deployment alone.
//!
//! May import `api` and its client, and `render` only.

mod progress;
pub mod stream;
mod tail;

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{Deployment, LogEnd, LogLine, LogQuery, LogRow};
use crate::cli::client::{Answer, ApiError, Client};
use crate::cli::render::{self, Lines, Look};
use progress::Progress;
use stream::Event;
use tail::Tails;

/// How often the deployment is asked for while its progress is on show.
const POLL: Duration = Duration::from_millis(500);
/// How often the progress lines are drawn.
const FRAME: Duration = Duration::from_millis(120);
/// Events handled at one go: what piled up is written in one piece.
const BURST: usize = 32;

/// How a followed deployment is written to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prefixed lines, and a summary once the deployment has ended or halted.
    Text,
    /// As `Text`, with the lines as the hooks wrote them.
    Raw,
    /// Log rows as NDJSON, closed by the API's `end` row.
    Rows,
    /// Log rows as NDJSON, closed by `{"result": {"exit_code": …, "deployment": {…}}}`.
    Result,
}

impl Format {
    fn is_text(self) -> bool {
        matches!(self, Format::Text | Format::Raw)
    }
}

/// What a shell makes of SIGINT.
pub const INTERRUPTED: i32 = 130;

/// How a follow came to its end.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The command line's exit code: the deployment's; [`INTERRUPTED`] after Ctrl-C, so that what is to follow on success
    /// doesn't; 0 where whoever read the output left, and where the log was only printed.
    pub exit_code: i32,
    /// The reader left before the end; the deployment goes on.
    pub detached: bool,
    /// The deployment at its end, for `Format::Text` and `Format::Result`.
    pub deployment: Option<Deployment>,
}

/// Writes the log that `query` asks for as it comes, until its end. Fails where the daemon refuses, or stays
/// away for longer than the retries last.
pub async fn follow(client: &Client, id: i64, query: LogQuery, format: Format) -> anyhow::Result<Outcome> {
    let follows = query.follow;
    // Owns the tasks beside this one, and ends them with it.
    let mut tasks = JoinSet::new();
    let (to, mut events) = mpsc::channel(BURST);
    tasks.spawn(stream::read(client.clone(), id, query.clone(), to));
    let on_screen = io::stdout().is_terminal() && io::stderr().is_terminal() && !render::is_dumb();
    let wants_progress = follows && format.is_text() && on_screen;
    let (poll_to, polled) = watch::channel(None);
    if wants_progress {
        tasks.spawn(poll(client.clone(), id, poll_to));
    }
    let mut screen = Screen::new(format, wants_progress.then(Progress::new), follows && query.is_whole());
    let mut interrupt = std::pin::pin!(async {
        if !follows || tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut burst = Vec::with_capacity(BURST);
    let end = loop {
        tokio::select! {
            () = &mut interrupt => return Ok(detach(screen, id, INTERRUPTED)),
            _ = frames.tick(), if wants_progress => screen.draw(polled.borrow().as_ref()),
            _ = events.recv_many(&mut burst, BURST) => match screen.take(burst.drain(..)) {
                Ok(Step::On) => {}
                Ok(Step::End(end)) => break end,
                Ok(Step::Lost(error)) => return Err(not_known(error, id)),
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(detach(screen, id, 0)),
                Err(e) => return Err(e).context("writing the log to standard output failed"),
            },
        }
    };
    // A follow that began late, or left lines out, may hold less than the ends of the outputs.
    let saw_all = query.is_whole();
    let seen = screen.into_tails();
    let mut tails = if saw_all { seen } else { Tails::default() };
    if !follows {
        return Ok(Outcome::default());
    }
    if format == Format::Rows {
        let exit_code = end.as_ref().and_then(|end| end.exit_code).unwrap_or(1);
        let state = end.map(|end| end.state).unwrap_or_default();
        let end = LogRow::End { end: LogEnd { state, exit_code: Some(exit_code) } };
        render::print_or_leave(&format!("{}\n", serde_json::to_string(&end)?))?;
        return Ok(Outcome { exit_code, ..Outcome::default() });
    }
    let answer = final_answer(client, id).await.map_err(|error| not_known(error, id))?;
    let deployment = answer.read()?;
    let exit_code = end.and_then(|end| end.exit_code).or(deployment.exit_code).unwrap_or(1);
    let said = if format == Format::Result {
        format!(
            "{}\n",
            serde_json::json!({"result": {"exit_code": exit_code, "deployment": answer.value()?}})
        )
    } else {
        tails.fetch_missing(client, &deployment).await;
        let look = Look::of_stdout();
        let mut said = tails.of_failures(&deployment, look);
        said.push_str(&render::summary(&deployment, look, Timestamp::now()));
        said
    };
    render::print_or_leave(&said)?;
    Ok(Outcome { exit_code, detached: false, deployment: Some(deployment) })
}

/// How a deployment ended isn't known, since the daemon was away for too long; the exit code of that is 5.
#[derive(Debug, thiserror::Error)]
#[error(
    "how deployment {id} ends is not known: {error}; once the daemon is back, re-attach with: drover logs {id} -f"
)]
pub struct NotKnown {
    id: i64,
    error: ApiError,
}

fn not_known(error: ApiError, id: i64) -> anyhow::Error {
    if error.is_passing() { NotKnown { id, error }.into() } else { error.into() }
}

fn detach(screen: Screen, id: i64, exit_code: i32) -> Outcome {
    drop(screen);
    eprintln!("detached: the deployment goes on; re-attach with: drover logs {id} -f");
    Outcome { exit_code, detached: true, ..Outcome::default() }
}

/// The deployment at its end; asked for again while the daemon is away.
async fn final_answer(client: &Client, id: i64) -> Result<Answer<Deployment>, ApiError> {
    let mut waits = stream::Waits::new(client.patience());
    loop {
        match client.deployment(id).await {
            Err(error) if error.is_passing() => match waits.next() {
                Some((pause, _)) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            other => return other,
        }
    }
}

/// Asks for the deployment again and again; a daemon that is away is the log stream's to report.
async fn poll(client: Client, id: i64, to: watch::Sender<Option<Deployment>>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !to.is_closed() {
        ticks.tick().await;
        if let Ok(deployment) = client.deployment(id).await.and_then(|answer| answer.read()) {
            to.send_replace(Some(deployment));
        }
    }
}

/// What a burst of events leads to.
enum Step {
    On,
    End(Option<LogEnd>),
    Lost(ApiError),
}

/// What is written, and where it is written to.
struct Screen {
    format: Format,
    look: Look,
    lines: Lines,
    tails: Tails,
    progress: Option<Progress>,
    is_away: bool,
    /// Whether the end of the first failed hook's output is shown at once.
    shows_failures: bool,
}

impl Screen {
    fn new(format: Format, progress: Option<Progress>, shows_failures: bool) -> Screen {
        let look = Look::of_stdout();
        let lines = Lines::new(look, format == Format::Raw);
        Screen { format, look, lines, tails: Tails::default(), progress, is_away: false, shows_failures }
    }

    fn into_tails(self) -> Tails {
        self.tails
    }

    fn draw(&mut self, deployment: Option<&Deployment>) {
        if let (Some(progress), Some(deployment)) = (&mut self.progress, deployment) {
            progress.draw(deployment, self.look, Timestamp::now());
        }
    }

    fn take(&mut self, events: impl Iterator<Item = Event>) -> io::Result<Step> {
        let mut text = String::new();
        let mut notes = String::new();
        let mut step = Step::On;
        let mut any = false;
        for event in events {
            any = true;
            match event {
                Event::Rows(rows) => self.put(&rows, &mut text)?,
                Event::Retrying { left, cause } => {
                    let left = render::span(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
                    // Once for each time that it goes away.
                    if !std::mem::replace(&mut self.is_away, true) {
                        notes.push_str(&format!(
                            "the daemon is away ({cause}): waiting up to {left} for it\n"
                        ));
                    }
                    self.trouble(Some(format!("daemon away, waiting up to {left} more")));
                }
                Event::Attached => {
                    notes.push_str("the daemon is back: the log goes on\n");
                    self.is_away = false;
                    self.trouble(None);
                }
                Event::End(end) => step = Step::End(end),
                Event::Lost(error) => step = Step::Lost(error),
            }
        }
        if !any {
            // The reader of the stream is gone without a word: it can only have panicked.
            return Err(io::Error::other("the log stream's reader stopped"));
        }
        let write = || {
            if !notes.is_empty() {
                eprint!("{notes}");
            }
            if text.is_empty() { Ok(()) } else { render::print(&text) }
        };
        match &self.progress {
            Some(progress) if !(text.is_empty() && notes.is_empty()) => progress.suspend(write)?,
            _ => write()?,
        }
        Ok(step)
    }

    fn put(&mut self, rows: &[LogLine], text: &mut String) -> io::Result<()> {
        for row in rows {
            if self.format.is_text() {
                self.lines.push(row, text);
                self.tails.push(row);
                if self.shows_failures && self.tails.is_first_failure(row) {
                    text.push_str(&self.tails.of_first_failure(self.look));
                }
            } else {
                text.push_str(&serde_json::to_string(row)?);
                text.push('\n');
            }
        }
        Ok(())
    }

    fn trouble(&mut self, trouble: Option<String>) {
        if let Some(progress) = &mut self.progress {
            progress.set_trouble(trouble);
        }
    }
}
