//! The JSON API: deployments, their logs, groups.

use super::{
    Web,
    gate::Caller,
    reply::{Refusal, answer},
    request::body,
    stream,
};
use crate::{engine::Submission, logs::follow::Wanted};
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

#[derive(Deserialize)]
struct LogQuery {
    after: Option<i64>,
    instance: Option<String>,
    event: Option<String>,
    follow: Option<bool>,
}

/// All of it, under `/api/v1`.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let base = warp::path!("api" / "v1" / ..);
    let user = warp::ext::get::<Caller>().map(|caller: Caller| caller.name);
    let with = {
        let web = web.clone();
        warp::any().map(move || web.clone())
    };
    let groups = warp::path!("groups")
        .and(warp::get())
        .and(user)
        .and(with.clone())
        .then(|_: String, web: Web| async move { answer(groups(&web).await) });
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
    let logs =
        warp::path!("deployments" / i64 / "logs")
            .and(warp::get())
            .and(user)
            .and(with.clone())
            .and(warp::query())
            .and(warp::header::optional("accept"))
            .and(warp::header::optional("last-event-id"))
            .then(
                |id: i64,
                 _: String,
                 web: Web,
                 query: LogQuery,
                 accept: Option<String>,
                 last: Option<String>| async move {
                    answer(logs(web, id, query, accept, last).await)
                },
            );
    let api = groups.or(submit).unify().or(list).unify().or(show).unify().or(cancel).unify();
    base.and(api.or(logs).unify().or(super::tokens::routes(web)).unify()).boxed()
}

async fn groups(web: &Web) -> Result<impl Reply + use<>, Refusal> {
    let unfinished = web.store.unfinished().await?;
    let mut groups = Vec::new();
    for (name, application, group) in web.engine.groups() {
        let running = unfinished.iter().find(|row| row.group_name == name).map(|row| row.id);
        let good = web.store.good_revisions(&name).await?;
        groups.push(json!({
            "name": name,
            "repository": application.repository,
            "branch": group.branch(application),
            "auto_deploy": group.auto_deploy,
            "auto_scaling_groups": group.auto_scaling_groups,
            "revision": web.store.last_good(&name).await?,
            "instances": (!good.is_empty()).then_some(good.len()),
            "policy": {
                "batch": group.policy.batch.to_string(),
                "mode": group.policy.mode,
                "min_in_service": group.policy.min_in_service,
                "max_failed": group.policy.max_failed,
            },
            "running": running,
        }));
    }
    Ok(warp::reply::json(&json!({ "groups": groups })))
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

async fn logs(
    web: Web,
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
    Ok(stream::respond(web, id, wanted, stream::Form::of(accept.as_deref())))
}
