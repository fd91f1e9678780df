//! Runs an attempt's events on a paper instance, in the runner's order and words (`hooks/runner/5-hooks.sh`, `main.sh`).

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, Stop, Verdict};
use super::chance::unit;
use super::machine::Machine;
use super::output::{Output, print_frames};
use super::pattern::Pattern;
use crate::revision::script::{Kind, Rendered};
use crate::sim::cloud::Cloud;

/// The number of parts in which a hook prints its lines.
const PARTS: u32 = 4;
/// The exit code of a hook that was ended by SIGTERM.
const TERMINATED: i64 = 143;
/// How long Install takes, seconds.
const INSTALL: f64 = 0.1;

/// The run of an attempt by one command.
pub(super) struct Run<'a> {
    pub(super) cloud: &'a Arc<Cloud>,
    pub(super) instance: &'a str,
    pub(super) attempt: &'a Attempt,
    pub(super) pattern: Pattern,
    pub(super) seed: u64,
    pub(super) output: &'a Output,
    /// How much of the log has been printed, bytes.
    pub(super) printed: usize,
    /// The hook that is to fail, counted from the first of the revision's that this attempt runs.
    pub(super) failing: Option<usize>,
    /// The number of hooks of the revision that have run.
    pub(super) count: usize,
}

/// The attempt is over, and its result recorded.
struct Over;

impl<'a> Run<'a> {
    /// Prepares the run of an attempt that was just begun.
    pub(super) fn new(
        cloud: &'a Arc<Cloud>,
        instance: &'a str,
        attempt: &'a Attempt,
        output: &'a Output,
        (pattern, seed): (Pattern, u64),
    ) -> Self {
        let mut run =
            Self { cloud, instance, attempt, pattern, seed, output, printed: 0, failing: None, count: 0 };
        run.failing = run.choose_failing_hook();
        run
    }

    /// Runs the attempt to its end, which is then recorded.
    pub(super) async fn run_to_the_end(mut self) {
        // The only end that isn't recorded on the way would be none at all.
        let Err(Over) = self.run_events().await;
        self.print_new();
    }

    fn with_machine<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        self.cloud.with(|state| state.paper_machine(self.instance, work))
    }

    fn script(&self) -> &Arc<Rendered> {
        &self.attempt.script
    }

    /// Chooses which of the revision's hooks fails, if one does.
    fn choose_failing_hook(&self) -> Option<usize> {
        let (script, row) = (self.script(), &self.attempt.row);
        let hooks = script
            .hooks
            .iter()
            .filter(|(event, _)| !event.is_of_the_former() && *event >= row.first)
            .filter(|(event, _)| script.events.contains(event))
            .count();
        let number = row.attempt.to_string();
        let broken = unit(self.seed, &["instance", self.instance, &script.sha]);
        let unlucky = unit(self.seed, &["attempt", self.instance, &number]);
        let fails = broken < self.pattern.failing_instances || unlucky < self.pattern.failing_attempts;
        let which = unit(self.seed, &["hook", self.instance, &number]) * hooks as f64;
        (fails && hooks > 0).then_some(which as usize)
    }

    async fn run_events(&mut self) -> Result<std::convert::Infallible, Over> {
        let (script, row) = (Arc::clone(self.script()), self.attempt.row.clone());
        let downloads = script.events.iter().any(|event| event.name() == "DownloadBundle");
        let is_here = self.with_machine(|machine| machine.has(&script)).unwrap_or_default();
        if script.kind == Kind::Run && !is_here && !downloads {
            self.run_event("DownloadBundle").await?;
        }
        let mut done = "-";
        for event in script.events.iter().skip_while(|event| **event != row.first) {
            self.stop_if_asked(done, "-", 0, true)?;
            self.run_event(event.name()).await?;
            done = event.name();
        }
        self.with_machine(|machine| machine.prune(script.keep, row.good.as_deref()));
        Err(self.finish("succeeded", done, "-", 0, 0))
    }

    async fn run_event(&mut self, event: &str) -> Result<(), Over> {
        let (code, hook) = match event {
            "DownloadBundle" => return self.download().await,
            "Install" => return self.install().await,
            "ApplicationStop" | "BeforeBlockTraffic" | "AfterBlockTraffic" => {
                self.run_former_event(event).await?
            }
            _ => self.run_hooks(event, &Arc::clone(self.script()), false).await?,
        };
        if code == 0 {
            return Ok(());
        }
        self.stop_if_asked(event, &hook, code, false)?;
        Err(self.finish("failed", event, &hook, code, 1))
    }

    async fn download(&mut self) -> Result<(), Over> {
        const EVENT: &str = "DownloadBundle";
        self.attempt.begin(EVENT, "-");
        let script = Arc::clone(self.script());
        let installs = script.events.iter().any(|event| event.name() == "Install");
        let found = self.with_machine(|machine| (machine.has(&script), machine.runs_another_build(&script)));
        let mut code = 0;
        match found.unwrap_or_default() {
            (true, _) => self.attempt.remark(&format!("{} is already here", script.sha)),
            (_, true) if !installs => self.attempt.remark(&format!(
                "another build of {} runs here: this one is downloaded once it is out of service",
                script.sha
            )),
            _ if self.pause(self.pattern.download_seconds, EVENT).await => {
                self.with_machine(|machine| machine.add(&script));
            }
            _ => code = TERMINATED,
        }
        self.attempt.end(EVENT, "-", code);
        self.print_new();
        if code == 0 {
            return Ok(());
        }
        self.stop_if_asked(EVENT, "-", code, false)?;
        Err(self.finish("failed", EVENT, "-", code, code))
    }

    async fn install(&mut self) -> Result<(), Over> {
        self.attempt.begin("Install", "-");
        self.pause(INSTALL, "Install").await;
        let script = Arc::clone(self.script());
        self.with_machine(|machine| machine.switch(&script));
        self.attempt.remark(&format!("current is {}", script.sha));
        self.attempt.end("Install", "-", 0);
        self.print_new();
        Ok(())
    }

    /// Runs an event of the release that is current: its hooks, once more if they fail, then those of the new release.
    async fn run_former_event(&mut self, event: &str) -> Result<(i64, String), Over> {
        let new = Arc::clone(self.script());
        if new.stop_from == "new" {
            return self.run_hooks(event, &new, true).await;
        }
        let Some(current) = self.with_machine(|machine| machine.current.clone()).flatten() else {
            self.attempt.begin(event, "-");
            self.attempt.remark("no release is current, nothing to do");
            self.attempt.end(event, "-", 0);
            return Ok((0, "-".into()));
        };
        let (mut code, mut hook) = self.run_hooks(event, &current.script, true).await?;
        if code != 0 {
            self.stop_if_asked(event, &hook, code, false)?;
            self.attempt.remark(&format!("{event} of the running release failed with {code}, once more"));
            (code, hook) = self.run_hooks(event, &current.script, true).await?;
        }
        if code == 0 {
            return Ok((code, hook));
        }
        self.stop_if_asked(event, &hook, code, false)?;
        let stands_in = new.hooks.iter().any(|(of, _)| of.name() == event);
        match new.stop_failure.as_str() {
            "ignore" => {
                let words = "which counts for nothing here (stop_failure = \"ignore\")";
                self.attempt.remark(&format!("{event} failed with {code}, {words}"));
                Ok((0, hook))
            }
            "fail" => Ok((code, hook)),
            _ if stands_in => {
                self.attempt.remark(&format!(
                    "{event} of the running release failed with {code}, trying the hooks of {}",
                    new.sha
                ));
                self.run_hooks(event, &new, true).await
            }
            _ => Ok((code, hook)),
        }
    }

    /// Runs the hooks of an event in a release up to the first that fails; returns the exit code and the last hook.
    async fn run_hooks(
        &mut self,
        event: &str,
        release: &Rendered,
        former: bool,
    ) -> Result<(i64, String), Over> {
        let (mut code, mut last) = (0, "-".to_owned());
        let hooks = release.hooks.iter().filter(|(of, _)| of.name() == event);
        for (at, (_, hook)) in hooks.enumerate() {
            if at > 0 {
                self.stop_if_asked(event, &last, code, false)?;
            }
            last.clone_from(hook);
            code = self.run_hook(event, hook, former).await;
            if code != 0 {
                break;
            }
        }
        Ok((code, last))
    }

    /// Runs one hook and returns its exit code.
    async fn run_hook(&mut self, event: &str, hook: &str, former: bool) -> i64 {
        self.attempt.begin(event, hook);
        let fails = !former && self.failing == Some(self.count);
        self.count += usize::from(!former);
        let (mut code, mut lost, mut line) = (0, 0, 0);
        for part in 1..=PARTS {
            if !self.pause(self.pattern.hook_seconds / f64::from(PARTS), &format!("{event}{hook}")).await {
                code = TERMINATED;
                break;
            }
            let upto = (u64::from(self.pattern.lines) * u64::from(part) / u64::from(PARTS)) as u32;
            let lines: String = (line..upto)
                .map(|n| format!("{event}: step {} of {}\n", n + 1, self.pattern.lines))
                .collect();
            line = upto;
            lost += self.attempt.print(&lines);
            self.print_new();
        }
        let struck = match code {
            0 => self.with_machine(|machine| machine.strike(event)).flatten(),
            _ => None,
        };
        if let Some((exit, message)) = struck {
            lost += self.attempt.print(&format!("{message}\n"));
            code = exit;
        } else if fails && code == 0 {
            lost += self.attempt.print(&format!("{event}: fails, as the paper pattern has it\n"));
            code = 1;
        }
        if lost > 0 {
            let most = self.script().log_max;
            self.attempt.remark(&format!("the log is full at {most} bytes: {lost} bytes more were not kept"));
        }
        self.attempt.end(event, hook, code);
        self.print_new();
        code
    }

    /// Waits for about this long; returns false where the attempt is to stop at once.
    async fn pause(&self, seconds: f64, what: &str) -> bool {
        let number = self.attempt.row.attempt.to_string();
        let factor = 0.5 + unit(self.seed, &["pause", self.instance, &number, what]);
        let mut stop = self.attempt.stop.subscribe();
        let pause = tokio::time::sleep(Duration::from_secs_f64(seconds * factor));
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop == Stop::Now) => false,
            () = pause => true,
        }
    }

    /// Ends the attempt if it was asked to stop.
    fn stop_if_asked(&self, event: &str, hook: &str, exit: i64, between_events: bool) -> Result<(), Over> {
        let stop = *self.attempt.stop.borrow();
        if stop == Stop::Now || (stop == Stop::After && between_events) {
            return Err(self.finish("stopped", event, hook, exit, 72));
        }
        Ok(())
    }

    /// Records the attempt's result.
    fn finish(&self, status: &str, event: &str, hook: &str, exit: i64, code: i64) -> Over {
        let current = self.with_machine(|machine| machine.current_sha()).unwrap_or_else(|| "-".into());
        self.attempt.finish(&Verdict { status, event, hook, exit, code }, &current);
        Over
    }

    /// Prints what is new in the log, if the log isn't pushed.
    fn print_new(&mut self) {
        if !self.script().log_url.is_empty() {
            return;
        }
        let new = self.attempt.bytes_from(self.printed);
        match self.script().frames {
            true => print_frames(&self.attempt.row.nonce, &new, self.printed, self.output),
            false => self.output.print(&new),
        }
        self.printed += new.len();
    }
}
