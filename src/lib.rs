//! drover.
pub mod cli;
