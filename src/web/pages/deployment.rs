//! A deployment's page: where it stands and why, its instances by batch, its log as it comes in.

use super::{
    form::checked,
    html::{html, page, redirect},
};
use crate::{
    api::{Deployment, Instance},
    engine::SubmitError,
    logs::{clean::clean, follow::Wanted},
    rollout::verb::Verb,
    store::ChunkFilter,
    web::{
        access::Caller,
        body::body,
        context::Web,
        limits::LARGEST_FORM,
        reply::Refusal,
        stream::{self, Form, Text},
    },
};
use askama::Template;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;
use warp::{Filter, filters::BoxedFilter, reply::Response};

/// Lines of the log that the page begins with, and bytes of them; the whole is a click away.
const LINES: usize = 1000;
const BYTES: usize = 2 * 1024 * 1024;

#[derive(Template)]
#[template(path = "deployment.html", config = "src/web/pages/askama.toml")]
struct Page<'a> {
    caller: &'a str,
    csrf_token: &'a str,
    d: &'a Deployment,
    batches: Vec<Batch<'a>>,
    lines: Vec<Line>,
    /// The last line's number.
    after: i64,
    /// There are lines before those shown.
    earlier: bool,
    query: &'a Query,
    /// The instance whose lines these are.
    one: Option<&'a Instance>,
    verbs: [Verb; 5],
}

#[derive(Template)]
#[template(path = "deployment_live.html", config = "src/web/pages/askama.toml")]
struct Live<'a> {
    d: &'a Deployment,
    batches: Vec<Batch<'a>>,
}

struct Batch<'a> {
    name: String,
    instances: Vec<&'a Instance>,
}

struct Line {
    seq: i64,
    at: String,
    instance: String,
    event: String,
    text: String,
    ours: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Query {
    #[serde(default)]
    instance: String,
}

#[derive(Deserialize)]
struct LogQuery {
    after: Option<i64>,
    #[serde(default)]
    instance: String,
    /// As plain text, as far as it goes now.
    #[serde(default)]
    text: bool,
    /// That as hooks wrote it, terminal controls and all.
    #[serde(default)]
    raw: bool,
}

pub(super) fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let show = warp::path!("deployments" / i64)
        .and(warp::get())
        .and(with.clone())
        .and(warp::ext::get())
        .and(warp::query())
        .then(|id: i64, web: Web, caller: Caller, query: Query| async move {
            page(show(&web, id, &caller, &query).await)
        });
    let live = warp::path!("deployments" / i64 / "live").and(warp::get()).and(with.clone()).then(
        |id: i64, web: Web| async move {
            page(web.deployment_view(id).await.map(|d| {
                let batches = batches(&d);
                html(&Live { d: &d, batches }, StatusCode::OK)
            }))
        },
    );
    let log = warp::path!("deployments" / i64 / "log")
        .and(warp::get())
        .and(with.clone())
        .and(warp::query())
        .and(warp::header::optional("last-event-id"))
        .and(warp::ext::get::<Caller>())
        .then(|id: i64, web: Web, query: LogQuery, last: Option<String>, caller: Caller| async move {
            page(log(web, caller, id, query, last).await)
        });
    let cancel = warp::path!("deployments" / i64 / "cancel")
        .and(warp::post())
        .and(with.clone())
        .and(warp::ext::get())
        .and(body(LARGEST_FORM))
        .then(|id: i64, web: Web, caller: Caller, body: Bytes| async move {
            page(cancel(&web, id, &caller, &body).await)
        });
    let verb = warp::path!("deployments" / i64 / Verb)
        .and(warp::post())
        .and(with)
        .and(warp::ext::get())
        .and(body(LARGEST_FORM))
        .then(|id: i64, verb: Verb, web: Web, caller: Caller, body: Bytes| async move {
            page(perform_verb(&web, id, verb, &caller, &body).await)
        });
    show.or(live).unify().or(log).unify().or(cancel).unify().or(verb).unify().boxed()
}

/// The instances by batch, those without one last.
fn batches(d: &Deployment) -> Vec<Batch<'_>> {
    let mut by_batch: BTreeMap<u32, Vec<&Instance>> = BTreeMap::new();
    for instance in d.instances() {
        by_batch.entry(instance.batch.unwrap_or(u32::MAX)).or_default().push(instance);
    }
    let name = |number: u32| match number {
        u32::MAX => "no batch yet".to_owned(),
        number => format!("batch {number}"),
    };
    by_batch.into_iter().map(|(number, instances)| Batch { name: name(number), instances }).collect()
}

async fn show(web: &Web, id: i64, caller: &Caller, query: &Query) -> Result<Response, Refusal> {
    let d = web.deployment_view(id).await?;
    let instance = Some(query.instance.as_str()).filter(|name| !name.is_empty());
    let last = web.logs.last(id, instance, LINES, BYTES).await?;
    let lines = last.rows.into_iter().map(|row| Line {
        seq: row.seq,
        at: row.at.strftime("%H:%M:%S").to_string(),
        instance: row.instance.unwrap_or_else(|| "drover".into()),
        event: row.event.unwrap_or_default(),
        text: clean(&row.text, false),
        ours: row.source == "drover",
    });
    let lines: Vec<Line> = lines.collect();
    let one = d.instances().iter().find(|one| Some(one.id.as_str()) == instance);
    let shown = Page {
        caller: &caller.name,
        csrf_token: &web.csrf_token(&caller.session),
        batches: batches(&d),
        after: lines.last().map_or(0, |line| line.seq).max(d.last_seq),
        d: &d,
        lines,
        earlier: last.earlier,
        query,
        one,
        verbs: Verb::ALL,
    };
    Ok(html(&shown, StatusCode::OK))
}

async fn log(
    web: Web,
    caller: Caller,
    id: i64,
    query: LogQuery,
    last: Option<String>,
) -> Result<Response, Refusal> {
    if web.store.deployment(id).await?.is_none() {
        return Err(SubmitError::UnknownDeployment(id).into());
    }
    let after = last.and_then(|text| text.trim().parse().ok()).or(query.after).unwrap_or(0);
    let instance = Some(query.instance).filter(|name| !name.is_empty());
    let filter = ChunkFilter { instance, ..ChunkFilter::default() };
    let wanted = Wanted { after, filter, pattern: None, follow: !query.text };
    let form = if query.text { Form::Text } else { Form::Events };
    let kind = if query.raw { Text::Raw } else { Text::Clean };
    Ok(stream::respond(web, caller, id, wanted, (form, kind)))
}

async fn perform_verb(
    web: &Web,
    id: i64,
    verb: Verb,
    caller: &Caller,
    body: &[u8],
) -> Result<Response, Refusal> {
    let form = checked(web, caller, body)?;
    let instance = Some(form.get("instance")).filter(|instance| verb == Verb::Retry && !instance.is_empty());
    let done = web.engine.perform_verb(id, verb, instance, &caller.name).await?;
    Ok(redirect(&format!("/deployments/{done}")))
}

async fn cancel(web: &Web, id: i64, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    let form = checked(web, caller, body)?;
    web.engine.cancel(id, form.get("now") == "1", &caller.name).await?;
    Ok(redirect(&format!("/deployments/{id}")))
}
