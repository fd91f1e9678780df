//! The load and the sample service against each other, without a balancer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{Load, LoadReport, LoadSpec};
use crate::sim::sample::service::{Service, serve};

/// A service on a runtime of its own, which can be killed.
struct Running {
    address: SocketAddr,
    leaving: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    async fn start() -> Running {
        let release = tempfile::tempdir().unwrap();
        std::fs::write(release.path().join("VERSION"), "1\n").unwrap();
        let service = Arc::new(Service::read(release.path()).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let leaving = service.leaving.clone();
        let (told, address) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            serve(service, listener).await;
        });
        Running { address: address.await.unwrap(), leaving, runtime }
    }

    fn load(&self) -> Load {
        load(self.address)
    }

    /// Everything ends at once, connections included.
    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

fn load(address: SocketAddr) -> Load {
    Load::start(LoadSpec { url: format!("http://{address}"), rate_per_second: 100, seed: 7 }).unwrap()
}

/// Waits until the report so far is as described.
async fn until(load: &Load, what: &str, is_so: impl Fn(&LoadReport) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so(&load.so_far()) {
        assert!(Instant::now() < deadline, "not in time: {what}: {:?}", load.so_far());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn all_kinds(report: &LoadReport) -> bool {
    let kinds = &report.by_kind;
    kinds.get.total > 50 && kinds.post.total > 20 && kinds.stream.total > 3 && kinds.websocket.opened == 4
}

#[tokio::test]
async fn a_sound_service_fails_nothing() {
    let running = Running::start().await;
    let load = running.load();
    until(&load, "requests of all kinds", all_kinds).await;
    let report = load.stop().await;
    assert_eq!((report.failed, &report.failures), (0, &Vec::new()), "{report:?}");
    let kinds = &report.by_kind;
    assert_eq!(kinds.websocket.closed_by_deregistration, 0);
    assert_eq!(
        report.total,
        kinds.get.total + kinds.post.total + kinds.stream.total + kinds.websocket.opened
    );
    running.kill();
}

#[tokio::test]
async fn a_killed_service_fails_requests_of_every_kind() {
    let running = Running::start().await;
    let load = running.load();
    until(&load, "requests of all kinds", all_kinds).await;
    running.kill();
    until(&load, "failures of every kind", |report| {
        let kinds = &report.by_kind;
        [kinds.get.failed, kinds.post.failed, kinds.stream.failed, kinds.websocket.failed]
            .iter()
            .all(|n| *n > 0)
    })
    .await;
    let report = load.stop().await;
    assert!(report.failed > 20 && report.failures.len() == 20, "{report:?}");
}

#[tokio::test]
async fn a_service_that_leaves_finishes_streams_and_says_goodbye_to_websockets() {
    let running = Running::start().await;
    let load = running.load();
    until(&load, "WebSockets", |report| report.by_kind.websocket.opened == 4).await;
    let mut stream =
        tokio::spawn(reqwest::get(format!("http://{}/stream", running.address))).await.unwrap().unwrap();
    running.leaving.cancel();
    let mut body = Vec::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    assert!(body.ends_with(b"end of stream\n"));
    let report = load.stop().await;
    let sockets = &report.by_kind.websocket;
    assert!(sockets.failed >= 4 && sockets.closed_by_deregistration == 0, "{report:?}");
    assert!(
        report.failures.iter().any(|failure| failure.contains("closed by the service (1001)")),
        "{report:?}"
    );
    running.kill();
}

/// Passes connections on until `cut`, then ends the client's side in an orderly way, as a balancer does at the end of
/// the deregistration delay; connections made later are passed on and stay.
async fn pass_on(listener: TcpListener, target: SocketAddr, cut: CancellationToken) {
    while let Ok((mut client, _)) = listener.accept().await {
        let cut = if cut.is_cancelled() { CancellationToken::new() } else { cut.clone() };
        tokio::spawn(async move {
            let mut service = TcpStream::connect(target).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut service) => {}
                () = cut.cancelled() => tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap(),
            }
        });
    }
}

#[tokio::test]
async fn a_websocket_cut_by_the_deregistration_delay_is_counted_apart_and_opened_again() {
    let running = Running::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, cut) = (listener.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(pass_on(listener, running.address, cut.clone()));
    let load = load(address);
    until(&load, "WebSockets", |report| report.by_kind.websocket.opened == 4).await;
    cut.cancel();
    until(&load, "WebSockets opened again", |report| report.by_kind.websocket.opened == 8).await;
    let report = load.stop().await;
    let sockets = &report.by_kind.websocket;
    assert_eq!((sockets.closed_by_deregistration, sockets.failed), (4, 0), "{report:?}");
    running.kill();
}

#[tokio::test]
async fn gets_alone_ask_nothing_of_the_service_but_an_answer() {
    let running = Running::start().await;
    let spec = LoadSpec { url: format!("http://{}/", running.address), rate_per_second: 200, seed: 1 };
    let load = Load::start_gets(spec).unwrap();
    until(&load, "answers", |report| report.by_kind.get.total > 50).await;
    let report = load.stop().await;
    assert_eq!((report.failed, report.total), (0, report.by_kind.get.total), "{report:?}");
    running.kill();
}

#[test]
fn what_can_not_be_loaded_is_refused() {
    for (url, rate) in [("https://127.0.0.1", 1), ("127.0.0.1:80", 1), ("http://127.0.0.1:80", 0)] {
        assert!(Load::start(LoadSpec { url: url.into(), rate_per_second: rate, seed: 1 }).is_err());
    }
}
