//! `/api/v1/tokens`: who may use the API and sign in.

use super::serve::{Handlers, serve};
use crate::{
    api::{Token, TokenList, TokenMade, TokenRequest, TokenRevoked, routes},
    web::{access::Caller, context::Web, path::Name, reply::Refusal},
};
use jiff::Timestamp;

/// The handlers of these routes.
pub fn handlers(web: &Web) -> Handlers {
    vec![
        serve(web, routes::LIST_TOKENS, list),
        serve(web, routes::MAKE_TOKEN, make),
        serve(web, routes::REVOKE_TOKEN, revoke),
    ]
}

async fn list(web: Web, _: Caller, (): (), (): ()) -> Result<TokenList, Refusal> {
    let tokens = web.store.tokens().await?.into_iter().map(|row| Token {
        name: row.name,
        created_at: Timestamp::from_millisecond(row.created_at).unwrap_or_default(),
    });
    Ok(TokenList { tokens: tokens.collect() })
}

async fn make(web: Web, caller: Caller, (): (), request: TokenRequest) -> Result<TokenMade, Refusal> {
    let token = web.make_token(&request.name, &caller.name).await?;
    Ok(TokenMade { name: request.name, token })
}

async fn revoke(web: Web, caller: Caller, name: Name, (): ()) -> Result<TokenRevoked, Refusal> {
    web.revoke_token(&name.0, &caller.name).await?;
    Ok(TokenRevoked { revoked: name.0 })
}
