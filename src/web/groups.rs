//! The JSON API: deployment groups, their locks, lifecycle hooks and quarantined instances; rehearsals.

use super::{
    Web,
    api::parse,
    gate::Caller,
    reply::{Refusal, answer},
    request::{Segment, body},
};
use crate::engine::{LockRequest, QuarantineVerb, Submission};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// A lock's reason is a sentence.
const LARGEST_BODY: usize = 64 * 1024;

pub(super) fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let user = warp::ext::get::<Caller>().map(|caller: Caller| caller.name);
    let with = warp::any().map(move || web.clone());
    let group = || {
        warp::path!("groups" / Segment / Segment / ..)
            .map(|app: Segment, env: Segment| format!("{}/{}", app.0, env.0))
    };
    let list = warp::path!("groups")
        .and(warp::get())
        .and(with.clone())
        .then(|web: Web| async move { answer(groups(&web).await) });
    let lock = group()
        .and(warp::path!("lock"))
        .and(warp::put())
        .and(with.clone())
        .and(user)
        .and(body(LARGEST_BODY))
        .then(|name: String, web: Web, by: String, body: Bytes| async move {
            answer(lock(&web, &name, &body, &by).await)
        });
    let unlock = group().and(warp::path!("lock")).and(warp::delete()).and(with.clone()).and(user).then(
        |name: String, web: Web, by: String| async move {
            let done = web.engine.unlock(&name, &by).await.map_err(Refusal::from);
            answer(done.map(|()| warp::reply::json(&json!({ "group": name, "locked": null }))))
        },
    );
    let put_hook = group().and(warp::path!("hook")).and(warp::put()).and(with.clone()).and(user).then(
        |name: String, web: Web, by: String| async move {
            answer(lines(web.engine.set_hook(&name, true, &by).await))
        },
    );
    let delete_hook = group().and(warp::path!("hook")).and(warp::delete()).and(with.clone()).and(user).then(
        |name: String, web: Web, by: String| async move {
            answer(lines(web.engine.set_hook(&name, false, &by).await))
        },
    );
    let restore =
        group().and(warp::path!("restore")).and(warp::post()).and(with.clone()).and(user).then(
            |name: String, web: Web, by: String| async move {
                answer(lines(web.engine.restore(&name, &by).await))
            },
        );
    let adopt = group()
        .and(warp::path!("adopt"))
        .and(warp::post())
        .and(with.clone())
        .and(user)
        .and(body(LARGEST_BODY))
        .then(|name: String, web: Web, by: String, body: Bytes| async move {
            answer(adopt(&web, &name, &body, &by).await)
        });
    let quarantine =
        warp::path!("quarantine").and(warp::get()).and(with.clone()).then(|web: Web| async move {
            let all = web.engine.quarantined().await.map_err(Refusal::from);
            answer(all.map(|all| warp::reply::json(&json!({ "instances": all }))))
        });
    let quarantined = warp::path!("quarantine" / Segment / QuarantineVerb)
        .and(warp::post())
        .and(with.clone())
        .and(user)
        .then(|instance: Segment, verb: QuarantineVerb, web: Web, by: String| async move {
            let done = web.engine.of_quarantined(&instance.0, verb, &by).await.map_err(Refusal::from);
            answer(done.map(|(words, id)| warp::reply::json(&json!({ "message": words, "deployment": id }))))
        });
    let plan = warp::path!("plan")
        .and(warp::post())
        .and(with)
        .and(body(LARGEST_BODY))
        .then(|web: Web, body: Bytes| async move { answer(plan(&web, &body).await) });
    let locks = lock.or(unlock).unify().or(put_hook).unify().or(delete_hook).unify().or(restore).unify();
    let locks = locks.or(adopt).unify().boxed();
    list.or(locks).unify().or(quarantine).unify().or(quarantined).unify().or(plan).unify().boxed()
}

/// What was done, a line each.
fn lines(done: Result<Vec<String>, crate::engine::GroupError>) -> Result<impl Reply, Refusal> {
    Ok(warp::reply::json(&json!({ "done": done? })))
}

async fn lock(web: &Web, name: &str, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let wish: LockRequest = parse(body)?;
    let words = web.engine.lock(name, wish, by).await?;
    Ok(warp::reply::json(&json!({ "group": name, "locked": words })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adoption {
    revision: String,
}

/// What the group runs already.
async fn adopt(web: &Web, name: &str, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let Adoption { revision } = parse(body)?;
    lines(web.engine.take_over(name, &revision, by).await)
}

/// What a submission would do.
async fn plan(web: &Web, body: &[u8]) -> Result<impl Reply + use<>, Refusal> {
    let wish: Submission = parse(body)?;
    Ok(warp::reply::json(&web.engine.rehearse(wish).await?))
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
            "revision": web.store.last_good_row(&name).await?.map(|row| row.sha),
            "locked": web.engine.locked(&name).await?,
            "alarm": web.engine.alarm(&name),
            "acts": web.engine.acts(&name).await?,
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
