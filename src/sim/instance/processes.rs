//! Pid 1's duty: every child is waited for, its own and the orphans it inherits.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The children that somebody waits for, with their exit codes once they have ended.
#[derive(Default)]
pub(super) struct Processes {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    codes: HashMap<i32, Option<i32>>,
    started: u64,
}

impl Processes {
    /// Starts a process; its program must be an absolute path (the standard library would otherwise fork and wait for a
    /// failed child itself, which the reaper might do first).
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Pid> {
        let mut table = self.lock();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        table.codes.insert(pid, None);
        table.started += 1;
        self.changed.notify_all();
        Ok(Pid::from_raw(pid))
    }

    /// Waits for a process to end; its exit code, or 128 + n after signal n.
    pub(super) fn wait(&self, pid: Pid) -> i32 {
        let mut table = self.lock();
        loop {
            match table.codes.get(&pid.as_raw()) {
                Some(Some(code)) => {
                    let code = *code;
                    table.codes.remove(&pid.as_raw());
                    return code;
                }
                Some(None) => table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
                None => return -1,
            }
        }
    }

    /// Sends a signal to a process that is still waited for, or (`group`) to its process group.
    pub(super) fn signal(&self, pid: Pid, signal: Signal, group: bool) {
        // Under the lock the number can't have been given to another process: who is not reaped keeps it.
        let table = self.lock();
        if table.codes.get(&pid.as_raw()) == Some(&None) {
            let target = if group { Pid::from_raw(-pid.as_raw()) } else { pid };
            let _ = kill(target, signal);
        }
    }

    /// Reaps for ever.
    pub(super) fn reap(&self) -> ! {
        loop {
            let started = self.lock().started;
            let (pid, code) = match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Err(Errno::ECHILD) => {
                    // Without children no orphan can come either: the next one is started here.
                    let mut table = self.lock();
                    while table.started == started {
                        table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
                    }
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            if let Some(slot) = self.lock().codes.get_mut(&pid.as_raw()) {
                *slot = Some(code);
                self.changed.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process as /proc shows it.
pub(super) struct Seen {
    pub pid: i32,
    pub parent: i32,
    pub words: Vec<String>,
}

/// All processes that /proc shows.
pub(super) fn all() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may hold anything, parentheses too.
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let parent = fields.nth(1)?.parse().ok()?;
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            Some(Seen { pid, parent, words: words.collect() })
        })
        .collect()
}

/// Kills every descendant of a process, until there are none.
pub(super) fn kill_descendants(ancestor: Pid) {
    loop {
        let all = all();
        let mut family = vec![ancestor.as_raw()];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(all.iter().filter(|seen| seen.parent == parent).map(|seen| seen.pid));
            at += 1;
        }
        let mut alive = false;
        for pid in family.into_iter().skip(1) {
            alive |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
        if !alive {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
