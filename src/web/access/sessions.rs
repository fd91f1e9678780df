//! Signing in to the page: a cookie that scripts can't read and that other sites' forms can't send (a link from elsewhere can,
//! and lands signed in), and a CSRF token in every form that only our own pages know.

use super::tokens::token_hash;
use crate::{
    engine::{Secrets, same},
    web::{context::Web, reply::Refusal},
};
use cookie::{Cookie, SameSite};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use std::time::Duration;

/// A session lasts a working day.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
const SESSION: &str = "drover_session";
/// Ties the sign-in form to the browser that asked for it.
const VISIT: &str = "drover_visit";

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| Cookie::split_parse(text.to_owned()).flatten())
        .find(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
        .filter(|value| !value.is_empty())
}

fn set(name: &'static str, value: String, lasts: Duration, secure: bool) -> String {
    let seconds = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
    Cookie::build((name, value))
        .http_only(true)
        .same_site(SameSite::Lax)
        .path("/")
        .secure(secure)
        .max_age(cookie::time::Duration::seconds(seconds))
        .build()
        .to_string()
}

/// The session that a request presents.
pub fn presented(headers: &HeaderMap) -> Option<String> {
    cookie(headers, SESSION)
}

/// The visit that a request presents.
pub fn visit(headers: &HeaderMap) -> Option<String> {
    cookie(headers, VISIT)
}

/// Refuses a form that another site posts. Browsers say where a form comes from; what says nothing is no browser, and
/// has the form's CSRF token to show.
pub fn same_origin(headers: &HeaderMap, public_url: Option<&str>) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let said = text(header::ORIGIN).or_else(|| text(header::REFERER));
    let Some(said) = said else { return Ok(()) };
    let authority = |url: &str| {
        url.parse::<http::Uri>().ok().and_then(|uri| uri.authority().map(|a| a.as_str().to_owned()))
    };
    let from = authority(said);
    let ours = [text(header::HOST).map(str::to_owned), public_url.and_then(authority)];
    if from.is_some() && ours.contains(&from) {
        return Ok(());
    }
    let shown: String = said.chars().take(200).collect();
    tracing::warn!(origin = shown, "a form from another origin was refused");
    let words = format!("this form was sent from {said}, not from this daemon's own page: nothing was done");
    Err(Refusal::new(StatusCode::FORBIDDEN, "other-origin", words))
}

impl Web {
    /// The CSRF token that the forms of this session (or visit) carry.
    pub fn csrf_token(&self, session: &str) -> String {
        self.secrets.csrf_token(session)
    }

    /// Refuses a form without the session's CSRF token.
    pub fn check_csrf_token(&self, session: &str, given: &str) -> Result<(), Refusal> {
        if same(given, &self.csrf_token(session)) {
            return Ok(());
        }
        let words = "this form is not one that this daemon gave out for this session: reload the page and send it again";
        Err(Refusal::new(StatusCode::FORBIDDEN, "form-csrf_token", words))
    }

    /// A fresh visit: its value, and the cookie.
    pub fn begin_visit(&self) -> (String, String) {
        let visit = Secrets::fresh();
        let cookie = set(VISIT, visit.clone(), Duration::from_secs(3600), self.secure);
        (visit, cookie)
    }

    /// Begins a session for whoever has this token; the cookie. None: it is no token.
    pub async fn begin_session(&self, token: &str) -> Result<Option<String>, Refusal> {
        let hash = token_hash(token.trim());
        let Some(name) = self.store.token_name(&hash).await? else { return Ok(None) };
        let session = Secrets::fresh();
        let now = Timestamp::now().as_millisecond();
        let expires = now + i64::try_from(LASTS.as_millis()).unwrap_or(0);
        let mut tx = self.store.write().await?;
        tx.insert_session(&token_hash(&session), &hash, now, expires).await?;
        tx.commit().await?;
        tracing::info!(name, "signed in");
        Ok(Some(set(SESSION, session, LASTS, self.secure)))
    }

    /// Ends a session; the cookie that takes the old one back.
    pub async fn end_session(&self, hash: &str) -> Result<String, Refusal> {
        let mut tx = self.store.write().await?;
        tx.delete_session(hash).await?;
        tx.commit().await?;
        Ok(set(SESSION, String::new(), Duration::ZERO, self.secure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_own_origin_may_post() {
        let host = ("host", "127.0.0.1:7700");
        let check = |more: (&'static str, &str), public| same_origin(&headers(&[host, more]), public).is_ok();
        assert!(check(("origin", "http://127.0.0.1:7700"), None));
        assert!(check(("referer", "http://127.0.0.1:7700/deployments/1"), None));
        assert!(check(("origin", "https://deploy.example.com"), Some("https://deploy.example.com")));
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:7701", "http://127.0.0.1:7700.evil.example"]
        {
            assert!(!check(("origin", origin), Some("https://deploy.example.com")), "{origin}");
        }
    }

    #[test]
    fn cookies_are_locked_away() {
        let cookie = set(SESSION, "v".into(), LASTS, true);
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Secure", "Max-Age=43200"] {
            assert!(cookie.contains(part), "{part} in {cookie}");
        }
        assert_eq!(presented(&headers(&[("cookie", "a=b; drover_session=xyz")])).as_deref(), Some("xyz"));
    }
}
