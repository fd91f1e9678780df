//! Makes the load balancer's health checks.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sim::cloud::Cloud;
use crate::sim::elb::{Found, Probe};
use crate::sim::instance::Host;

/// Checks a target's health, unless a fault says what the check finds.
pub(super) async fn check_target(cloud: &Cloud, probe: &Probe) -> Found {
    let (host, fault) = {
        let state = cloud.lock();
        let instance = state.instances.get(&probe.instance);
        (instance.and_then(|i| i.host.clone()), instance.and_then(|i| i.health_fault))
    };
    match fault {
        Some((true, _)) => {
            tokio::time::sleep(probe.timeout).await;
            return Found::Nothing;
        }
        Some((false, _)) => return Found::Status(503),
        None => {}
    }
    let Some(host) = host else { return Found::Broken };
    match tokio::time::timeout(probe.timeout, get_status(&host, probe)).await {
        Ok(Ok(status)) => Found::Status(status),
        Ok(Err(_)) => Found::Broken,
        Err(_) => Found::Nothing,
    }
}

/// Makes a GET of the probe's path and returns the status; the rest of the answer is not read.
async fn get_status(host: &Host, probe: &Probe) -> std::io::Result<u16> {
    let mut stream = host.connect(probe.port).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n",
        probe.path, probe.instance, probe.port
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') {
        if head.len() > 1024 || stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|l| l.get(2..5)).and_then(|s| s.parse().ok());
    status.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
