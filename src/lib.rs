//! drover: the library behind the binary.

pub mod cli;
pub mod sim;
