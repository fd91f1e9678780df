//! What comes in: submissions, pushes, and the locks that keep them waiting.

pub(super) mod lock;
mod push;
pub(super) mod submit;

pub(super) use push::Following;
pub use push::{Push, Received};
pub(super) use submit::{Only, Order, queue};
