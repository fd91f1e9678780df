//! The control API `/_sim/…`: the world, instances, faults, logs. Its endpoints are listed in the documentation of [`super`].

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::faults::{Fault, Kind};
use super::instance::Host;
use super::state::{Effect, Lifecycle, State};
use super::wire::call::{Call, json_response};
use super::wire::json as json_wire;
use super::world::World;

/// The status and the JSON of an answer.
type Outcome = (u16, Value);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reach {
    address: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    argv: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameter {
    name: String,
    value: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lag {
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    name: Option<String>,
}

/// Makes the answer that a request is refused.
fn refused(message: impl Into<String>) -> Outcome {
    (400, json!({"error": message.into()}))
}

/// Makes the answer that there is no such thing.
fn missing(what: &str) -> Outcome {
    (404, json!({"error": format!("there is no {what}")}))
}

/// Reads a request's body.
fn read_body<T: DeserializeOwned>(call: &Call) -> Result<T, Outcome> {
    serde_json::from_slice(&call.body).map_err(|e| refused(format!("unreadable body: {e}")))
}

/// Answers a request below `/_sim`.
pub async fn answer(cloud: &Arc<Cloud>, call: &Call, rest: &[&str]) -> Response<Full<Bytes>> {
    if !call.bears(&cloud.secrets.token) {
        return json_response(401, &json!({"error": "the control API needs 'Authorization: Bearer TOKEN'"}));
    }
    let (status, body) = route(cloud, call, rest).await.unwrap_or_else(|e| e);
    json_response(status, &body)
}

/// Finds the endpoint of a request and answers it; errors are answers as well.
async fn route(cloud: &Arc<Cloud>, call: &Call, rest: &[&str]) -> Result<Outcome, Outcome> {
    let after = || call.query().get("after").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    match (&call.method, rest) {
        (&Method::GET, ["world"]) => Ok((200, cloud.with(|s| s.describe_world()))),
        (&Method::POST, ["world"]) => {
            let world: World = read_body(call)?;
            cloud.with(|s| s.create_world(world)).map(|v| (200, v)).map_err(|e| refused(e.message))
        }
        (&Method::GET, ["audit"]) => Ok((200, cloud.with(|s| s.audit.after(after())))),
        (&Method::GET, ["events"]) => Ok((200, cloud.with(|s| s.events.after(after())))),
        (&Method::GET, ["faults"]) => Ok((200, cloud.with(|s| json!({"faults": s.faults.list()})))),
        (&Method::POST, ["faults"]) => {
            let fault: Fault = read_body(call)?;
            cloud.with(|s| s.post_fault(fault)).map(|f| (200, f))
        }
        (&Method::DELETE, ["faults"]) => Ok((200, cloud.with(|s| json!({"cleared": s.faults.clear(None)})))),
        (&Method::DELETE, ["faults", id]) => match cloud.with(|s| s.faults.clear(Some(id))) {
            0 => Err(missing(&format!("fault '{id}'"))),
            n => Ok((200, json!({"cleared": n}))),
        },
        (&Method::PUT, ["objects", path @ ..]) => {
            cloud.with(|s| s.objects.put(path.join("/"), call.body.clone()));
            Ok((200, json!({})))
        }
        (&Method::POST, ["bucket-region", bucket, region]) => {
            cloud.with(|s| s.objects.put_region((*bucket).to_owned(), (*region).to_owned()));
            Ok((200, json!({})))
        }
        (&Method::POST, ["reach"]) => {
            let address = read_body::<Reach>(call)?.address;
            if !address.ip().is_loopback() {
                return Err(refused(format!("{address} is no loopback address")));
            }
            let hosts = cloud.with(|s| {
                if !s.reach.contains(&address) {
                    s.reach.push(address);
                }
                s.instances.values().filter_map(|i| i.host.clone()).collect::<Vec<_>>()
            });
            for host in hosts {
                if let Err(e) = host.add_reach(address).await {
                    return Err((500, json!({"error": format!("an instance can't reach {address}: {e}")})));
                }
            }
            Ok((200, json!({})))
        }
        (&Method::POST, ["github", "rename"]) => {
            let Rename { from, to } = read_body(call)?;
            if cloud.github.rename(&from, &to) {
                Ok((200, json!({})))
            } else {
                Err(missing(&format!("repository '{from}'")))
            }
        }
        (&Method::POST, ["github", "app"]) => {
            cloud.github.apps.register(read_body(call)?);
            Ok((200, json!({})))
        }
        (&Method::POST, ["github", "revoke"]) => {
            cloud.github.apps.revoke();
            Ok((200, json!({})))
        }
        (&Method::POST, ["github", "lag"]) => {
            cloud.github.set_lag(read_body::<Lag>(call)?.on).await;
            Ok((200, json!({})))
        }
        (&Method::POST, ["instance-policy"]) => {
            let policy = read_body(call)?;
            cloud.with(|s| s.instance_policy = policy);
            Ok((200, json!({})))
        }
        (&Method::POST, ["parameters"]) => {
            let p: Parameter = read_body(call)?;
            let kind = p.kind.unwrap_or_else(|| "SecureString".to_owned());
            cloud.with(|s| s.parameters.insert(p.name, (kind, p.value)));
            Ok((200, json!({})))
        }
        (&Method::POST, ["aws", service, action]) => {
            let params: Value = read_body(call)?;
            cloud.with(|s| s.make_operator_call(service, action, &params))
        }
        (&Method::POST, ["paper", group]) => {
            let pattern = read_body(call)?;
            cloud.with(|s| s.change_pattern(group, pattern)).map(|v| (200, v)).map_err(|e| refused(e.message))
        }
        (&Method::POST, ["instances", id, "lifecycle"]) => {
            let name = read_body::<Shown>(call)?.name;
            cloud.with(|s| s.set_shown_state(id, name))
        }
        (&Method::POST, ["instances", id, verb]) => act_on_instance(cloud, call, id, verb).await,
        _ => Err(missing(&format!("such endpoint: {} {}", call.method, call.uri.path()))),
    }
}

/// Carries out a verb on an instance.
async fn act_on_instance(cloud: &Arc<Cloud>, call: &Call, id: &str, verb: &str) -> Result<Outcome, Outcome> {
    let is_up = cloud.with(|s| s.instances.get(id).is_some_and(|i| i.is_up()));
    if !is_up {
        return Err(missing(&format!("running instance '{id}'")));
    }
    match verb {
        "terminate" => drop(cloud.with(|s| s.kill_instance(id))),
        "cut" => drop(cloud.with(|s| s.cut_network(id, None))),
        "restore" => cloud.with(|s| s.restore_network(id)),
        verb if cloud.host(id).is_none() => {
            if !cloud.with(|s| s.order_paper_agent(id, verb)) {
                return Err(refused(format!(
                    "'{id}' is a paper instance: it has no processes, and no '{verb}'"
                )));
            }
        }
        "reboot" => cloud.with(|s| {
            s.events.push(id, "instance-reboot", json!({"by": "control"}));
            s.effects.push(Effect::Reboot(id.to_owned()));
        }),
        "stop-agent" | "start-agent" | "kill-agent" => {
            let host = running_host(cloud, id)?;
            let done = match verb {
                "stop-agent" => host.stop_agent().await,
                "start-agent" => host.start_agent().await,
                _ => host.kill_agent().await,
            };
            done.map_err(|e| (500, json!({"error": format!("{verb} could not be done on {id}: {e}")})))?;
        }
        "exec" => {
            let argv = read_body::<Exec>(call)?.argv;
            let host = running_host(cloud, id)?;
            return match host.exec(&argv).await {
                Ok(done) => {
                    let (stdout, stderr) =
                        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
                    Ok((200, json!({"code": done.code, "stdout": stdout, "stderr": stderr})))
                }
                Err(e) => Err((500, json!({"error": format!("{argv:?} could not be run on {id}: {e}")}))),
            };
        }
        _ => return Err(missing(&format!("verb '{verb}' for an instance"))),
    }
    Ok((200, json!({})))
}

/// Returns the process tree of an instance that has one.
fn running_host(cloud: &Arc<Cloud>, id: &str) -> Result<Arc<Host>, Outcome> {
    cloud.host(id).ok_or_else(|| missing(&format!("running instance '{id}'")))
}

impl State {
    /// Makes an operator's call, which meets no limit and no fault and is not in the audit log.
    fn make_operator_call(
        &mut self,
        service: &str,
        action: &str,
        params: &Value,
    ) -> Result<Outcome, Outcome> {
        let answer = match service {
            "autoscaling" => self.autoscaling(action, params),
            "elasticloadbalancing" => self.elasticloadbalancing(action, params),
            _ => return Err(missing(&format!("service '{service}' for an operator's calls"))),
        };
        match answer {
            Ok(value) => Ok((200, json_wire::success(&value))),
            Err(e) => Err((400, json!({"error": {"code": e.code, "message": e.message}}))),
        }
    }

    /// Makes Auto Scaling show this name in the place of the lifecycle state's; `None` makes it show that again.
    fn set_shown_state(&mut self, id: &str, name: Option<String>) -> Result<Outcome, Outcome> {
        if name.as_deref() == Some("") {
            return Err(refused("'name' must be a lifecycle state's name, or null"));
        }
        let known = self.instances.get_mut(id).filter(|i| i.lifecycle != Lifecycle::Terminated);
        let Some(instance) = known else { return Err(missing(&format!("instance '{id}'"))) };
        instance.shown = name;
        Ok((200, json!({})))
    }

    /// Adds a fault; one that acts at once is carried out.
    pub fn post_fault(&mut self, mut fault: Fault) -> Result<Value, Outcome> {
        if !(0.0..=1.0).contains(&fault.probability) {
            return Err(refused("'probability' must be between 0 and 1"));
        }
        if fault.seconds.is_some_and(|s| !s.is_finite() || s < 0.0) {
            return Err(refused("'seconds' must not be negative"));
        }
        if fault.matches.instance.as_deref() == Some("random") {
            let fit: Vec<String> = self
                .instances
                .values()
                .filter(|i| i.lifecycle == Lifecycle::InService && i.is_up() && !i.dead)
                .map(|i| i.id.clone())
                .collect();
            if fit.is_empty() {
                return Err(refused("no instance is in service, so none can be chosen at random"));
            }
            let at = rand::Rng::random_range(&mut self.chance, 0..fit.len());
            fault.matches.instance = fit.get(at).cloned();
        }
        if fault.kind.acts_at_once() {
            self.carry_out_fault(&fault)?;
        }
        if fault.kind == Kind::StaleRead {
            self.reads.start_keeping();
        }
        let fault = self.faults.add(fault);
        Ok(json!({"id": fault.id, "instance": fault.matches.instance}))
    }

    /// Carries out a fault that acts at once.
    fn carry_out_fault(&mut self, fault: &Fault) -> Result<(), Outcome> {
        let kind = fault.kind.name();
        let Some(id) = fault.matches.instance.clone() else {
            return Err(refused(format!("'{kind}' needs match.instance: an id, or \"random\"")));
        };
        if self.instances.get(&id).is_none_or(|i| !i.is_up()) {
            return Err(refused(format!("there is no running instance '{id}'")));
        }
        let seconds = fault.seconds.unwrap_or(30.0);
        let until = self.clock.now() + self.clock.wait(seconds);
        let Some(instance) = self.instances.get_mut(&id) else { return Ok(()) };
        match fault.kind {
            Kind::AgentOffline => instance.agent.offline_until = Some(until),
            Kind::HealthFail => instance.health_fault = Some((false, until)),
            Kind::HealthSlow => instance.health_fault = Some((true, until)),
            Kind::TerminateInstance => drop(self.kill_instance(&id)),
            Kind::NetworkCut => drop(self.cut_network(&id, Some(seconds))),
            Kind::HookExit => {
                let Some(event) = fault.event.clone() else {
                    return Err(refused("'hook-exit' needs 'event', such as \"AfterInstall\""));
                };
                let exit = fault.exit.unwrap_or(1);
                let default = || format!("injected fault: {event} exits with {exit}");
                let message = fault.message.clone().unwrap_or_else(default);
                self.effects.push(Effect::ArmFault {
                    instance: id.clone(),
                    event,
                    exit,
                    message,
                    times: fault.times,
                });
            }
            _ => {}
        }
        self.events.push(&id, "fault", json!({"kind": kind, "event": fault.event, "seconds": fault.seconds}));
        Ok(())
    }
}
