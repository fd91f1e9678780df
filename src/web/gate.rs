//! Who may come in: one table of all routes, each with its owner, and the check that stands before them.
//!
//! A request whose method and path are not in [`ROUTES`] goes no further. The rest is let in as its owner says, and a
//! handler finds the [`Caller`] among the request's extensions.

use super::{Web, reply::Refusal, sessions, slow::Failure, token_hash};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use std::{net::IpAddr, time::Duration};

/// Who a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Anybody.
    Public,
    /// Whoever has a token, in the header `Authorization: Bearer TOKEN`.
    Api,
    /// Whoever has signed in to the page.
    Session,
    /// An instance, with a token that is good for one bundle or one attempt; its handler checks it.
    Host,
    /// Whoever can sign; its handler checks that.
    Signed,
}

/// A route: `{}` stands for one segment of the path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// HTTP method.
    pub method: &'static str,
    /// Path.
    pub path: &'static str,
    /// Whose it is.
    pub owner: Owner,
}

const fn route(method: &'static str, path: &'static str, owner: Owner) -> Route {
    Route { method, path, owner }
}

/// All routes there are.
pub const ROUTES: &[Route] = &[
    route("GET", "/healthz", Owner::Public),
    route("GET", "/readyz", Owner::Public),
    route("GET", "/assets/{}", Owner::Public),
    route("GET", "/sign-in", Owner::Public),
    route("POST", "/sign-in", Owner::Public),
    route("POST", "/sign-out", Owner::Session),
    route("GET", "/", Owner::Session),
    route("GET", "/live", Owner::Session),
    route("POST", "/deployments", Owner::Session),
    route("GET", "/deployments/{}", Owner::Session),
    route("GET", "/deployments/{}/live", Owner::Session),
    route("GET", "/deployments/{}/log", Owner::Session),
    route("POST", "/deployments/{}/cancel", Owner::Session),
    route("POST", "/deployments/{}/pause", Owner::Session),
    route("POST", "/deployments/{}/resume", Owner::Session),
    route("POST", "/deployments/{}/approve", Owner::Session),
    route("POST", "/deployments/{}/retry", Owner::Session),
    route("POST", "/deployments/{}/rollback", Owner::Session),
    route("GET", "/groups", Owner::Session),
    route("POST", "/groups/{}/{}/lock", Owner::Session),
    route("POST", "/groups/{}/{}/unlock", Owner::Session),
    route("POST", "/quarantine/{}/release", Owner::Session),
    route("POST", "/quarantine/{}/retry", Owner::Session),
    route("POST", "/quarantine/{}/terminate", Owner::Session),
    route("POST", "/plan", Owner::Session),
    route("GET", "/api/v1/deployments", Owner::Api),
    route("POST", "/api/v1/deployments", Owner::Api),
    route("GET", "/api/v1/deployments/{}", Owner::Api),
    route("POST", "/api/v1/deployments/{}/cancel", Owner::Api),
    route("POST", "/api/v1/deployments/{}/pause", Owner::Api),
    route("POST", "/api/v1/deployments/{}/resume", Owner::Api),
    route("POST", "/api/v1/deployments/{}/approve", Owner::Api),
    route("POST", "/api/v1/deployments/{}/retry", Owner::Api),
    route("POST", "/api/v1/deployments/{}/rollback", Owner::Api),
    route("GET", "/api/v1/deployments/{}/logs", Owner::Api),
    route("GET", "/api/v1/groups", Owner::Api),
    route("PUT", "/api/v1/groups/{}/{}/lock", Owner::Api),
    route("DELETE", "/api/v1/groups/{}/{}/lock", Owner::Api),
    route("PUT", "/api/v1/groups/{}/{}/hook", Owner::Api),
    route("DELETE", "/api/v1/groups/{}/{}/hook", Owner::Api),
    route("POST", "/api/v1/groups/{}/{}/restore", Owner::Api),
    route("POST", "/api/v1/groups/{}/{}/adopt", Owner::Api),
    route("GET", "/api/v1/quarantine", Owner::Api),
    route("POST", "/api/v1/quarantine/{}/release", Owner::Api),
    route("POST", "/api/v1/quarantine/{}/retry", Owner::Api),
    route("POST", "/api/v1/quarantine/{}/terminate", Owner::Api),
    route("POST", "/api/v1/plan", Owner::Api),
    route("GET", "/api/v1/tokens", Owner::Api),
    route("POST", "/api/v1/tokens", Owner::Api),
    route("DELETE", "/api/v1/tokens/{}", Owner::Api),
    route("GET", "/bundles/v1/{}", Owner::Host),
    route("GET", "/ingest/v1/attempts/{}", Owner::Host),
    route("PUT", "/ingest/v1/attempts/{}", Owner::Host),
    route("POST", "/ingest/v1/attempts/{}", Owner::Host),
    route("POST", "/ingest/v1/attempts/{}/end", Owner::Host),
    route("POST", "/webhooks/github", Owner::Signed),
];

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

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("{}"), Some(segment)) if !segment.is_empty() => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

/// The route's owner.
pub fn owner(method: &Method, path: &str) -> Result<Owner, Refusal> {
    let mut here = ROUTES.iter().filter(|route| matches(route.path, path)).peekable();
    if here.peek().is_none() {
        let words = "there is nothing here; the API is under /api/v1";
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", words));
    }
    let wanted = here.find(|route| route.method == method.as_str());
    wanted.map(|route| route.owner).ok_or_else(|| {
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
        match owner(method, path)? {
            Owner::Public | Owner::Host | Owner::Signed => Ok(None),
            Owner::Api => {
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
            Owner::Session => {
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
        assert_eq!(owner(&Method::GET, "/").unwrap(), Owner::Session);
        assert_eq!(owner(&Method::GET, "/api/v1/deployments/7/logs").unwrap(), Owner::Api);
        for path in
            ["/api/v1", "/api/v1/deployments/", "/deployments//live", "/assets/a/b", "//", "/sign-in/"]
        {
            assert_eq!(owner(&Method::GET, path).unwrap_err().status, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(owner(&Method::DELETE, "/").unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
