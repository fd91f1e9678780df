//! The requests of the load, each checked to its last byte.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::sim::sample::service::{STREAM_CHUNKS, STREAM_END};

/// Longer than the balancer's own time-outs: their 504 comes first.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a connection is kept unused: well below a balancer's usual 60 s, so that it isn't used while being closed.
const KEPT: Duration = Duration::from_secs(20);
/// Bodies of POSTs are up to this long.
const LONGEST_BODY: usize = 256 * 1024;

pub(super) struct Client {
    authority: String,
    /// Keeps connections; one that the balancer closed while idle is replaced without an error.
    kept: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(authority: String) -> Client {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut kept = Pool::builder(TokioExecutor::new());
        kept.pool_idle_timeout(KEPT);
        Client { authority, kept: kept.build(connector) }
    }

    /// A plain request, on a kept connection or on a fresh one.
    pub(super) async fn get(&self, fresh: bool) -> anyhow::Result<()> {
        let (status, body) = self.index(fresh).await?;
        ensure!(status.is_success(), "status {status}: {}", excerpt(&body));
        ensure!(body.starts_with(b"version "), "not the sample's answer: {}", excerpt(&body));
        Ok(())
    }

    /// A plain request to a service of which nothing is known: any status below 500 is right.
    pub(super) async fn get_anything(&self, fresh: bool) -> anyhow::Result<()> {
        self.index(fresh).await.map(drop)
    }

    async fn index(&self, fresh: bool) -> anyhow::Result<(StatusCode, Bytes)> {
        if fresh { self.get_fresh().await } else { self.exchange("GET", "/", Bytes::new()).await }
    }

    /// A request with a body; the answer tells whether it came whole.
    pub(super) async fn post(&self, salt: u64) -> anyhow::Result<()> {
        let mut random = StdRng::seed_from_u64(salt);
        let mut body = vec![0; random.random_range(1..LONGEST_BODY)];
        random.fill_bytes(&mut body);
        let expected = format!("{} {}\n", body.len(), hex::encode(Sha256::digest(&body)));
        let (status, answer) = self.exchange("POST", "/echo", body.into()).await?;
        ensure!(status.is_success(), "status {status}: {}", excerpt(&answer));
        ensure!(answer == expected, "the service received something else: {}", excerpt(&answer));
        Ok(())
    }

    /// A response that takes three seconds.
    pub(super) async fn stream(&self) -> anyhow::Result<()> {
        let (status, body) = self.exchange("GET", "/stream", Bytes::new()).await?;
        ensure!(status.is_success(), "status {status}: {}", excerpt(&body));
        let text = String::from_utf8_lossy(&body);
        let chunks = text.lines().filter(|line| line.starts_with("chunk ")).count();
        let whole = chunks == STREAM_CHUNKS as usize && text.ends_with(&format!("{STREAM_END}\n"));
        ensure!(whole, "short body: {chunks} of {STREAM_CHUNKS} chunks");
        Ok(())
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        base: &str,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        Ok(Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::HOST, &self.authority)
            .body(Full::new(body))?)
    }

    async fn exchange(&self, method: &str, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = self.request(method, path, body, &format!("http://{}", self.authority))?;
        let exchange = async { read(self.kept.request(request).await.context("no response")?).await };
        tokio::time::timeout(PATIENCE, exchange).await.context("no whole response in time")?
    }

    async fn get_fresh(&self) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = self.request("GET", "/", Bytes::new(), "")?;
        let exchange = async {
            let stream = TcpStream::connect(&self.authority).await.context("connect")?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let body = read(sender.send_request(request).await.context("no response")?).await;
            connection.abort();
            body
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no whole response in time")?
    }
}

async fn read(response: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = response.status();
    let body = response.into_body().collect().await.context("short body")?.to_bytes();
    ensure!(!status.is_server_error(), "status {status}: {}", excerpt(&body));
    Ok((status, body))
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..80).unwrap_or(body)).trim().to_owned()
}
