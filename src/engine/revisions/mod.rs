//! Releases: the bundles of revisions, and what ran on an instance before.

mod cache;
mod fetch;
mod former;

pub(super) use cache::{Bundle, Bundles, Origin};
