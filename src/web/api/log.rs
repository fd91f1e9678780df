//! `GET /api/v1/deployments/{}/logs`: a deployment's log, as far as it goes or until the deployment has ended.

use crate::{
    api::{LogQuery, routes},
    engine::SubmitError,
    logs::follow::{Wanted, pattern},
    store::ChunkFilter,
    web::{
        access::Caller,
        context::Web,
        path::at,
        reply::{Refusal, answer},
        stream::{self, Form, Text},
    },
};
use warp::{Filter, filters::BoxedFilter, http::StatusCode, reply::Response};

/// The route's handler.
pub fn route(web: &Web) -> BoxedFilter<(Response,)> {
    at(routes::READ_LOG.route())
        .and(warp::ext::get())
        .and(web.given())
        .and(warp::query())
        .and(warp::header::optional("accept"))
        .and(warp::header::optional("last-event-id"))
        .then(|id, caller, web, query, accept: Option<String>, last: Option<String>| async move {
            answer(read(web, caller, id, query, accept.as_deref(), last.as_deref()).await)
        })
        .boxed()
}

async fn read(
    web: Web,
    caller: Caller,
    id: i64,
    query: LogQuery,
    accept: Option<&str>,
    last: Option<&str>,
) -> Result<Response, Refusal> {
    if web.store.deployment(id).await?.is_none() {
        return Err(SubmitError::UnknownDeployment(id).into());
    }
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    let pattern = named(query.grep).map(|text| pattern(&text)).transpose();
    let wanted = Wanted {
        after: last.and_then(|text| text.trim().parse().ok()).unwrap_or(query.after),
        filter: ChunkFilter {
            instance: named(query.instance),
            event: named(query.event),
            since: query.since.map(|since| since.as_millisecond()),
            failed: query.failed,
        },
        pattern: pattern.map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, "invalid-pattern", why))?,
        follow: query.follow,
    };
    let form = Form::of(accept);
    // JSON escapes what a terminal would obey.
    let kind = if form == Form::Text && !query.raw { Text::Clean } else { Text::Raw };
    Ok(stream::respond(web, caller, id, wanted, (form, kind)))
}
