//! The JSON API: deployments and their logs.

use super::{
    Web,
    gate::Caller,
    reply::{Refusal, answer},
    request::body,
    stream,
};
use crate::{engine::Submission, logs::follow::Wanted, rollout::verb::Verb};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// A submission is a few hundred bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// Deployments in a list, unless asked otherwise; and at most.
const LIST: i64 = 50;
const LONGEST_LIST: i64 = 500;

#[derive(Deserialize)]
struct ListQuery {
    group: Option<String>,
    limit: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    #[serde(default)]
    now: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerbBody {
    /// For `retry`: this one alone.
    #[serde(default)]
    instance: Option<String>,
}

#[derive(Deserialize)]
struct LogQuery {
    after: Option<i64>,
    instance: Option<String>,
    event: Option<String>,
    follow: Option<bool>,
    /// Plain text as hooks wrote it, terminal controls and all.
    #[serde(default)]
    raw: bool,
}

/// All of it, under `/api/v1`.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let base = warp::path!("api" / "v1" / ..);
    let user = warp::ext::get::<Caller>().map(|caller: Caller| caller.name);
    let with = {
        let web = web.clone();
        warp::any().map(move || web.clone())
    };
    let submit = warp::path!("deployments")
        .and(warp::post())
        .and(user)
        .and(with.clone())
        .and(body(LARGEST_BODY))
        .then(|by: String, web: Web, body: Bytes| async move { answer(submit(&web, &body, &by).await) });
    let list = warp::path!("deployments")
        .and(warp::get())
        .and(user)
        .and(with.clone())
        .and(warp::query())
        .then(|_: String, web: Web, query: ListQuery| async move { answer(list(&web, query).await) });
    let show = warp::path!("deployments" / i64).and(warp::get()).and(user).and(with.clone()).then(
        |id: i64, _: String, web: Web| async move {
            answer(web.deployment_view(id).await.map(|view| warp::reply::json(&view)))
        },
    );
    let cancel = warp::path!("deployments" / i64 / "cancel")
        .and(warp::post())
        .and(user)
        .and(with.clone())
        .and(body(LARGEST_BODY))
        .then(|id: i64, by: String, web: Web, body: Bytes| async move {
            answer(cancel(&web, id, &body, &by).await)
        });
    let verb = warp::path!("deployments" / i64 / Verb)
        .and(warp::post())
        .and(user)
        .and(with.clone())
        .and(body(LARGEST_BODY))
        .then(|id: i64, verb: Verb, by: String, web: Web, body: Bytes| async move {
            answer(obey(&web, id, verb, &body, &by).await)
        });
    let logs = warp::path!("deployments" / i64 / "logs")
        .and(warp::get())
        .and(warp::ext::get::<Caller>())
        .and(with.clone())
        .and(warp::query())
        .and(warp::header::optional("accept"))
        .and(warp::header::optional("last-event-id"))
        .then(
            |id: i64,
             caller: Caller,
             web: Web,
             query: LogQuery,
             accept: Option<String>,
             last: Option<String>| async move {
                answer(logs(web, caller, id, query, accept, last).await)
            },
        );
    let api = submit.or(list).unify().or(show).unify().or(cancel).unify().or(verb).unify();
    let api = api.or(logs).unify().or(super::groups::routes(web.clone())).unify();
    base.and(api.or(super::tokens::routes(web)).unify()).boxed()
}

async fn submit(web: &Web, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let wish: Submission = parse(body)?;
    let row = web.engine.submit(wish, by).await?;
    let view = web.deployment_view(row.id).await?;
    Ok(warp::reply::with_status(warp::reply::json(&view), StatusCode::CREATED))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| {
        let words = format!("the request body is not the JSON object that is wanted: {e}");
        Refusal::new(StatusCode::BAD_REQUEST, "invalid-request", words)
    })
}

async fn list(web: &Web, query: ListQuery) -> Result<impl Reply + use<>, Refusal> {
    let limit = query.limit.unwrap_or(LIST).clamp(1, LONGEST_LIST);
    let list = web.deployment_list(query.group.as_deref(), limit).await?;
    Ok(warp::reply::json(&json!({ "deployments": list })))
}

async fn cancel(web: &Web, id: i64, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let wish: CancelBody = if body.is_empty() { CancelBody::default() } else { parse(body)? };
    web.engine.cancel(id, wish.now, by).await?;
    Ok(warp::reply::json(&web.deployment_view(id).await?))
}

/// Answers the deployment to look at: this one, or the new one that does it.
async fn obey(web: &Web, id: i64, verb: Verb, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let wish: VerbBody = if body.is_empty() { VerbBody::default() } else { parse(body)? };
    if wish.instance.is_some() && verb != Verb::Retry {
        let words = format!("'instance' is for retry; {verb} is for the whole deployment");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid-request", words));
    }
    let done = web.engine.obey(id, verb, wish.instance.as_deref(), by).await?;
    Ok(warp::reply::json(&web.deployment_view(done).await?))
}

async fn logs(
    web: Web,
    caller: Caller,
    id: i64,
    query: LogQuery,
    accept: Option<String>,
    last: Option<String>,
) -> Result<Response, Refusal> {
    if web.store.deployment(id).await?.is_none() {
        return Err(crate::engine::SubmitError::UnknownDeployment(id).into());
    }
    let after = last.and_then(|text| text.trim().parse().ok()).or(query.after).unwrap_or(0);
    let wanted = Wanted {
        after,
        instance: query.instance.filter(|name| !name.is_empty()),
        event: query.event.filter(|name| !name.is_empty()),
        follow: query.follow.unwrap_or(true),
    };
    let form = stream::Form::of(accept.as_deref());
    // JSON escapes what a terminal would obey.
    let kind = if form == stream::Form::Text && !query.raw { stream::Text::Clean } else { stream::Text::Raw };
    Ok(stream::respond(web, caller, id, wanted, (form, kind)))
}
