//! Simulated instances, their agent, the balancer, the sample and the load, against a stand-in for the agent's service.

mod agent;
mod cloud;
mod instance;
mod traffic;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use drover::sim::instance::{AgentSpec, Executed, Host, HostSpec};

use cloud::Cloud;

/// Waits until `check` gives something.
async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not seen in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn spec(dir: &tempfile::TempDir, id: &str, cloud: &Cloud) -> HostSpec {
    HostSpec {
        id: id.into(),
        data_dir: dir.path().into(),
        user_data: None,
        env: vec![("FLAVOUR".into(), "plum".into())],
        reach: Vec::new(),
        share_network: false,
        agent: AgentSpec { url: format!("http://{}", cloud.address), token: cloud::TOKEN.into() },
        time_scale: 10.0,
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_drover"))),
    }
}

async fn sh(host: &Host, script: &str) -> Executed {
    host.exec(&["/bin/sh", "-c", script]).await.expect("run a command in the instance")
}

/// What a script prints; it must succeed.
async fn out(host: &Host, script: &str) -> String {
    let done = sh(host, script).await;
    assert_eq!(done.code, 0, "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
