use std::sync::{Arc, Mutex};

use bytes::Bytes;
use drover::sim::balancer::{Balancer, Ended, Outcome, Picked, Targets};
use drover::sim::load::{Load, LoadSpec};
use drover::sim::sample;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

#[derive(Default)]
struct Rotation {
    targets: Mutex<Vec<Arc<Host>>>,
    next: Mutex<usize>,
    outcomes: Mutex<Vec<Outcome>>,
}

impl Targets for Rotation {
    fn pick(&self) -> Option<Picked> {
        let targets = self.targets.lock().unwrap();
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let host = targets.get(*next % targets.len().max(1))?.clone();
        Some(Picked { instance_id: host.id().into(), host: Some(host), port: 80 })
    }

    fn record(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push(outcome);
    }
}

struct Front {
    rotation: Arc<Rotation>,
    balancer: Arc<Balancer>,
    url: String,
    _stop: tokio_util::sync::DropGuard,
}

async fn front() -> Front {
    let rotation = Arc::new(Rotation::default());
    let balancer = Balancer::new(rotation.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(balancer.clone().serve(listener, shutdown.clone()));
    Front { rotation, balancer, url, _stop: shutdown.drop_guard() }
}

/// An instance that serves version 1 of the sample, put there as a deploy would.
async fn serving(dir: &tempfile::TempDir, id: &str, cloud: &Cloud) -> Arc<Host> {
    let host = Host::launch(spec(dir, id, cloud)).await.unwrap();
    let at = "$DROVER_ROOT/opt/drover/sample/releases/v1";
    out(&host, &format!("mkdir -p {at}; echo 1 >{at}/VERSION; echo hello >{at}/GREETING")).await;
    start(&host).await;
    Arc::new(host)
}

async fn start(host: &Host) {
    let command = "setsid drover sample-service --port ${PORT:-80} --release $DROVER_ROOT/opt/drover/sample/releases/v1 \
        >>$DROVER_ROOT/var/log/sample.log 2>&1 </dev/null & echo $! >$DROVER_ROOT/run/sample.pid
        n=0; until curl -fsS http://${ADDRESS:-127.0.0.1}:${PORT:-80}/health; do n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.05; done";
    out(host, command).await;
}

async fn get(front: &Front, path: &str) -> Result<(u16, String), String> {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response =
        client.get(format!("{}{path}", front.url).parse().unwrap()).await.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_carries_requests_streams_and_websockets_and_fails_honestly() {
    let (dir, cloud, front) = (tempfile::tempdir().unwrap(), Cloud::start().await, front().await);
    assert_eq!(get(&front, "/").await.unwrap().0, 503);
    let host = serving(&dir, "i-0000000000000ba11", &cloud).await;
    front.rotation.targets.lock().unwrap().push(host.clone());
    let (status, page) = get(&front, "/").await.unwrap();
    assert!(
        status == 200 && page.starts_with("version 1 on ") && page.ends_with("hello\n"),
        "{status} {page}"
    );

    // A stream and a WebSocket in flight are cut when the deregistration delay ends.
    let streaming = async { get(&front, "/stream").await };
    let cutting = async {
        let address = front.url.strip_prefix("http://").unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut socket, _) =
            tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().starts_with("tick 1"));
        eventually("both in flight", async || (front.balancer.in_flight(host.id()) == 2).then_some(())).await;
        front.balancer.close_target(host.id());
        let end = loop {
            match socket.next().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(format!("{end:?}").contains("ResetWithoutClosingHandshake"), "{end:?}");
    };
    let (streamed, ()) = tokio::join!(streaming, cutting);
    // A 504 where it was cut before the first byte.
    assert!(!matches!(streamed, Ok((200, _))), "{streamed:?}");
    eventually("nothing in flight", async || (front.balancer.in_flight(host.id()) == 0).then_some(())).await;
    assert_eq!(front.balancer.counts().deregistered, 2);

    // Graceful: what is in flight when the service is told to stop goes on to its end.
    let streaming = async { get(&front, "/stream").await };
    let stopping = async {
        eventually("it in flight", async || (front.balancer.in_flight(host.id()) == 1).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        out(&host, "kill $(cat $DROVER_ROOT/run/sample.pid)").await;
        let refused = eventually("a 502", async || {
            get(&front, "/").await.ok().filter(|(status, _)| *status == 502).map(|answer| answer.0)
        });
        assert_eq!(refused.await, 502);
    };
    let (streamed, ()) = tokio::join!(streaming, stopping);
    assert!(streamed.unwrap().1.ends_with("end of stream\n"));

    // A cut network closes what is open.
    start(&host).await;
    let streaming = async { get(&front, "/stream").await };
    let cutting = async {
        eventually("it in flight", async || (front.balancer.in_flight(host.id()) == 1).then_some(())).await;
        host.cut_network().await;
    };
    let (streamed, ()) = tokio::join!(streaming, cutting);
    assert!(!matches!(streamed, Ok((200, _))), "{streamed:?}");
    host.restore_network().await;
    assert_eq!(get(&front, "/health").await.unwrap().0, 200);

    // So does termination.
    let streaming = async { get(&front, "/stream").await };
    let ending = async {
        eventually("it in flight", async || (front.balancer.in_flight(host.id()) == 1).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.terminate().await;
    };
    let (streamed, ()) = tokio::join!(streaming, ending);
    assert!(streamed.is_err());
    assert_eq!(get(&front, "/").await.unwrap().0, 502);
    let outcomes = front.rotation.outcomes.lock().unwrap();
    assert!(outcomes.iter().any(|outcome| outcome.ended == Ended::TargetBroke && outcome.path == "/stream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_sees_no_failure_where_there_is_none_and_every_one_where_there_are() {
    let (dir, cloud, front) = (tempfile::tempdir().unwrap(), Cloud::start().await, front().await);
    let one = serving(&dir, "i-00000000000010ad1", &cloud).await;
    let two = serving(&dir, "i-00000000000010ad2", &cloud).await;
    front.rotation.targets.lock().unwrap().extend([one.clone(), two.clone()]);
    let load = Load::start(LoadSpec::new(&front.url)).unwrap();
    eventually("some load", async || (load.so_far().total > 100).then_some(())).await;
    // A well-behaved change: out of the rotation, in-flight requests end, then the stragglers are cut.
    front.rotation.targets.lock().unwrap().retain(|host| host.id() == two.id());
    eventually("only WebSockets left", async || (front.balancer.in_flight(one.id()) <= 4).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    front.balancer.close_target(one.id());
    out(&one, "kill $(cat $DROVER_ROOT/run/sample.pid)").await;
    eventually("more load", async || (load.so_far().total > 300).then_some(())).await;
    let report = load.stop().await;
    println!("{report:?}");
    assert_eq!((report.failed, &report.failures), (0, &Vec::new()));
    assert!(report.by_kind.stream.total > 3 && report.by_kind.post.total > 20);
    assert!(report.by_kind.websocket.closed_by_deregistration >= 1);

    // An ill-behaved one: killed in rotation.
    let load = Load::start(LoadSpec { seed: 2, ..LoadSpec::new(&front.url) }).unwrap();
    eventually("some load", async || (load.so_far().total > 100).then_some(())).await;
    two.terminate().await;
    eventually("failures", async || (load.so_far().failed > 20).then_some(())).await;
    front.rotation.targets.lock().unwrap().clear();
    let report = load.stop().await;
    println!("{report:?}");
    assert!(report.failures.iter().any(|line| line.contains("short body")));
    assert_eq!(report.failures.len(), 20);
    assert!(report.by_kind.websocket.failed >= 4);
}

/// Runs a hook of the sample as the script on the host does: with little in its environment.
async fn hook(host: &Host, version: &str, event: &str, name: &str) -> (i32, String) {
    let script = format!(
        "r=${{DROVER_ROOT:-}}/opt/drover/sample/releases/{version}
        env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin LIFECYCLE_EVENT={event} DROVER_RELEASE=$r $r/hooks/{name} 2>&1 </dev/null"
    );
    let done = sh(host, &script).await;
    (done.code, String::from_utf8_lossy(&done.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hooks_of_the_sample_deploy_one_version_after_the_other() {
    let (dir, cloud, front) = (tempfile::tempdir().unwrap(), Cloud::start().await, front().await);
    let repository = dir.path().join("repository");
    let made = sample::create_repository(&repository).unwrap();
    let host = Arc::new(Host::launch(spec(&dir, "i-00000000000005a91", &cloud)).await.unwrap());
    println!("limits: {:?}", host.limits());
    front.rotation.targets.lock().unwrap().push(host.clone());
    for sha in [&made.v1, &made.v2] {
        let archive = std::process::Command::new("git")
            .args(["-C", repository.to_str().unwrap(), "archive", "--format=tar", sha])
            .output()
            .unwrap();
        use base64::Engine;
        let archive = base64::engine::general_purpose::STANDARD.encode(archive.stdout);
        let unpack = format!(
            "d=${{DROVER_ROOT:-}}/opt/drover/sample/releases/{sha}; mkdir -p $d; echo {archive} | base64 -d | tar -x -C $d"
        );
        out(&host, &unpack).await;
    }
    let events = [
        ("AfterBlockTraffic", "after-block-traffic"),
        ("BeforeInstall", "before-install"),
        ("AfterInstall", "after-install"),
        ("ApplicationStart", "application-start"),
        ("ValidateService", "validate-service"),
        ("BeforeAllowTraffic", "before-allow-traffic"),
    ];
    for (number, sha) in [("1", &made.v1), ("2", &made.v2)] {
        for (event, name) in events {
            let (code, said) = hook(&host, sha, event, name).await;
            assert_eq!(code, 0, "{event}: {said}");
            println!("{said}");
        }
        let (status, page) = get(&front, "/").await.unwrap();
        assert_eq!(status, 200);
        assert!(page.starts_with(&format!("version {number} ")), "{page}");
        let (code, said) = hook(&host, sha, "ApplicationStop", "application-stop").await;
        assert_eq!(code, 0, "{said}");
        println!("{said}");
    }
    host.arm_fault("ApplicationStart", 75, "the mirror is down", 1).await.unwrap();
    let failed = hook(&host, &made.v2, "ApplicationStart", "application-start").await;
    assert_eq!(failed, (75, "the mirror is down\n".into()));
}
