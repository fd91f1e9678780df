//! A GitHub App. It makes requests as itself with a JWT that its private key has signed, and as its installation with a token
//! that is good for an hour.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;

use super::reply::{Reply, error, not_found};

/// How long an installation's token is good at GitHub.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// The longest time for which a JWT may be good, seconds; GitHub refuses others.
const LONGEST_JWT: u64 = 600;
/// The number of the one installation.
const INSTALLATION: u64 = 4711;

/// An app as it was registered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The app's id.
    id: u64,
    /// The public key of its key pair, in PEM.
    public_key: String,
    /// The repositories that it is installed on.
    repositories: Vec<String>,
}

/// The one app that there may be.
#[derive(Debug, Default)]
pub struct Apps(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    app: Option<Registration>,
    /// The tokens of its installation, and until when each is good.
    tokens: HashMap<String, Instant>,
}

#[derive(Deserialize)]
struct Claims {
    iss: serde_json::Value,
    iat: u64,
    exp: u64,
}

impl Apps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the app, in the place of an earlier one.
    pub fn register(&self, app: Registration) {
        *self.state() = State { app: Some(app), ..State::default() };
    }

    /// Revokes all tokens that were given until now.
    pub fn revoke(&self) {
        self.state().tokens.clear();
    }

    /// Whether this is a token of the installation and, where a repository is named, the app is installed on it.
    pub fn admits(&self, token: &str, repository: Option<&str>) -> bool {
        let state = self.state();
        let installed = |app: &Registration| {
            repository.is_none_or(|name| app.repositories.iter().any(|own| own.eq_ignore_ascii_case(name)))
        };
        state.tokens.get(token).is_some_and(|until| *until > Instant::now())
            && state.app.as_ref().is_some_and(installed)
    }

    /// Answers the requests that an app makes as itself: its installation on a repository, and a token for it. Returns `None`
    /// for any other request.
    pub fn answer(&self, method: &http::Method, path: &[&str], jwt: &str, scale: f64) -> Option<Reply> {
        let mut state = self.state();
        let asks = match (method.as_str(), path) {
            ("GET", ["repos", owner, name, "installation"]) => Some(format!("{owner}/{name}")),
            ("POST", ["app", "installations", number, "access_tokens"]) => {
                if number.parse() != Ok(INSTALLATION) {
                    return Some(not_found());
                }
                None
            }
            _ => return None,
        };
        let Some(app) = state.app.clone() else {
            return Some(error(401, "A JSON web token could not be decoded"));
        };
        if let Err(why) = app.check_jwt(jwt) {
            return Some(error(401, why));
        }
        Some(match asks {
            Some(repository) if app.repositories.contains(&repository) => Reply::Json(
                200,
                json!({ "id": INSTALLATION, "app_id": app.id, "repository_selection": "selected" }),
            ),
            Some(_) => not_found(),
            None => {
                let life = TOKEN_LIFE.div_f64(scale.max(1.0));
                let token = format!("ghs_{}", hex::encode(rand::random::<[u8; 18]>()));
                state.tokens.insert(token.clone(), Instant::now() + life);
                let until = Timestamp::now() + SignedDuration::try_from(life).unwrap_or_default();
                let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                Reply::Json(
                    201,
                    json!({ "token": token, "expires_at": until, "permissions": { "contents": "read" } }),
                )
            }
        })
    }
}

impl Registration {
    /// Checks a JWT of the app; an error is GitHub's message.
    fn check_jwt(&self, jwt: &str) -> Result<(), &'static str> {
        let key = DecodingKey::from_rsa_pem(self.public_key.as_bytes());
        let mut wanted = Validation::new(Algorithm::RS256);
        wanted.leeway = 0;
        let claims = key.and_then(|key| jsonwebtoken::decode::<Claims>(jwt, &key, &wanted));
        let Claims { iss, iat, exp } = claims.map_err(|_| "A JSON web token could not be decoded")?.claims;
        if iss.as_u64().or_else(|| iss.as_str()?.parse().ok()) != Some(self.id) {
            return Err("'Issuer' claim ('iss') must be an Integer");
        }
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        if iat > now {
            return Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            );
        }
        if exp > now + LONGEST_JWT {
            return Err("'Expiration time' claim ('exp') is too far in the future");
        }
        Ok(())
    }
}
