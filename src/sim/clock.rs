//! The one clock of the simulated cloud: real time, with every wait of the cloud's own divided by the time scale.
//!
//! Imports nothing of the rest of the house.

use std::time::{Duration, Instant};

/// Real time plus a scale for the cloud's own waits.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    scale: f64,
}

impl Clock {
    /// A clock whose waits are divided by `scale` (1 = as in the real cloud).
    pub fn new(scale: f64) -> Self {
        Self { scale: if scale.is_finite() && scale > 0.0 { scale } else { 1.0 } }
    }

    /// What waits are divided by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The present moment, for deadlines.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// How long `seconds` of the cloud's time last on this machine.
    pub fn wait(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64((seconds / self.scale).clamp(0.0, 10_000_000.0))
    }

    /// As [`Self::wait`], but never shorter than `floor`.
    pub fn wait_at_least(&self, seconds: f64, floor: Duration) -> Duration {
        self.wait(seconds).max(floor)
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_divided_by_the_scale() {
        assert_eq!(Clock::new(10.0).wait(5.0), Duration::from_millis(500));
        assert_eq!(Clock::new(10.0).wait_at_least(0.1, Duration::from_millis(50)), Duration::from_millis(50));
        assert_eq!(Clock::new(0.0).scale(), 1.0);
    }
}
