//! Checks every request before a handler sees it.
//!
//! A request whose method and path are not in [`ROUTES`] goes no further. The rest is let in as its route's role says, and
//! a handler finds the [`Caller`] among the request's extensions.

use super::{pace::Failure, sessions, tokens::token_hash};
use crate::{
    api::{ROUTES, Role},
    web::{context::Web, reply::Refusal},
};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use std::{net::IpAddr, time::Duration};

/// Whether an open stream's caller may still come in is looked at this often.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// Who a request comes from.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the token.
    pub name: String,
    /// The hash of the session, for the page; empty for the API.
    pub session: String,
    /// The hash of the token, for the API; empty for the page.
    token: String,
}

/// Why a request goes no further.
#[derive(Debug)]
pub enum Stop {
    /// An answer for programs.
    Refused(Refusal),
    /// A person is to sign in first.
    SignIn,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// Who may use the route of this request.
fn role(method: &Method, path: &str) -> Result<Role, Refusal> {
    let mut here = ROUTES.iter().filter(|route| route.segments(path).is_some()).peekable();
    if here.peek().is_none() {
        let words = "there is nothing here; the API is under /api/v1";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", words));
    }
    let wanted = here.find(|route| route.method == method.as_str());
    wanted.map(|route| route.role).ok_or_else(|| {
        let words = "this path does not take this method";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", words)
    })
}

impl Web {
    /// Lets a request in, or says why not.
    pub async fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Option<Caller>, Stop> {
        match role(method, path)? {
            Role::Public | Role::Host | Role::Signed => Ok(None),
            Role::Api => {
                let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let token = text.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().trim();
                let hash = token_hash(token);
                match self.store.token_name(&hash).await.map_err(Refusal::from)? {
                    Some(name) => Ok(Some(Caller { name, session: String::new(), token: hash })),
                    None if token.is_empty() => Err(Refusal::unauthorized().into()),
                    None => {
                        self.slow_down(peer).await?;
                        Err(Refusal::unauthorized().into())
                    }
                }
            }
            Role::Session => {
                let session = sessions::presented(headers).ok_or(Stop::SignIn)?;
                let hash = token_hash(&session);
                let now = Timestamp::now().as_millisecond();
                let name = self.store.session_name(&hash, now).await.map_err(Refusal::from)?;
                let name = name.ok_or(Stop::SignIn)?;
                if method == Method::POST {
                    sessions::same_origin(headers, self.public_url.as_deref())?;
                }
                Ok(Some(Caller { name, session: hash, token: String::new() }))
            }
        }
    }

    /// Returns once the caller would not be let in any more: the token was revoked, or the session is over.
    pub async fn shut_out(&self, caller: &Caller) {
        loop {
            tokio::time::sleep(LOOKED_AT).await;
            let name = if caller.session.is_empty() {
                self.store.token_name(&caller.token).await
            } else {
                self.store.session_name(&caller.session, Timestamp::now().as_millisecond()).await
            };
            if matches!(name, Ok(None)) {
                return;
            }
        }
    }

    /// A wrong token: the answer comes later with each one more, and past a limit it is a refusal.
    pub async fn slow_down(&self, peer: IpAddr) -> Result<(), Refusal> {
        match self.failures.count(peer) {
            Failure::Pause(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Failure::TooMany(pause) => {
                tracing::warn!(%peer, "too many wrong tokens");
                let words = format!(
                    "too many wrong tokens from {peer}: try again in {} s (a right token is taken at any time)",
                    pause.as_secs().max(1)
                );
                Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too-many", words))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_not_there() {
        assert_eq!(role(&Method::GET, "/").unwrap(), Role::Session);
        assert_eq!(role(&Method::GET, "/api/v1/deployments/7/logs").unwrap(), Role::Api);
        for path in
            ["/api/v1", "/api/v1/deployments/", "/deployments//live", "/assets/a/b", "//", "/sign-in/"]
        {
            assert_eq!(role(&Method::GET, path).unwrap_err().status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(role(&Method::DELETE, "/").unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
