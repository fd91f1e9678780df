//! The sample service: answers what a balancer's traffic is made of, and leaves gracefully.
//! Must not import anything of the daemon.
//!
//! `GET /` version, instance, greeting · `GET /health` `ok VERSION` · `POST /echo` length and SHA-256 of the body ·
//! `GET /stream` chunks during three seconds · `GET /ws` WebSocket: echo, and a tick each second.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Chunks of a streamed response, and the pause before each: three seconds in all.
pub(in crate::sim) const STREAM_CHUNKS: u32 = 30;
const STREAM_PAUSE: Duration = Duration::from_millis(100);
/// The last line of a streamed response: without it, it was broken off.
pub(in crate::sim) const STREAM_END: &str = "end of stream";
/// How long what is in flight may take after SIGTERM: less than the ten seconds that the stop hook gives.
const LEAVING: Duration = Duration::from_secs(9);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One run of the service.
pub(in crate::sim) struct Service {
    version: String,
    greeting: String,
    instance: String,
    /// Cancelled when it is to stop.
    pub(in crate::sim) leaving: CancellationToken,
    /// Connections and WebSockets.
    tasks: TaskTracker,
}

/// Arguments of the hidden subcommand `sample-service`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The port to listen on.
    #[arg(long, default_value_t = 80)]
    pub port: u16,
    /// The directory of the release: VERSION and GREETING are read from it, once.
    #[arg(long, value_name = "DIR")]
    pub release: PathBuf,
    /// The address to listen on. In an instance, whose network is its own, 0.0.0.0 is right.
    #[arg(long, env = "ADDRESS", default_value = "127.0.0.1")]
    pub address: IpAddr,
}

/// The hidden subcommand as a process of its own; `words` are what follows its name.
///
/// # Errors
/// Where the arguments are wrong, else as [`run`].
pub fn main(words: &[String]) -> anyhow::Result<()> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let name = std::iter::once("sample-service");
    let line = <Line as clap::Parser>::try_parse_from(name.chain(words.iter().map(String::as_str)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(line.args))
}

/// Serves until SIGTERM, then until what is in flight has finished.
///
/// # Errors
/// Where the release can't be read or the port is taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let service = Service::read(&args.release)?;
    let address = SocketAddr::from((args.address, args.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    say(&format!("version {} serves on {address}", service.version));
    let leaving = service.leaving.clone();
    let serving = serve(Arc::new(service), listener);
    tokio::pin!(serving);
    tokio::select! {
        () = serving.as_mut() => return Ok(()),
        _ = terminated.recv() => {}
    }
    say("SIGTERM: finishing what is in flight");
    leaving.cancel();
    match tokio::time::timeout(LEAVING, serving).await {
        Ok(()) => say("finished"),
        Err(_) => say("not all that was in flight has finished in time"),
    }
    Ok(())
}

/// Serves until the service leaves and nothing is in flight any more.
pub(in crate::sim) async fn serve(service: Arc<Service>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.leaving.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // No descriptors left, say: some come back as others end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        drop(stream.set_nodelay(true));
        service.tasks.spawn(service.clone().connection(stream));
    }
    drop(listener);
    service.tasks.close();
    service.tasks.wait().await;
}

/// Stdout is this service's log.
fn say(line: &str) {
    println!("{line}");
}

impl Service {
    /// The service as its release's files make it.
    pub(in crate::sim) fn read(release: &Path) -> anyhow::Result<Service> {
        let path = release.join("VERSION");
        let version = std::fs::read_to_string(&path)
            .with_context(|| format!("read the version in {}", path.display()))?;
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
        let instance = std::env::var("AWS_SSM_INSTANCE_ID").ok().or_else(|| host().ok());
        Ok(Service {
            version: version.trim().to_owned(),
            // A release without one has nothing more to say.
            greeting: std::fs::read_to_string(release.join("GREETING")).unwrap_or_default(),
            instance: instance.unwrap_or_else(|| "an unnamed host".to_owned()),
            leaving: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = self.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        tokio::pin!(connection);
        // A client that breaks off is no event here.
        tokio::select! {
            ended = connection.as_mut() => return drop(ended),
            () = self.leaving.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        drop(connection.await);
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => {
                text(format!("version {} on {}\n{}", self.version, self.instance, self.greeting))
            }
            (&Method::GET, "/health") => text(format!("ok {}\n", self.version)),
            (&Method::POST, "/echo") => {
                let (mut length, mut hash) = (0, Sha256::new());
                let body = request.body_mut();
                while let Some(frame) = body.frame().await {
                    let Ok(frame) = frame else { return status(StatusCode::BAD_REQUEST) };
                    if let Some(data) = frame.data_ref() {
                        length += data.len();
                        hash.update(data);
                    }
                }
                text(format!("{length} {}\n", hex::encode(hash.finalize())))
            }
            (&Method::GET, "/stream") => {
                let version = self.version.clone();
                let chunks = futures_util::stream::unfold(0, move |at| {
                    let version = version.clone();
                    async move {
                        if at > STREAM_CHUNKS {
                            return None;
                        }
                        tokio::time::sleep(STREAM_PAUSE).await;
                        let line = if at == STREAM_CHUNKS {
                            format!("{STREAM_END}\n")
                        } else {
                            format!("chunk {at} of {STREAM_CHUNKS} from version {version}\n")
                        };
                        Some((Ok(Frame::data(Bytes::from(line))), at + 1))
                    }
                });
                Response::new(StreamBody::new(chunks).boxed_unsync())
            }
            (&Method::GET, "/ws") => self.websocket(&mut request),
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    fn websocket(&self, request: &mut Request<Incoming>) -> Response<Body> {
        let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
            return status(StatusCode::UPGRADE_REQUIRED);
        };
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(request);
        let (leaving, version) = (self.leaving.clone(), self.version.clone());
        self.tasks.spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
                // A client that breaks off is no event here.
                drop(talk(socket, leaving, &version).await);
            }
        });
        let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
        *response.body_mut() = Full::default().boxed_unsync();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

/// Echoes, ticks once a second, and says goodbye when the service leaves.
async fn talk(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    leaving: CancellationToken,
    version: &str,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0_u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count += 1;
                socket.send(Message::text(format!("tick {count} from version {version}"))).await?;
            }
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            () = leaving.cancelled() => {
                let goodbye = CloseFrame { code: CloseCode::Away, reason: "the service stops".into() };
                socket.close(Some(goodbye)).await?;
                let answer = async { while let Some(Ok(_)) = socket.next().await {} };
                // A client that does not answer is not waited for.
                drop(tokio::time::timeout(Duration::from_secs(1), answer).await);
                return Ok(());
            }
        }
    }
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = text(format!("{status}\n"));
    *response.status_mut() = status;
    response
}
