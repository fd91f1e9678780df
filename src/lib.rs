//! drover.
