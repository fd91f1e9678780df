//! Decides whether an attempt may run on a paper instance, by the runner's own rules (`hooks/runner/3-decide.sh`).

use std::sync::Arc;

use super::attempt::{Attempt, now};
use super::machine::{ATTEMPTS, Machine};
use crate::revision::script::{Kind, Rendered, Row};

/// What a command is to do.
#[derive(Debug)]
pub(super) enum Decision {
    /// Run the attempt.
    Run(Arc<Attempt>),
    /// Wait until the attempt, which another command runs, has ended.
    Follow(Arc<Attempt>),
    /// Repeat the result of the attempt, which has ended.
    Repeat(Arc<Attempt>),
    /// Refuse, because a later attempt was seen here.
    Refused { highest: i64 },
    /// Refuse, because the command came too late.
    Late,
    /// Refuse, because this other attempt is running.
    Busy(i64),
}

impl Machine {
    /// Decides what a command is to do, and begins its attempt if it may run; the runner's own lines are added to `remarks`.
    pub(super) fn decide(&mut self, script: &Arc<Rendered>, row: &Row, remarks: &mut String) -> Decision {
        let stops = matches!(script.kind, Kind::StopAfter | Kind::StopNow);
        let known = self.attempts.iter().find(|attempt| attempt.row.attempt == row.attempt).cloned();
        let is_over = |attempt: &Arc<Attempt>| attempt.ended.borrow().is_some();
        let owner = self.attempts.iter().find(|attempt| attempt.is_running()).cloned();
        let refused = row.attempt < self.highest && !stops;
        if let Some(owner) = owner {
            return match known {
                Some(known) if Arc::ptr_eq(&known, &owner) => Decision::Follow(owner),
                Some(known) if stops && is_over(&known) => Decision::Repeat(known),
                None if stops => self.stop_before(script, row),
                _ if refused => Decision::Refused { highest: self.highest },
                Some(known) if is_over(&known) => Decision::Repeat(known),
                _ => Decision::Busy(owner.row.attempt),
            };
        }
        let current = self.current_sha();
        for lost in self.attempts.iter().filter(|attempt| !is_over(attempt)) {
            let number = lost.row.attempt;
            lost.interrupt(number == row.attempt, &current);
            if number != row.attempt {
                remarks
                    .push_str(&format!("drover: attempt {number} had died and is recorded as interrupted\n"));
            }
        }
        match known {
            _ if refused => Decision::Refused { highest: self.highest },
            Some(known) => Decision::Repeat(known),
            None if stops => self.stop_before(script, row),
            None if now() > script.not_after => Decision::Late,
            None => Decision::Run(self.begin_attempt(script, row)),
        }
    }

    fn stop_before(&mut self, script: &Arc<Rendered>, row: &Row) -> Decision {
        let attempt = self.begin_attempt(script, row);
        attempt.stop_before(&self.current_sha());
        Decision::Repeat(attempt)
    }

    fn begin_attempt(&mut self, script: &Arc<Rendered>, row: &Row) -> Arc<Attempt> {
        self.highest = self.highest.max(row.attempt);
        // Only the newest attempt's log can be asked for again; an uploader holds on to what it still has to send.
        self.attempts.iter().filter(|old| old.script.log_url.is_empty()).for_each(|old| old.forget_log());
        let attempt = Arc::new(Attempt::new(row.clone(), Arc::clone(script)));
        self.attempts.truncate(ATTEMPTS - 1);
        self.attempts.push_front(Arc::clone(&attempt));
        attempt
    }
}
