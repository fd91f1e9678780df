//! The page: rendered here, alive by one small script, usable without it.

mod deployment;
mod form;
mod groups;
mod html;
mod list;
mod sign;

pub use html::{CONTENT_SECURITY_POLICY, error, to_sign_in};

use super::{context::Web, reply::Refusal};
use http::{HeaderValue, StatusCode, header};
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

const SCRIPT: &str = include_str!("assets/drover.js");
const STYLE: &str = include_str!("assets/drover.css");

/// All pages.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let asset = warp::path!("assets" / String).and(warp::get()).map(|name: String| asset(&name));
    asset
        .or(sign::routes(web.clone()))
        .unify()
        .or(list::routes(web.clone()))
        .unify()
        .or(groups::routes(web.clone()))
        .unify()
        .or(deployment::routes(web))
        .unify()
        .boxed()
}

fn asset(name: &str) -> Response {
    let (kind, text) = match name {
        "drover.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "drover.css" => ("text/css; charset=utf-8", STYLE),
        _ => return error(&Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is no such file")),
    };
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}
