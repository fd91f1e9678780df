//! The first page: a form to submit a revision, and the deployments.

use super::{
    form::{Form, checked},
    html::{html, page, redirect},
};
use crate::{
    api::{Deployment, Submission},
    web::{access::Caller, body::body, context::Web, limits::LARGEST_FORM, reply::Refusal},
};
use askama::Template;
use bytes::Bytes;
use http::StatusCode;
use warp::{Filter, filters::BoxedFilter, reply::Response};

/// Deployments on the page.
const SHOWN: i64 = 30;

#[derive(Template)]
#[template(path = "list.html", config = "src/web/pages/askama.toml")]
struct List<'a> {
    caller: &'a str,
    csrf_token: &'a str,
    error: Option<&'a str>,
    groups: Vec<GroupChoice>,
    revision: &'a str,
    batch: &'a str,
    deployments: Vec<Deployment>,
    /// Locks, alarms and quarantined instances, a line each.
    notices: Vec<String>,
}

struct GroupChoice {
    name: String,
    repository: String,
    branch: String,
    auto_deploy: bool,
    batch: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "list_live.html", config = "src/web/pages/askama.toml")]
struct ListLive {
    deployments: Vec<Deployment>,
}

pub(super) fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let list = warp::path::end().and(warp::get()).and(with.clone()).and(warp::ext::get()).then(
        |web: Web, caller: Caller| async move { page(show(&web, &caller, &Form(Vec::new()), None).await) },
    );
    let live = warp::path!("live").and(warp::get()).and(with.clone()).then(|web: Web| async move {
        let deployments = web.deployment_list(None, SHOWN).await;
        page(deployments.map(|deployments| html(&ListLive { deployments }, StatusCode::OK)))
    });
    let submit = warp::path!("deployments")
        .and(warp::post())
        .and(with)
        .and(warp::ext::get())
        .and(body(LARGEST_FORM))
        .then(
            |web: Web, caller: Caller, body: Bytes| async move { page(submit(&web, &caller, &body).await) },
        );
    list.or(live).unify().or(submit).unify().boxed()
}

async fn show(
    web: &Web,
    caller: &Caller,
    form: &Form,
    refusal: Option<&Refusal>,
) -> Result<Response, Refusal> {
    let groups = web
        .engine
        .groups()
        .map(|(name, application, group)| GroupChoice {
            chosen: name == form.get("group"),
            name,
            repository: application.repository.clone(),
            branch: group.branch(application).to_owned(),
            auto_deploy: group.auto_deploy,
            batch: group.policy.batch.to_string(),
        })
        .collect();
    let mut notices = Vec::new();
    for (name, ..) in web.engine.groups() {
        notices.extend(web.engine.locked(&name).await?.map(|words| format!("{name} is {words}")));
        notices.extend(web.engine.alarm(&name).map(|words| format!("{name}: {words}")));
    }
    let quarantined = web.engine.quarantined().await?.len();
    if quarantined > 0 {
        notices.push(format!("{quarantined} in quarantine, out of the balancer"));
    }
    let list = List {
        notices,
        caller: &caller.name,
        csrf_token: &web.csrf_token(&caller.session),
        error: refusal.map(|refusal| refusal.message.as_str()),
        groups,
        revision: form.get("revision"),
        batch: form.get("batch"),
        deployments: web.deployment_list(None, SHOWN).await?,
    };
    Ok(html(&list, refusal.map_or(StatusCode::OK, |refusal| refusal.status)))
}

async fn submit(web: &Web, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    let form = checked(web, caller, body)?;
    match enqueue(web, caller, &form).await {
        Ok(id) => Ok(redirect(&format!("/deployments/{id}"))),
        Err(refusal) => show(web, caller, &form, Some(&refusal)).await,
    }
}

async fn enqueue(web: &Web, caller: &Caller, form: &Form) -> Result<i64, Refusal> {
    Ok(web.engine.submit(submission(form)?, &caller.name).await?.id)
}

/// What the form asks for.
pub(super) fn submission(form: &Form) -> Result<Submission, Refusal> {
    let refused = |code, words: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, code, words);
    if form.get("revision").is_empty() {
        let words = "no revision was given: write a full or abbreviated SHA, a branch or a tag";
        return Err(refused("invalid-revision", words.into()));
    }
    let mut submission = serde_json::json!({ "group": form.get("group"), "revision": form.get("revision") });
    if !form.get("batch").is_empty() {
        submission["batch"] = form.get("batch").into();
    }
    serde_json::from_value(submission).map_err(|e| refused("invalid-policy", format!("the batch: {e}")))
}
