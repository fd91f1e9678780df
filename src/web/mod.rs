//! The HTTP side of the daemon: the page, the JSON API, the log streams, what hosts fetch and push, the webhook.
//!
//! Reads the store, hands wishes to the engine, decides nothing. [`crate::api::ROUTES`] names every route and whom it is
//! for: the page wants a session, the API a token, the hosts' routes a token that is good for one thing; webhooks are signed.

mod accept;
mod access;
mod answer;
mod api;
mod body;
mod context;
mod health;
mod hosts;
mod limits;
mod pages;
mod path;
mod reply;
mod routes;
mod stream;
mod view;
mod webhook;

pub use accept::{Acceptor, bind, tls};
pub use access::{Failures, first_token};
pub use answer::Standby;
pub use body::Strangers;
pub use context::Web;
pub use limits::DOWNLOADS;
