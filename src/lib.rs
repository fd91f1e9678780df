//! drover.
pub mod cli;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod github;
pub mod logs;
pub mod revision;
pub mod rollout;
pub mod sim;
pub mod store;
pub mod web;
