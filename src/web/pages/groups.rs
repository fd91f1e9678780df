//! The deployment groups and their locks, the quarantined instances, and a rehearsal: what a deployment would do.

use super::{
    form::checked,
    html::{html, page, redirect},
};
use crate::{
    api::{Act, LockRequest, QuarantineVerb, QuarantinedInstance, Rehearsal},
    web::{
        access::Caller, body::body, context::Web, limits::LARGEST_FORM, pages::list, path::Name,
        reply::Refusal,
    },
};
use askama::Template;
use bytes::Bytes;
use http::StatusCode;
use warp::{Filter, filters::BoxedFilter, reply::Response};

#[derive(Template)]
#[template(path = "groups.html", config = "src/web/pages/askama.toml")]
struct Groups<'a> {
    caller: &'a str,
    csrf_token: &'a str,
    groups: Vec<GroupRow>,
    quarantined: Vec<QuarantinedInstance>,
}

struct GroupRow {
    name: String,
    repository: String,
    branch: String,
    revision: String,
    locked: Option<String>,
    alarm: Option<String>,
    acts: Vec<Act>,
}

#[derive(Template)]
#[template(path = "plan.html", config = "src/web/pages/askama.toml")]
struct Plan<'a> {
    caller: &'a str,
    csrf_token: &'a str,
    plan: Rehearsal,
    batch: &'a str,
}

pub(super) fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let form = warp::ext::get::<Caller>().and(body(LARGEST_FORM));
    let show = warp::path!("groups")
        .and(warp::get())
        .and(with.clone())
        .and(warp::ext::get())
        .then(|web: Web, caller: Caller| async move { page(show(&web, &caller).await) });
    let lock = warp::path!("groups" / Name / Name / "lock")
        .and(warp::post())
        .and(with.clone())
        .and(form.clone())
        .then(|app: Name, env: Name, web: Web, caller: Caller, body: Bytes| async move {
            page(lock(&web, &format!("{}/{}", app.0, env.0), &caller, &body).await)
        });
    let unlock = warp::path!("groups" / Name / Name / "unlock")
        .and(warp::post())
        .and(with.clone())
        .and(form.clone())
        .then(|app: Name, env: Name, web: Web, caller: Caller, body: Bytes| async move {
            page(unlock(&web, &format!("{}/{}", app.0, env.0), &caller, &body).await)
        });
    let quarantined = warp::path!("quarantine" / Name / QuarantineVerb)
        .and(warp::post())
        .and(with.clone())
        .and(form.clone())
        .then(|instance: Name, verb: QuarantineVerb, web: Web, caller: Caller, body: Bytes| async move {
            page(quarantined(&web, &instance.0, verb, &caller, &body).await)
        });
    let plan =
        warp::path!("plan").and(warp::post()).and(with).and(form).then(
            |web: Web, caller: Caller, body: Bytes| async move { page(plan(&web, &caller, &body).await) },
        );
    show.or(lock).unify().or(unlock).unify().or(quarantined).unify().or(plan).unify().boxed()
}

async fn show(web: &Web, caller: &Caller) -> Result<Response, Refusal> {
    let mut groups = Vec::new();
    for (name, application, group) in web.engine.groups() {
        let good = web.store.last_good_row(&name).await?;
        groups.push(GroupRow {
            repository: application.repository.clone(),
            branch: group.branch(application).to_owned(),
            revision: good.map(|row| row.sha.get(..12).unwrap_or_default().to_owned()).unwrap_or_default(),
            locked: web.engine.locked(&name).await?,
            alarm: web.engine.alarm(&name),
            acts: web.engine.acts(&name).await?,
            name,
        });
    }
    let shown = Groups {
        caller: &caller.name,
        csrf_token: &web.csrf_token(&caller.session),
        groups,
        quarantined: web.engine.quarantined().await?,
    };
    Ok(html(&shown, StatusCode::OK))
}

async fn lock(web: &Web, group: &str, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    let form = checked(web, caller, body)?;
    let lasts = match form.get("for") {
        "" => None,
        text => Some(text.parse().map_err(|e| {
            let words = format!("'{text}' is no time such as \"2h\": {e}");
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", words)
        })?),
    };
    let request = LockRequest { reason: form.get("reason").to_owned(), lasts };
    web.engine.lock(group, request, &caller.name).await?;
    Ok(redirect("/groups"))
}

async fn unlock(web: &Web, group: &str, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    checked(web, caller, body)?;
    web.engine.unlock(group, &caller.name).await?;
    Ok(redirect("/groups"))
}

async fn quarantined(
    web: &Web,
    instance: &str,
    verb: QuarantineVerb,
    caller: &Caller,
    body: &[u8],
) -> Result<Response, Refusal> {
    checked(web, caller, body)?;
    let (_, deployment) = web.engine.of_quarantined(instance, verb, &caller.name).await?;
    Ok(redirect(&deployment.map_or_else(|| "/groups".to_owned(), |id| format!("/deployments/{id}"))))
}

async fn plan(web: &Web, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    let form = checked(web, caller, body)?;
    let plan = web.engine.rehearse(list::submission(&form)?).await?;
    let shown = Plan {
        caller: &caller.name,
        csrf_token: &web.csrf_token(&caller.session),
        plan,
        batch: form.get("batch"),
    };
    Ok(html(&shown, StatusCode::OK))
}
