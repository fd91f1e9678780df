//! The handlers of `/api/v1`, with the shapes and paths of [`crate::api`].

mod deployments;
mod groups;
mod log;
mod quarantine;
mod serve;
mod tokens;

use super::context::Web;
use warp::{Filter, filters::BoxedFilter, reply::Response};

/// The handlers of all its routes.
pub fn routes(web: &Web) -> BoxedFilter<(Response,)> {
    let handlers =
        [deployments::handlers(web), groups::handlers(web), quarantine::handlers(web), tokens::handlers(web)];
    let log = log::route(web);
    handlers.into_iter().flatten().fold(log, |all, handler| all.or(handler).unify().boxed())
}
