//! `/api/v1/tokens`: who may use the API and sign in. A token is shown once, when it is made.

use super::{
    Web,
    api::parse,
    gate::Caller,
    reply::{Refusal, answer},
    request::{Segment, body},
    token_hash,
};
use crate::engine::Secrets;
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

const LARGEST_BODY: usize = 4096;
const LONGEST_NAME: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
}

/// List, create, revoke; below `/api/v1`.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let list = warp::path!("tokens")
        .and(warp::get())
        .and(with.clone())
        .then(|web: Web| async move { answer(list(&web).await) });
    let create = warp::path!("tokens")
        .and(warp::post())
        .and(with.clone())
        .and(warp::ext::get::<Caller>())
        .and(body(LARGEST_BODY))
        .then(|web: Web, caller: Caller, body: Bytes| async move {
            answer(create(&web, &body, &caller.name).await)
        });
    let revoke =
        warp::path!("tokens" / Segment).and(warp::delete()).and(with).and(warp::ext::get::<Caller>()).then(
            |name: Segment, web: Web, caller: Caller| async move {
                answer(revoke(&web, &name.0, &caller.name).await)
            },
        );
    list.or(create).unify().or(revoke).unify().boxed()
}

async fn list(web: &Web) -> Result<impl Reply + use<>, Refusal> {
    let tokens: Vec<_> = web
        .store
        .tokens()
        .await?
        .into_iter()
        .map(|row| {
            let at = Timestamp::from_millisecond(row.created_at).unwrap_or_default();
            json!({ "name": row.name, "created_at": at })
        })
        .collect();
    Ok(warp::reply::json(&json!({ "tokens": tokens })))
}

async fn create(web: &Web, body: &[u8], by: &str) -> Result<impl Reply + use<>, Refusal> {
    let Wish { name } = parse(body)?;
    // What every terminal, shell and URL can write; no path, and no option.
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || name.len() > LONGEST_NAME
        || !name.chars().all(sound)
    {
        let words = format!(
            "'{name}' is no name for a token: 1 to {LONGEST_NAME} ASCII letters, digits, '-', '_' and '.', a letter or digit first"
        );
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid-name", words));
    }
    let token = Secrets::fresh();
    let mut tx = web.store.write().await?;
    if tx.count_tokens(&name).await?.1 > 0 {
        let words = format!("there is a token '{name}' already: revoke it first, or take another name");
        return Err(Refusal::new(StatusCode::CONFLICT, "name-taken", words));
    }
    tx.insert_token(&token_hash(&token), &name, Timestamp::now().as_millisecond()).await?;
    tx.commit().await?;
    tracing::info!(name, by, "made a token");
    let made = warp::reply::json(&json!({ "name": name, "token": token }));
    Ok(warp::reply::with_status(made, StatusCode::CREATED))
}

async fn revoke(web: &Web, name: &str, by: &str) -> Result<impl Reply + use<>, Refusal> {
    let mut tx = web.store.write().await?;
    let (all, named) = tx.count_tokens(name).await?;
    if named == 0 {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown-token",
            format!("there is no token '{name}'"),
        ));
    }
    if all == named {
        let words = format!("'{name}' is the last token: make another one first, or nobody could come in");
        return Err(Refusal::new(StatusCode::CONFLICT, "last-token", words));
    }
    tx.delete_token(name).await?;
    tx.commit().await?;
    tracing::info!(name, by, "revoked a token");
    Ok(warp::reply::json(&json!({ "revoked": name })))
}
