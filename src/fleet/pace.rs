//! The daemon's share of what AWS lets an account ask: one bucket for each of AWS's own, taken from in the order of
//! asking, so that no deployment waits longer than the others.
//!
//! AWS publishes ELBv2's numbers for Describe\* (40, refilled by 10 a second) and those of GetLogEvents (25 a second); the
//! others are what clients are seen to bear. People, Terraform and Auto Scaling itself draw on the same buckets: hence a
//! share of them only ([`crate::config::Aws::call_budget`]).

use leaky_bucket::RateLimiter;
use std::time::Duration;

/// AWS's buckets of requests, as far as drover draws on them: most at once, and how many come back in a second.
const LIMITS: [(Bucket, u32, u32); 8] = [
    (Bucket::BalancerReads, 40, 10),
    (Bucket::BalancerChanges, 20, 3),
    (Bucket::AutoScalingReads, 100, 20),
    (Bucket::AutoScalingChanges, 50, 5),
    (Bucket::SendCommand, 20, 5),
    (Bucket::Commands, 40, 10),
    (Bucket::LogReads, 25, 25),
    (Bucket::LogChanges, 50, 10),
];

/// Whoever waits for longer is told that it is throttled: it has a deployment to bring on, which a person may have
/// cancelled meanwhile.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bucket {
    BalancerReads,
    BalancerChanges,
    AutoScalingReads,
    AutoScalingChanges,
    SendCommand,
    Commands,
    LogReads,
    LogChanges,
}

/// From which bucket AWS takes for an action.
fn bucket(action: &str) -> Bucket {
    match action {
        "DescribeTargetGroups" | "DescribeTargetGroupAttributes" | "DescribeTargetHealth" => {
            Bucket::BalancerReads
        }
        "RegisterTargets" | "DeregisterTargets" => Bucket::BalancerChanges,
        "SendCommand" => Bucket::SendCommand,
        "ListCommands" | "ListCommandInvocations" | "DescribeInstanceInformation" => Bucket::Commands,
        "GetLogEvents" => Bucket::LogReads,
        "CreateLogGroup" => Bucket::LogChanges,
        action if action.starts_with("Describe") => Bucket::AutoScalingReads,
        _ => Bucket::AutoScalingChanges,
    }
}

/// The share of each bucket.
#[derive(Debug)]
pub(super) struct Pace(Vec<(Bucket, RateLimiter)>);

impl Pace {
    /// So many per cent of everything.
    pub(super) fn new(percent: u32) -> Pace {
        let limiter = |(bucket, most, refill): (Bucket, u32, u32)| {
            let most = (most * percent / 100).max(1) as usize;
            let every = Duration::from_secs(100) / (refill * percent).max(1);
            (bucket, RateLimiter::builder().max(most).initial(most).refill(1).interval(every).build())
        };
        Pace(LIMITS.into_iter().map(limiter).collect())
    }

    fn of(&self, action: &str) -> Option<&RateLimiter> {
        let wanted = bucket(action);
        self.0.iter().find(|(bucket, _)| *bucket == wanted).map(|(_, limiter)| limiter)
    }

    /// Returns when it is this request's turn; false if that doesn't come soon.
    pub(super) async fn turn(&self, action: &str) -> bool {
        match self.of(action) {
            Some(limiter) => tokio::time::timeout(LONGEST_WAIT, limiter.acquire_one()).await.is_ok(),
            None => true,
        }
    }

    /// AWS has asked for fewer: somebody else draws on the account. What was saved up is given away.
    pub(super) fn slow_down(&self, action: &str) {
        if let Some(limiter) = self.of(action) {
            while limiter.try_acquire(1) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[test]
    fn the_daemon_takes_its_share_and_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let at_once = |percent: u32, action: &str| {
            let pace = Pace::new(percent);
            let limiter = pace.of(action).unwrap();
            (0..1000).take_while(|_| limiter.try_acquire(1)).count()
        };
        assert_eq!(at_once(30, "DescribeTargetHealth"), 12);
        assert_eq!(at_once(100, "DescribeTargetGroups"), 40);
        assert_eq!(at_once(30, "EnterStandby"), 15);
        // Of one bucket, and not of another.
        let pace = Pace::new(30);
        pace.slow_down("DescribeTargetHealth");
        assert!(!pace.of("DescribeTargetGroups").unwrap().try_acquire(1));
        assert!(pace.of("DescribeAutoScalingGroups").unwrap().try_acquire(1));
    }

    #[tokio::test]
    async fn whoever_asked_first_is_served_first() {
        let pace = std::sync::Arc::new(Pace::new(3_000));
        pace.slow_down("SendCommand");
        let mut asking = JoinSet::new();
        for number in 0..6 {
            let pace = pace.clone();
            asking.spawn(async move {
                pace.turn("SendCommand").await;
                number
            });
            tokio::task::yield_now().await;
        }
        let mut served = Vec::new();
        while let Some(number) = asking.join_next().await {
            served.push(number.unwrap());
        }
        assert_eq!(served, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn each_bucket_there_is_has_limits() {
        for action in ["EnterStandby", "GetLogEvents", "CreateLogGroup", "ListCommands", "RegisterTargets"] {
            assert!(LIMITS.iter().any(|(limited, ..)| *limited == bucket(action)), "{action}");
        }
    }
}
