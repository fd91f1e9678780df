//! drover: the library behind the binary.

pub mod sim;
