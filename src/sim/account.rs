//! The account and the region that every simulated resource belongs to.

/// The region of all resources.
pub const REGION: &str = "eu-central-1";
/// The account of all resources.
pub const ACCOUNT: &str = "123456789012";
