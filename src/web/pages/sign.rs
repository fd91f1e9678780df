//! Signing in and out.

use super::{
    form::{Form, checked},
    html::{html, page, redirect},
};
use crate::web::{
    access::{self, Caller},
    body::body,
    context::Web,
    limits::LARGEST_FORM,
    reply::Refusal,
};
use askama::Template;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::net::IpAddr;
use warp::{Filter, filters::BoxedFilter, reply::Response};

#[derive(Template)]
#[template(path = "sign_in.html", config = "src/web/pages/askama.toml")]
struct SignIn<'a> {
    error: Option<&'a str>,
    next: &'a str,
    csrf_token: &'a str,
}

#[derive(Default, Deserialize)]
struct Query {
    #[serde(default)]
    next: String,
}

pub(super) fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let form = warp::path!("sign-in")
        .and(warp::get())
        .and(with.clone())
        .and(warp::query())
        .map(|web: Web, query: Query| show(&web, &query.next, None, StatusCode::OK));
    let sign_in = warp::path!("sign-in")
        .and(warp::post())
        .and(with.clone())
        .and(warp::ext::get())
        .and(warp::header::headers_cloned())
        .and(body(LARGEST_FORM))
        .then(|web: Web, peer: IpAddr, headers: HeaderMap, body: Bytes| async move {
            page(sign_in(&web, peer, &headers, &body).await)
        });
    let sign_out = warp::path!("sign-out")
        .and(warp::post())
        .and(with)
        .and(warp::ext::get())
        .and(body(LARGEST_FORM))
        .then(
            |web: Web, caller: Caller, body: Bytes| async move { page(sign_out(&web, &caller, &body).await) },
        );
    form.or(sign_in).unify().or(sign_out).unify().boxed()
}

/// Only a path of our own: never another site.
fn own_path(next: &str) -> &str {
    let sound = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if sound { next } else { "/" }
}

fn show(web: &Web, next: &str, error: Option<&str>, status: StatusCode) -> Response {
    let (visit, cookie) = web.begin_visit();
    let csrf_token = web.csrf_token(&visit);
    let mut response = html(&SignIn { error, next: own_path(next), csrf_token: &csrf_token }, status);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

async fn sign_in(web: &Web, peer: IpAddr, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
    access::same_origin(headers, web.public_url.as_deref())?;
    let form = Form::read(body);
    web.check_csrf_token(&access::visit(headers).unwrap_or_default(), form.get("csrf_token"))?;
    let next = form.get("next");
    let Some(cookie) = web.begin_session(form.get("token")).await? else {
        let words = "this is not a token of this daemon (or it was revoked)";
        return Ok(match web.slow_down(peer).await {
            Ok(()) => show(web, next, Some(words), StatusCode::UNAUTHORIZED),
            Err(refusal) => show(web, next, Some(&refusal.message), refusal.status),
        });
    };
    let mut response = redirect(own_path(next));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn sign_out(web: &Web, caller: &Caller, body: &[u8]) -> Result<Response, Refusal> {
    checked(web, caller, body)?;
    let cookie = web.end_session(&caller.session).await?;
    let mut response = redirect("/sign-in");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(super::own_path("/deployments/3?instance=i-1"), "/deployments/3?instance=i-1");
        for next in ["", "https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nb", "evil"] {
            assert_eq!(super::own_path(next), "/", "{next:?}");
        }
    }
}
