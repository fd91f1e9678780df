//! The daemon's JSON API as a client sees it: where it is, what it answers, how it refuses.
//!
//! May import `api` only: the client talks to a daemon over HTTP, in those shapes.

use std::marker::PhantomData;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};

use crate::api::{Body, Call, Deployment, DeploymentQuery, ErrorAnswer, LogQuery, Route, Submission, routes};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer that isn't a stream may take: resolving a revision asks GitHub, which may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the daemon is and what it asks for; flattened into each subcommand's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Daemon {
    /// The daemon's address.
    #[arg(
        long,
        env = "DROVER_URL",
        default_value = "http://127.0.0.1:7700",
        value_name = "URL",
        value_parser = address
    )]
    pub url: String,
    /// The daemon's API token.
    #[arg(long, env = "DROVER_TOKEN", hide_env_values = true, default_value = "", value_name = "TOKEN")]
    pub token: String,
    /// How long a daemon that goes away while a log is followed is waited for.
    #[arg(long, env = "DROVER_PATIENCE", default_value = "10m", value_name = "TIME")]
    pub patience: jiff::SignedDuration,
}

/// Checks a group's name while arguments are read, so that a bad one is a usage error.
pub fn group_name(text: &str) -> Result<String, String> {
    let sound = text
        .split_once('/')
        .is_some_and(|(app, env)| !app.is_empty() && !env.is_empty() && !env.contains('/'));
    if sound {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no deployment group: write APPLICATION/ENVIRONMENT; `drover groups` lists them"))
}

/// The segments of a group's name in a path.
pub fn group_segments(name: &str) -> [&str; 2] {
    name.split_once('/').unwrap_or((name, "")).into()
}

/// Why a call to the daemon gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The daemon answered with an error; its message is shown as it is.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The API's error code, such as `unknown-group`; empty where the answer carried none.
        code: String,
        /// What the daemon said.
        message: String,
    },
    /// Nothing answered, or the connection broke.
    #[error(
        "can't reach the daemon at {url}: {cause}; is `drover serve` running there? (DROVER_URL or --url)"
    )]
    Unreachable {
        /// The daemon's address.
        url: String,
        /// The innermost cause.
        cause: String,
        /// Whether a connection was made, so that what was asked may have arrived.
        connected: bool,
    },
    /// An answer came that isn't what the API promises.
    #[error("the daemon at {url} gave an answer that can't be read: {cause}")]
    Garbled {
        /// The daemon's address.
        url: String,
        /// What was wrong with it.
        cause: String,
    },
}

impl ApiError {
    /// Whether the same question may be answered later: the daemon is away, restarting or a standby.
    pub fn is_passing(&self) -> bool {
        match self {
            ApiError::Refused { status, .. } => *status >= 500 || *status == 429,
            ApiError::Unreachable { .. } => true,
            ApiError::Garbled { .. } => false,
        }
    }

    /// Whether the daemon found fault with what was asked (400, 404, 422), as opposed to failing at it.
    pub fn is_usage(&self) -> bool {
        matches!(self, ApiError::Refused { status: 400 | 404 | 422, .. })
    }
}

/// A client of one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    patience: Duration,
}

impl Client {
    /// A client for the daemon that the arguments name; an error if the address is none.
    pub fn new(daemon: &Daemon) -> anyhow::Result<Client> {
        let base = daemon.url.trim_end_matches('/').to_owned();
        let url = parse(&base).map_err(anyhow::Error::msg)?;
        let token = daemon.token.trim().to_owned();
        if reqwest::header::HeaderValue::from_str(&token).is_err() {
            anyhow::bail!("the API token (DROVER_TOKEN or --token) holds characters that no token has");
        }
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        if url.scheme() == "http" {
            // Spares reading the system's certificates, and failing where there are none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let patience = Duration::try_from(daemon.patience).unwrap_or(Duration::ZERO);
        Ok(Client { http: builder.build()?, base, token, patience })
    }

    /// The daemon's address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How long a daemon that goes away is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Makes a call; `segments` stand for the `{}` of its path.
    pub async fn ask<Q: Serialize, A>(
        &self,
        call: &Call<Q, A>,
        segments: &[&str],
        request: &Q,
    ) -> Result<Answer<A>, ApiError> {
        let route = call.route();
        let asked = self.request(&route, segments);
        let asked = match route.request {
            Body::Json(_) => asked.json(request),
            Body::Query(_) => asked.query(request),
            _ => asked,
        };
        let response = self.send(asked.timeout(ANSWER_TIMEOUT)).await?;
        let text = response.text().await.map_err(|e| self.broken(&e))?;
        Ok(Answer { text, url: self.base.clone(), shape: PhantomData })
    }

    /// Shows a deployment with its instances.
    pub async fn deployment(&self, id: i64) -> Result<Answer<Deployment>, ApiError> {
        self.ask(&routes::SHOW_DEPLOYMENT, &[&id.to_string()], &()).await
    }

    /// Submits a deployment. Not repeated on a broken connection, since it may have arrived.
    pub async fn submit(&self, submission: &Submission) -> Result<Answer<Deployment>, ApiError> {
        self.ask(&routes::SUBMIT, &[], submission).await
    }

    /// The newest deployment, of all groups or of one.
    pub async fn newest(&self, group: Option<&str>) -> Result<Option<Deployment>, ApiError> {
        let query = DeploymentQuery { group: group.map(str::to_owned), limit: Some(1) };
        let list = self.ask(&routes::LIST_DEPLOYMENTS, &[], &query).await?.read()?;
        Ok(list.deployments.into_iter().next())
    }

    /// Opens a deployment's log as a stream of NDJSON rows.
    pub async fn logs(&self, id: i64, query: &LogQuery) -> Result<Response, ApiError> {
        let request = self.request(&routes::READ_LOG.route(), &[&id.to_string()]).query(query);
        self.send(request.header(reqwest::header::ACCEPT, "application/x-ndjson")).await
    }

    /// The error for a connection that broke while an answer was read.
    pub(crate) fn broken(&self, error: &reqwest::Error) -> ApiError {
        let connected = !error.is_connect();
        ApiError::Unreachable { url: self.base.clone(), cause: innermost(error), connected }
    }

    fn request(&self, route: &Route, segments: &[&str]) -> RequestBuilder {
        let segments: Vec<String> = segments.iter().map(|segment| encode(segment)).collect();
        // The table holds no method that HTTP doesn't know.
        let method = route.method.parse().unwrap_or(Method::GET);
        let request = self.http.request(method, format!("{}{}", self.base, route.path_with(&segments)));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &str) -> ApiError {
        let (code, mut message) = match serde_json::from_str::<ErrorAnswer>(body) {
            Ok(ErrorAnswer { error }) => (error.code, error.message),
            Err(_) => (String::new(), format!("the daemon at {} answered {status}", self.base)),
        };
        if status == StatusCode::UNAUTHORIZED && self.token.is_empty() {
            message.push_str(" (no token was sent: set DROVER_TOKEN or give --token)");
        }
        ApiError::Refused { status: status.as_u16(), code, message }
    }
}

/// A daemon's answer to a call, as the JSON text that came.
#[derive(Debug)]
pub struct Answer<A> {
    text: String,
    url: String,
    shape: PhantomData<fn() -> A>,
}

impl<A: DeserializeOwned> Answer<A> {
    /// The text, without white space at its end.
    pub fn text(&self) -> &str {
        self.text.trim_end()
    }

    /// Reads it.
    pub fn read(&self) -> Result<A, ApiError> {
        self.parse()
    }

    /// Reads it with whatever this version doesn't know, to be written into other JSON.
    pub fn value(&self) -> Result<serde_json::Value, ApiError> {
        self.parse()
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_str(&self.text)
            .map_err(|e| ApiError::Garbled { url: self.url.clone(), cause: e.to_string() })
    }
}

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes a name as one segment of a path.
fn encode(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// Checks an address while arguments are read, so that a bad one is a usage error.
fn address(text: &str) -> Result<String, String> {
    parse(text).map(|_| text.to_owned())
}

fn parse(text: &str) -> Result<Url, String> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(
        || format!("`{text}` isn't an address of a daemon: it should look like http://127.0.0.1:7700"),
    )
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The innermost cause of a request's error; the outer layers only repeat the address.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> anyhow::Result<Client> {
        Client::new(&Daemon {
            url: url.to_owned(),
            token: String::new(),
            patience: jiff::SignedDuration::ZERO,
        })
    }

    #[test]
    fn an_address_without_scheme_or_host_is_refused() {
        for bad in ["127.0.0.1:7700", "ftp://127.0.0.1", "", "http://"] {
            let error = client(bad).expect_err(bad).to_string();
            assert!(error.contains("isn't an address of a daemon"), "{error}");
        }
        assert_eq!(client("http://127.0.0.1:7700/").unwrap().base(), "http://127.0.0.1:7700");
    }

    #[test]
    fn a_refusal_shows_the_daemons_message_as_it_is() {
        let client = client("http://127.0.0.1:1").unwrap();
        let body = r#"{"error":{"code":"unknown-group","message":"no group `a/b`"}}"#;
        let error = client.refusal(StatusCode::NOT_FOUND, body);
        assert_eq!(error.to_string(), "no group `a/b`");
        assert!(error.is_usage() && !error.is_passing());
        let error = client.refusal(StatusCode::SERVICE_UNAVAILABLE, "<html>");
        assert_eq!(error.to_string(), "the daemon at http://127.0.0.1:1 answered 503 Service Unavailable");
        assert!(error.is_passing());
    }
}
