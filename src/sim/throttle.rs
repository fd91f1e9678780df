//! Request rate limits: one token bucket per service and action, as AWS keeps per account and region.
//!
//! ELBv2's numbers are published (Describe*: 40, refill 10/s); the others aren't, so they are set to what clients
//! are seen to bear. The refill is multiplied by the time scale.

use std::collections::HashMap;
use std::time::Instant;

use super::wire::ApiError;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// All buckets.
#[derive(Debug)]
pub struct Throttle {
    buckets: HashMap<String, Bucket>,
    scale: f64,
}

impl Throttle {
    /// Buckets that refill `scale` times as fast as the real ones.
    pub fn new(scale: f64) -> Self {
        Self { buckets: HashMap::new(), scale }
    }

    /// Takes a token for a call, or answers with the service's throttling error.
    pub fn take(&mut self, service: &str, action: &str, now: Instant) -> Result<(), ApiError> {
        let (size, refill) = limits(service, action);
        // ELBv2 counts all Describe* calls in one bucket.
        let shared = service == "elasticloadbalancing" && action.starts_with("Describe");
        let key = format!("{service}.{}", if shared { "Describe*" } else { action });
        let scale = self.scale;
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: size, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * refill * scale).min(size);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(error(service));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// Bucket size and refill per second.
fn limits(service: &str, action: &str) -> (f64, f64) {
    match service {
        "elasticloadbalancing" if action.starts_with("Describe") => (40.0, 10.0),
        "elasticloadbalancing" => (20.0, 3.0),
        "autoscaling" if action.starts_with("Describe") => (100.0, 20.0),
        "autoscaling" => (50.0, 5.0),
        "ssm" if action == "SendCommand" => (20.0, 5.0),
        "ssm" => (40.0, 10.0),
        // Published: 25 a second, in this region 10.
        "logs" if action == "GetLogEvents" => (25.0, 25.0),
        "logs" => (50.0, 10.0),
        _ => (5000.0, 100.0),
    }
}

/// The service's own throttling error.
pub fn error(service: &str) -> ApiError {
    match service {
        "autoscaling" => ApiError::refused("Throttling", "Rate exceeded"),
        "elasticloadbalancing" => ApiError::refused("Throttling", "Rate exceeded"),
        "ssm" | "logs" => ApiError::refused("ThrottlingException", "Rate exceeded"),
        "github" => ApiError::new(403, "RateLimited", "API rate limit exceeded for installation."),
        _ => ApiError::new(503, "RequestLimitExceeded", "Request limit exceeded."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_and_refills() {
        let mut throttle = Throttle::new(1.0);
        let start = Instant::now();
        for _ in 0..40 {
            throttle.take("elasticloadbalancing", "DescribeTargetHealth", start).unwrap();
        }
        let refused = throttle.take("elasticloadbalancing", "DescribeTargetGroups", start).unwrap_err();
        assert_eq!(refused.code, "Throttling");
        throttle
            .take("elasticloadbalancing", "DescribeTargetHealth", start + Duration::from_millis(150))
            .unwrap();
        throttle.take("ssm", "SendCommand", start).unwrap();
    }
}
