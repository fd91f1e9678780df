//! Carries out the effects that the state orders: starts and kills process trees, makes health checks, serves the balancers.

mod check;
mod launch;

use std::sync::{Arc, PoisonError};

use super::balancer::Balancer;
use super::balancing::Pool;
use super::cloud::Cloud;
use super::paper::run_command;
use super::state::Effect;

/// Carries out an effect; what takes time becomes a task.
pub(super) fn perform(cloud: &Arc<Cloud>, effect: Effect) {
    let cloud = Arc::clone(cloud);
    match effect {
        Effect::WakeAgents => cloud.agents.notify_waiters(),
        Effect::Launch(id) if cloud.with(|s| s.launch_paper(&id)) => {}
        Effect::RunOnPaper { instance, command, cancelled } => {
            drop(tokio::spawn(run_command(cloud, instance, command, cancelled)));
        }
        Effect::Launch(id) => {
            let launching = launch::launch_host(Arc::clone(&cloud), id);
            drop(cloud.tasks.spawn(launching));
        }
        Effect::Listen { target_group, listener } => serve_balancer(&cloud, target_group, listener),
        Effect::CloseTarget { target_group, instance } => {
            let balancers = cloud.balancers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, balancer)) = balancers.iter().find(|(arn, _)| *arn == target_group) {
                balancer.close_target(&instance);
            }
        }
        Effect::HealthCheck(probe) => drop(tokio::spawn(async move {
            let found = check::check_target(&cloud, &probe).await;
            cloud.with(|s| s.record_check(&probe, &found));
        })),
        other => drop(tokio::spawn(act_on_host(cloud, other))),
    }
}

/// Serves a target group's listener until the cloud shuts down.
fn serve_balancer(cloud: &Arc<Cloud>, target_group: String, listener: std::net::TcpListener) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            let balancer = Balancer::new(Arc::new(Pool::new(cloud, &target_group)));
            drop(tokio::spawn(Arc::clone(&balancer).serve(listener, cloud.stop.clone())));
            let mut balancers = cloud.balancers.lock().unwrap_or_else(PoisonError::into_inner);
            balancers.push((target_group, balancer));
        }
        Err(e) => tracing::error!(target_group, "the balancer can't listen: {e}"),
    }
}

/// Carries out an effect on an instance's process tree, or on the paper instance in its place.
async fn act_on_host(cloud: Arc<Cloud>, effect: Effect) {
    let id = match &effect {
        Effect::Terminate(id) | Effect::Reboot(id) | Effect::Cut(id) | Effect::Restore(id) => id.clone(),
        Effect::ArmFault { instance, .. } => instance.clone(),
        _ => return,
    };
    let Some(host) = cloud.host(&id) else { return cloud.with(|s| s.carry_out_on_paper(&effect)) };
    match effect {
        Effect::Terminate(_) => {
            host.terminate().await;
            cloud.with(|s| s.record_host_gone(&id));
        }
        Effect::Reboot(_) => {
            if let Err(e) = host.reboot().await {
                tracing::error!(instance = id, "the instance could not be rebooted: {e:#}");
            }
        }
        Effect::Cut(_) => host.cut_network().await,
        Effect::Restore(_) => host.restore_network().await,
        Effect::ArmFault { event, exit, message, times, .. } => {
            if let Err(e) = host.arm_fault(&event, exit, &message, times).await {
                tracing::error!(instance = id, "the fault could not be armed: {e}");
            }
        }
        _ => {}
    }
}
