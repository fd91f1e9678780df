//! Failure classes: which failures are retried on the same instance, and after which pause.

use super::{
    policy::Retry,
    state::{Cause, Fault},
};
use jiff::SignedDuration;
use regex::RegexSet;
use std::{sync::LazyLock, time::Duration};

/// How a failure is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The failure passes by itself: it is retried up to `retry.attempts`.
    Transient,
    /// The attempt would fail again: it is not retried.
    Permanent,
    /// Any other failure: it is retried up to `retry.attempts_unknown`.
    Unknown,
}

impl Class {
    /// Returns the word for it in messages.
    pub fn word(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Permanent => "permanent",
            Class::Unknown => "of unknown class",
        }
    }
}

/// What transient trouble looks like in the last lines of a failed hook: name resolution, connections, package
/// managers' locks, servers' 429 and 5xx. The words are those of glibc, curl, wget, apt, dpkg, yum and npm.
static TRANSIENT: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        r"(?i)temporary failure in name resolution",
        r"(?i)could not resolve host",
        r"(?i)connection (reset by peer|timed out|refused)",
        r"(?i)network is unreachable",
        r"(?i)tls handshake timeout|ssl_error_syscall",
        r"(?i)could not get lock|unable to acquire the dpkg|is another process using it",
        r"(?i)another app is currently holding the yum lock",
        r"(?i)\b(429 too many requests|502 bad gateway|503 service unavailable|504 gateway time-?out)\b",
        r"(?i)requested url returned error: (429|50[0234])",
        r"(?i)\b(EAI_AGAIN|ECONNRESET|ETIMEDOUT)\b",
        r"(?i)throttl(ed|ing)|rate exceeded|requestlimitexceeded",
    ])
    .unwrap_or_else(|_| RegexSet::empty())
});

/// Returns the class of a fault.
pub fn classify(fault: &Fault, retry: &Retry) -> Class {
    match &fault.cause {
        Cause::Download | Cause::Undelivered(_) | Cause::AgentLost(_) | Cause::Interrupted | Cause::Busy => {
            Class::Transient
        }
        Cause::Refused => Class::Permanent,
        Cause::Exit(code) if retry.transient_exit_codes.contains(code) => Class::Transient,
        Cause::Exit(code) if retry.permanent_exit_codes.contains(code) => Class::Permanent,
        Cause::Exit(126 | 127) => Class::Permanent,
        Cause::Exit(_) | Cause::HookTimeout | Cause::HostCannot if looks_transient(&fault.tail, retry) => {
            Class::Transient
        }
        Cause::Exit(_)
        | Cause::HookTimeout
        | Cause::HostCannot
        | Cause::Unhealthy(_)
        | Cause::WrongRelease { .. }
        | Cause::Deadline(_) => Class::Unknown,
    }
}

fn looks_transient(tail: &[String], retry: &Retry) -> bool {
    let own = RegexSet::new(&retry.transient_patterns).unwrap_or_else(|_| RegexSet::empty());
    tail.iter().any(|line| TRANSIENT.is_match(line) || own.is_match(line))
}

/// Returns the pause before retry number `retry_number` (from 1): exponential from `base` to `cap`, and by chance up to as
/// much again,
/// the same for the same `seed`.
pub fn backoff(retry: &Retry, retry_number: u32, seed: u64) -> SignedDuration {
    use backon::BackoffBuilder as _;
    let schedule = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::try_from(retry.base).unwrap_or(Duration::ZERO))
        .with_max_delay(Duration::try_from(retry.cap).unwrap_or(Duration::MAX))
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(seed)
        .without_max_times();
    let pause = schedule.build().nth(retry_number.max(1) as usize - 1).unwrap_or_default();
    SignedDuration::try_from(pause).unwrap_or(retry.cap)
}

/// Returns a line without what differs from host to host (numbers, hex, ids, addresses), so that the same failure on two
/// instances reads the same.
pub fn normalise(line: &str) -> String {
    static VARIES: LazyLock<Option<regex::Regex>> =
        LazyLock::new(|| regex::Regex::new(r"\bi-[0-9a-f]+\b|\b(0x)?[0-9a-f]{7,}\b|\d+").ok());
    match &*VARIES {
        Some(varies) => varies.replace_all(line.trim(), "#").into_owned(),
        None => line.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::event::LifecycleEvent;

    fn exit(code: i32, line: &str) -> Fault {
        Fault {
            event: LifecycleEvent::AfterInstall,
            hook: None,
            cause: Cause::Exit(code),
            tail: vec![line.into()],
        }
    }

    #[test]
    fn classes() {
        let mut retry = Retry::default();
        assert_eq!(classify(&exit(75, ""), &retry), Class::Transient);
        assert_eq!(classify(&exit(127, ""), &retry), Class::Permanent);
        assert_eq!(classify(&exit(1, "boom"), &retry), Class::Unknown);
        assert_eq!(
            classify(&exit(100, "E: Could not get lock /var/lib/dpkg/lock-frontend"), &retry),
            Class::Transient
        );
        retry.transient_patterns = vec!["boo.".into()];
        retry.permanent_exit_codes = vec![9];
        assert_eq!(classify(&exit(1, "boom"), &retry), Class::Transient);
        assert_eq!(classify(&exit(9, "boom"), &retry), Class::Permanent);
    }

    #[test]
    fn the_backoff_doubles_to_its_cap_and_is_repeatable() {
        let retry = Retry::default();
        for seed in 0..50 {
            for (number, floor) in [(1, 5), (2, 10), (3, 20), (9, 120)] {
                let pause = backoff(&retry, number, seed);
                assert_eq!(pause, backoff(&retry, number, seed));
                assert!(
                    pause.as_secs() >= floor && pause.as_secs() <= 2 * floor.max(120),
                    "{number}: {pause:?}"
                );
            }
        }
    }

    #[test]
    fn the_same_failure_on_two_hosts_reads_the_same() {
        assert_eq!(
            normalise("i-0abc12: write /tmp/x.4711: no space left"),
            normalise("i-0def99: write /tmp/x.17: no space left")
        );
    }
}
