//! `/api/v1/deployments`: submit them, look at them, ask something of them.

use super::serve::{Handlers, serve};
use crate::{
    api::{
        CancelRequest, Deployment, DeploymentList, DeploymentQuery, Rehearsal, Submission, VerbRequest,
        routes,
    },
    rollout::verb::Verb,
    web::{
        access::Caller,
        context::Web,
        limits::{LIST, LONGEST_LIST},
        reply::Refusal,
    },
};
use http::StatusCode;

/// The handlers of these routes.
pub fn handlers(web: &Web) -> Handlers {
    let mut handlers = vec![
        serve(web, routes::LIST_DEPLOYMENTS, list),
        serve(web, routes::SUBMIT, submit),
        serve(web, routes::SHOW_DEPLOYMENT, show),
        serve(web, routes::CANCEL, cancel),
        serve(web, routes::REHEARSE, rehearse),
    ];
    handlers.extend(Verb::ALL.map(|verb| {
        let perform = move |web, caller, id, request| perform_verb(web, caller, id, verb, request);
        serve(web, routes::of_deployment(verb), perform)
    }));
    handlers
}

async fn list(web: Web, _: Caller, (): (), query: DeploymentQuery) -> Result<DeploymentList, Refusal> {
    let limit = query.limit.unwrap_or(LIST).clamp(1, LONGEST_LIST);
    Ok(DeploymentList { deployments: web.deployment_list(query.group.as_deref(), limit).await? })
}

async fn submit(web: Web, caller: Caller, (): (), submission: Submission) -> Result<Deployment, Refusal> {
    let row = web.engine.submit(submission, &caller.name).await?;
    web.deployment_view(row.id).await
}

async fn show(web: Web, _: Caller, id: i64, (): ()) -> Result<Deployment, Refusal> {
    web.deployment_view(id).await
}

async fn cancel(web: Web, caller: Caller, id: i64, request: CancelRequest) -> Result<Deployment, Refusal> {
    web.engine.cancel(id, request.now, &caller.name).await?;
    web.deployment_view(id).await
}

async fn rehearse(web: Web, _: Caller, (): (), submission: Submission) -> Result<Rehearsal, Refusal> {
    Ok(web.engine.rehearse(submission).await?)
}

/// Answers the deployment to look at: this one, or the new one that does it.
async fn perform_verb(
    web: Web,
    caller: Caller,
    id: i64,
    verb: Verb,
    request: VerbRequest,
) -> Result<Deployment, Refusal> {
    if request.instance.is_some() && verb != Verb::Retry {
        let words = format!("'instance' is for retry; {verb} is for the whole deployment");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid-request", words));
    }
    let done = web.engine.perform_verb(id, verb, request.instance.as_deref(), &caller.name).await?;
    web.deployment_view(done).await
}
