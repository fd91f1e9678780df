//! Integration tests.

mod host;
