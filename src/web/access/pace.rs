//! Answers wrong tokens ever more slowly, by address. A right one never waits.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// After the first wrong token; it doubles with each one more.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause between two answers.
const LONGEST: Duration = Duration::from_secs(8);
/// As much as may wait for its answer; what comes on top is refused at once.
const WAITING: Duration = Duration::from_secs(20);
/// An address is forgiven after this long without a wrong token.
const FORGIVEN: Duration = Duration::from_secs(600);
/// So many addresses are remembered; it keeps the memory small, not the tokens safe: those have 256 bits.
const REMEMBERED: usize = 10_000;

/// What a wrong token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer comes after this.
    Pause(Duration),
    /// Refused; come back after this.
    TooMany(Duration),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    wrong: u32,
    /// When the last of the waiting ones gets its answer.
    answered: Instant,
}

/// Wrong tokens by address.
#[derive(Debug, Default)]
pub struct Failures {
    counts: Mutex<HashMap<IpAddr, Count>>,
}

impl Failures {
    /// One more from there.
    pub fn count(&self, peer: IpAddr) -> Failure {
        self.count_at(peer, Instant::now())
    }

    fn count_at(&self, peer: IpAddr, now: Instant) -> Failure {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| now < count.answered + FORGIVEN);
        if counts.len() >= REMEMBERED && !counts.contains_key(&peer) {
            return Failure::Pause(LONGEST);
        }
        let count = counts.entry(peer).or_insert(Count { wrong: 0, answered: now });
        let waiting = count.answered.saturating_duration_since(now);
        if waiting >= WAITING {
            return Failure::TooMany(waiting);
        }
        let pause = FIRST.saturating_mul(1 << count.wrong.min(10)).min(LONGEST);
        count.wrong += 1;
        count.answered = count.answered.max(now) + pause;
        Failure::Pause(count.answered - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_token_waits_longer_and_many_at_once_are_refused() {
        let (failures, now) = (Failures::default(), Instant::now());
        let here: IpAddr = [192, 0, 2, 1].into();
        let pauses: Vec<Failure> = (0..4).map(|_| failures.count_at(here, now)).collect();
        let at_once = |millis| Failure::Pause(Duration::from_millis(millis));
        assert_eq!(pauses, [at_once(250), at_once(750), at_once(1750), at_once(3750)]);
        let last = (0..9).map(|_| failures.count_at(here, now)).last();
        assert!(matches!(last, Some(Failure::TooMany(_))), "{last:?}");
        assert_eq!(failures.count_at([192, 0, 2, 2].into(), now), at_once(250), "another address");
        assert_eq!(failures.count_at(here, now + FORGIVEN * 2), at_once(250), "forgiven");
    }
}
