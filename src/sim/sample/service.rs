//! The sample service: answers what a balancer's traffic is made of, and leaves gracefully.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
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
/// How long what is in flight may take after SIGTERM.
const LEAVING: Duration = Duration::from_secs(20);

type Body = UnsyncBoxBody<Bytes, Infallible>;

struct Service {
    version: String,
    greeting: String,
    instance: String,
    leaving: CancellationToken,
    /// Connections and WebSockets.
    tasks: TaskTracker,
}

/// `sample-service --port PORT --release DIR`; listens on the address in ADDRESS, else on all.
///
/// # Errors
/// Where the release can't be read or the port is taken.
pub fn main(args: &[String]) -> anyhow::Result<()> {
    let (mut port, mut release) = (80_u16, None::<PathBuf>);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--port" => port = value.parse().with_context(|| format!("read the port {value}"))?,
            "--release" => release = Some(value.into()),
            _ => bail!("sample-service does not know {word}: it takes --port and --release"),
        }
    }
    let release = release.context("sample-service needs --release DIR")?;
    let read = |name: &str| {
        let path = release.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let service = Service {
        version: read("VERSION")?.trim().to_owned(),
        greeting: read("GREETING").unwrap_or_default(),
        instance: std::env::var("AWS_SSM_INSTANCE_ID").unwrap_or_else(|_| "no instance".into()),
        leaving: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let address = match std::env::var("ADDRESS") {
        Ok(address) => address.parse().with_context(|| format!("read ADDRESS {address}"))?,
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(Arc::new(service), (address, port).into()))
}

async fn serve(service: Arc<Service>, address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    say(&format!("version {} serves on {address}", service.version));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = terminated.recv() => break,
        };
        drop(stream.set_nodelay(true));
        service.tasks.spawn(service.clone().connection(stream));
    }
    drop(listener);
    say("SIGTERM: finishing what is in flight");
    service.leaving.cancel();
    service.tasks.close();
    match tokio::time::timeout(LEAVING, service.tasks.wait()).await {
        Ok(()) => say("finished"),
        Err(_) => say("not all that was in flight has finished in time"),
    }
    Ok(())
}

/// Stdout is this service's log.
fn say(line: &str) {
    println!("{line}");
}

impl Service {
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
