//! The lines below a scrolling log: one per instance in work, failures first, and a summary.
//!
//! May import `api` and `render` only. Draws on standard error.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::api::{Deployment, Instance};
use crate::cli::render::{self, Look};

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The block of progress lines. It clears itself when dropped.
#[derive(Debug)]
pub struct Progress {
    area: MultiProgress,
    bars: Vec<ProgressBar>,
    frame: usize,
    trouble: Option<String>,
}

impl Progress {
    /// An empty block.
    pub fn new() -> Progress {
        let area = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Progress { area, bars: Vec::new(), frame: 0, trouble: None }
    }

    /// Runs `write` with the block out of the way.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.area.suspend(write)
    }

    /// What to show at the head of the summary while the daemon is away; `None` when it is back.
    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Draws the deployment as it stands.
    pub fn draw(&mut self, deployment: &Deployment, look: Look, now: Timestamp) {
        self.frame = (self.frame + 1) % FRAMES.len();
        let (height, _) = console::Term::stderr().size();
        // Half of the terminal stays with the log.
        let room = usize::from(height / 2).max(2) - 1;
        let mut lines = instance_lines(deployment, FRAMES[self.frame], look, room, now);
        let mut last = summary_line(deployment, look, now);
        if let Some(trouble) = &self.trouble {
            last = format!("{trouble} · {last}");
        }
        lines.push(last);
        while self.bars.len() > lines.len() {
            if let Some(bar) = self.bars.pop() {
                self.area.remove(&bar);
            }
        }
        while self.bars.len() < lines.len() {
            let bar = self.area.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            self.bars.push(bar);
        }
        for (bar, line) in self.bars.iter().zip(lines) {
            bar.set_message(line);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = self.area.clear();
    }
}

/// Where an instance stands among the others: failures first, then what runs; `None` is not shown.
fn rank(state: &str) -> Option<u8> {
    match state {
        "Failed" => Some(0),
        "Waiting" | "Restoring" => Some(1),
        "PreBlocking" | "Blocking" | "Deploying" | "Allowing" | "PostAllowing" => Some(2),
        "Staging" => Some(3),
        _ => None,
    }
}

fn instance_lines(
    deployment: &Deployment,
    frame: &str,
    look: Look,
    room: usize,
    now: Timestamp,
) -> Vec<String> {
    let total = deployment.instances().len();
    let digits = total.to_string().len().max(2);
    let mut shown: Vec<(u8, usize, &Instance)> = deployment
        .instances()
        .iter()
        .enumerate()
        .filter_map(|(index, instance)| Some((rank(&instance.state)?, index + 1, instance)))
        .collect();
    shown.sort_by_key(|(rank, index, _)| (*rank, *index));
    let fit = if shown.len() > room { room.saturating_sub(1) } else { room };
    let more = shown.len().saturating_sub(fit);
    let mut lines: Vec<String> = shown
        .into_iter()
        .take(fit)
        .map(|(rank, index, instance)| {
            let mark = if rank == 0 { "✗" } else { frame };
            let place = format!("[{index:0digits$}/{total:0digits$}]");
            format!("{mark} {place} {} {}", instance.id, doing(instance, look, now))
        })
        .collect();
    if more > 0 {
        lines.push(format!("  … and {more} more"));
    }
    lines
}

/// `Deploying ApplicationStart  drain: 4 s left  (12 s)`.
fn doing(instance: &Instance, look: Look, now: Timestamp) -> String {
    let mut out = look.state(&instance.state);
    if let Some(event) = &instance.event {
        out.push(' ');
        out.push_str(event);
    }
    let why = if instance.state == "Failed" {
        render::why(instance)
    } else {
        instance.explain.clone().or_else(|| instance.reason.clone()).unwrap_or_default()
    };
    if !why.is_empty() {
        out.push_str("  ");
        out.push_str(&render::clean(&why, false));
    }
    if instance.state != "Failed"
        && let Some(since) = instance.since
    {
        out.push_str(&format!("  ({})", render::span(render::since(since, now))));
    }
    out
}

fn summary_line(deployment: &Deployment, look: Look, now: Timestamp) -> String {
    let sha = render::short(&deployment.revision.sha);
    let state = look.state(&deployment.state);
    let mut parts = vec![format!("#{} {} {sha} {state}", deployment.id, deployment.group)];
    let in_work = |i: &&Instance| rank(&i.state).is_some_and(|rank| (1..=2).contains(&rank));
    if let Some(batch) = deployment.instances().iter().filter(in_work).filter_map(|i| i.batch).max() {
        parts.push(format!("batch {batch}"));
    }
    parts.push(render::counts(deployment));
    if let Some(seconds) = deployment.seconds_left {
        parts.push(format!("about {} left", render::span(seconds)));
    }
    parts.push(render::span(render::elapsed(deployment, now)));
    if let Some(why) = deployment.explain.first() {
        parts.push(render::clean(why, false));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, terminal: true };

    fn deployment(states: &[&str]) -> Deployment {
        let instances = states.iter().enumerate().map(|(n, state)| Instance {
            id: format!("i-{n}"),
            state: (*state).to_owned(),
            batch: Some(1),
            ..Instance::default()
        });
        Deployment {
            id: 7,
            state: "Rolling".to_owned(),
            instances: Some(instances.collect()),
            ..Default::default()
        }
    }

    #[test]
    fn failures_come_first_and_the_rest_is_counted() {
        let deployment = deployment(&["Succeeded", "Deploying", "Failed", "Pending", "Blocking", "Staging"]);
        let lines = instance_lines(&deployment, "*", PLAIN, 9, Timestamp::UNIX_EPOCH);
        assert_eq!(
            lines,
            [
                "✗ [03/06] i-2 Failed",
                "* [02/06] i-1 Deploying",
                "* [05/06] i-4 Blocking",
                "* [06/06] i-5 Staging"
            ]
        );
        let lines = instance_lines(&deployment, "*", PLAIN, 3, Timestamp::UNIX_EPOCH);
        assert_eq!(lines, ["✗ [03/06] i-2 Failed", "* [02/06] i-1 Deploying", "  … and 2 more"]);
    }

    #[test]
    fn an_instance_says_what_it_waits_for_and_how_long() {
        let instance = Instance {
            state: "Blocking".to_owned(),
            explain: Some("drain: 4 s left".to_owned()),
            since: Some(Timestamp::UNIX_EPOCH),
            ..Instance::default()
        };
        let now = Timestamp::from_second(12).unwrap();
        assert_eq!(doing(&instance, PLAIN, now), "Blocking  drain: 4 s left  (12 s)");
    }
}
