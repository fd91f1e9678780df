//! drover.
pub mod config;
pub mod revision;
pub mod rollout;
pub mod store;
pub mod fleet;
pub mod github;
pub mod logs;
pub mod engine;
pub mod web;
