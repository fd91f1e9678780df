//! The command line: one file a subcommand.

pub mod cancel;
pub mod check;
pub mod client;
pub mod demo;
pub mod deploy;
pub mod follow;
pub mod groups;
pub mod logs;
pub mod render;
pub mod serve;
pub mod sim;
pub mod status;
