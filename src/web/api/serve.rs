//! Joins a call of the API with the function that answers it.

use crate::{
    api::{Body, Call},
    web::{
        access::Caller,
        body::json,
        context::Web,
        path::{FromSegments, at},
        reply::{Refusal, answer},
    },
};
use http::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use std::future;
use warp::{Filter, filters::BoxedFilter, reply::Response};

/// Handlers, each of one route.
pub type Handlers = Vec<BoxedFilter<(Response,)>>;

/// The handler of a call: `function` gets what the path names and the request, and its answer has the call's shape.
pub fn serve<T, Q, A, F>(
    web: &Web,
    call: Call<Q, A>,
    function: impl Fn(Web, Caller, T, Q) -> F + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)>
where
    T: FromSegments,
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + 'static,
    F: Future<Output = Result<A, Refusal>> + Send,
{
    let status = StatusCode::from_u16(call.status()).unwrap_or_default();
    at::<T>(call.route())
        .and(request(&call))
        .and(web.given())
        .and(warp::ext::get::<Caller>())
        .then(move |named: T, request: Q, web: Web, caller: Caller| {
            let answered = function(web, caller, named, request);
            async move {
                let done = answered.await;
                answer(done.map(|done| warp::reply::with_status(warp::reply::json(&done), status)))
            }
        })
        .boxed()
}

/// Reads the request of a call.
fn request<Q: DeserializeOwned + Send + 'static, A>(call: &Call<Q, A>) -> BoxedFilter<(Q,)> {
    match call.route().request {
        Body::Json(_) => json::<Q>(),
        Body::Query(_) => warp::query::<Q>().boxed(),
        // Nothing, which JSON calls null.
        _ => warp::any()
            .and_then(|| {
                let nothing = serde_json::from_value(serde_json::Value::Null);
                future::ready(nothing.map_err(|_| warp::reject()))
            })
            .boxed(),
    }
}
