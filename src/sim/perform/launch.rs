//! Launches the process tree of an instance.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::cloud::Cloud;
use crate::sim::instance::{AgentSpec, Host, HostSpec};

/// Launches an instance's process tree and waits until its user-data has run.
pub(super) async fn launch_host(cloud: Arc<Cloud>, id: String) {
    let Ok(permit) = cloud.launches.acquire().await else { return };
    let Some(spec) = describe_host(&cloud, &id) else { return };
    let launched = Host::launch(spec).await;
    drop(permit);
    match launched {
        Ok(host) => {
            let host = Arc::new(host);
            cloud.with(|s| s.record_launch(&id, Arc::clone(&host)));
            // The handle stays; the flag tells who watches the world that user-data has run.
            while !cloud.stop.is_cancelled() && cloud.host(&id).is_some() {
                if host.booted().await {
                    cloud.with(|s| s.record_boot(&id));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Err(e) => {
            tracing::error!(instance = id, "the instance could not be launched: {e:#}");
            cloud.with(|s| s.record_launch_failure(&id, &format!("{e:#}")));
        }
    }
}

/// Describes the process tree that an instance of its group gets.
fn describe_host(cloud: &Arc<Cloud>, id: &str) -> Option<HostSpec> {
    cloud.with(|s| {
        let group = s.groups.get(&s.instances.get(id)?.group)?;
        let mut env = group.env.clone();
        env.push(("AWS_SSM_INSTANCE_ID".to_owned(), id.to_owned()));
        let mut reach = s.reach.clone();
        reach.push(cloud.address);
        Some(HostSpec {
            id: id.to_owned(),
            data_dir: cloud.data.join("instances"),
            user_data: group.user_data.clone(),
            env,
            reach,
            share_network: s.share_network,
            agent: AgentSpec { url: cloud.url(), token: cloud.secrets.agent.clone() },
            time_scale: s.clock.scale(),
            program: None,
        })
    })
}
