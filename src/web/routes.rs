//! All handlers behind the gate, as one.

use super::{api, context::Web, health, hosts, pages, reply, webhook};
use warp::{Filter as _, Reply, filters::BoxedFilter, reply::Response};

/// The handlers of all routes, and the refusal of what none of them takes.
pub fn routes(web: &Web) -> BoxedFilter<(Response,)> {
    health::routes(web.clone())
        .or(hosts::routes(web.clone()))
        .unify()
        .or(webhook::routes(web.clone()))
        .unify()
        .or(api::routes(web))
        .unify()
        .or(pages::routes(web.clone()))
        .unify()
        .recover(reply::rejected)
        .unify()
        .map(Reply::into_response)
        .boxed()
}
