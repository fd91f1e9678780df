//! `/healthz`: the process runs. `/readyz`: it does its work, or why it can't.

use super::{
    context::Web,
    reply::{Refusal, answer},
};
use crate::store::StoreError;
use http::StatusCode;
use std::time::Duration;
use warp::{Filter, filters::BoxedFilter, reply::Reply as _, reply::Response};

/// The store answers within milliseconds, or something is wrong with it; longer than it waits for a connection.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Both routes.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let health = warp::path!("healthz").and(warp::get()).map(|| String::from("ok\n").into_response());
    let ready = warp::path!("readyz").and(warp::get()).then(move || {
        let web = web.clone();
        async move { answer(ready(&web).await) }
    });
    health.or(ready).unify().boxed()
}

async fn ready(web: &Web) -> Result<String, Refusal> {
    if web.stop.is_cancelled() {
        let words = "the daemon is stopping; rollouts go on when it is back";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", words));
    }
    if let Some(words) = web.engine.fault() {
        let words = format!("a fault of drover's own, lately: {words}; everything else goes on");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "fault", words));
    }
    match tokio::time::timeout(STORE_TIMEOUT, web.store.has_tokens()).await {
        Ok(answer) => {
            answer?;
            Ok("ready\n".into())
        }
        Err(_) => {
            let words = format!("no answer within {} s", STORE_TIMEOUT.as_secs());
            Err(StoreError::Unreachable(words).into())
        }
    }
}
