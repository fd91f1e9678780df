//! The one door through which every effect on the world passes: written down first, then done, then written down how
//! it went.

use crate::{
    engine::{Engine, crash, marks::MOST_STANDBY, marks::RESTORE_TAG, record::json},
    fleet::{FleetError, Kind},
    rollout::{
        plan::{Effect, SUSPENDED},
        snapshot::{Hold, Lifecycle, Snapshot},
        state::InstanceState,
    },
};
use jiff::Timestamp;
use std::{collections::HashSet, sync::PoisonError};
use tracing::{info, warn};

/// Intents and notes of effects that belong to no deployment are kept under this number.
pub(super) const NO_DEPLOYMENT: i64 = 0;

/// The action's name as AWS writes it, and its request, for the intent.
pub(super) struct Intent {
    pub(super) action: &'static str,
    pub(super) request: serde_json::Value,
}

impl Engine {
    /// Performs an effect that belongs to no deployment; the inner error is AWS's.
    pub(super) async fn act_alone(&self, effect: &Effect) -> anyhow::Result<Result<(), FleetError>> {
        self.change_group(NO_DEPLOYMENT, None, effect).await
    }

    /// Performs an effect on an Auto Scaling group or on target groups: all but commands.
    pub(super) async fn change_group(
        &self,
        deployment: i64,
        snapshot: Option<&Snapshot>,
        effect: &Effect,
    ) -> anyhow::Result<Result<(), FleetError>> {
        let hold = |group: &String| snapshot?.groups.get(group)?.hold.clone();
        // What the journal must say before the world changes.
        match effect {
            Effect::Journal { group } => {
                if let Some(snapshot) = snapshot {
                    self.begin_hold(deployment, snapshot, group).await?;
                }
            }
            Effect::Suspend { group, processes } => {
                if let Some(mut hold) = hold(group) {
                    hold.note_suspended(processes);
                    self.put_hold(group, Some(&hold)).await?;
                }
            }
            Effect::SetDesired { group, desired, .. } => {
                if let Some(mut hold) = hold(group) {
                    hold.note_return(*desired);
                    self.put_hold(group, Some(&hold)).await?;
                }
            }
            Effect::SetMin { group, min } => {
                let seen =
                    snapshot.and_then(|snapshot| snapshot.groups.get(group)).map_or(*min, |seen| seen.min);
                if let Some(mut hold) = hold(group) {
                    hold.note_min(seen, *min);
                    self.put_hold(group, Some(&hold)).await?;
                }
            }
            _ => {}
        }
        let tag = match effect {
            Effect::Journal { group } => self.store.hold(group).await?.unwrap_or_default(),
            _ => String::new(),
        };
        let intent = intent(effect, &tag);
        let now = Timestamp::now().as_millisecond();
        let id = self
            .store
            .record_intent(deployment, intent.action, &effect.key(), &intent.request.to_string(), now)
            .await?;
        crash::point(id, crash::When::Before);
        let done = match effect {
            Effect::Journal { group } => self.fleet.tag(group, RESTORE_TAG, &tag).await,
            Effect::Suspend { group, processes } => self.fleet.suspend(group, processes).await,
            Effect::SetMin { group, min } => self.fleet.set_min(group, *min).await,
            Effect::SetDesired { group, desired, .. } => self.fleet.set_desired(group, *desired).await,
            Effect::Resume { group, processes } => self.fleet.resume(group, processes).await,
            Effect::Release { group } => self.fleet.untag(group, RESTORE_TAG).await,
            Effect::EnterStandby { group, instances } => self.fleet.enter_standby(group, instances).await,
            Effect::ExitStandby { group, instances } => self.fleet.exit_standby(group, instances).await,
            Effect::Deregister { target_group, targets } => {
                self.fleet.deregister(target_group, targets).await
            }
            Effect::Register { target_group, targets } => self.fleet.register(target_group, targets).await,
            Effect::CompleteLaunch { group, instance, hook, proceed } => {
                self.fleet.complete_launch(group, instance, hook, *proceed).await
            }
            Effect::Heartbeat { group, instance, hook } => self.fleet.heartbeat(group, instance, hook).await,
            Effect::Terminate { instance, .. } => self.fleet.terminate(instance).await,
            Effect::PutHook { group, hook } => self.fleet.put_launch_hook(group, hook).await,
            Effect::DeleteHook { group, hook } => self.fleet.delete_launch_hook(group, hook).await,
            Effect::Dispatch { .. } | Effect::Stop { .. } => Ok(()),
        };
        let done = crash::answered(id, intent.action, done);
        self.close_intent(deployment, id, effect, &done).await?;
        crash::point(id, crash::When::Lost);
        if done.is_ok() {
            match effect {
                Effect::Journal { group } => {
                    let text = self.store.hold(group).await?.unwrap_or_default();
                    if let Ok(hold) = serde_json::from_str::<Hold>(&text) {
                        self.put_hold(group, Some(&Hold { tagged: true, ..hold })).await?;
                    }
                }
                Effect::Resume { group, .. } => self.note_put_back(group, |hold| hold.resumed = true).await?,
                Effect::SetDesired { group, returns, desired } => {
                    let returns = *returns;
                    self.note_put_back(group, |hold| hold.note_returned(returns)).await?;
                    let text = format!(
                        "the desired capacity of {group} is {desired} again: Auto Scaling launches others in place of what was \
                         quarantined or left"
                    );
                    self.logs.note(deployment, None, &text).await?;
                }
                Effect::SetMin { group, min } => {
                    let min = *min;
                    let restored = |hold: &mut Hold| hold.min_restored = min == hold.former_min;
                    self.note_put_back(group, restored).await?;
                    let seen = snapshot.and_then(|snapshot| snapshot.groups.get(group));
                    if let Some(seen) = seen.filter(|seen| seen.desired < min) {
                        let text = format!(
                            "MinSize of {group} is {min} again, and its desired capacity was {}: Auto Scaling launches {} in place of \
                             what was quarantined or left",
                            seen.desired,
                            min - seen.desired
                        );
                        self.logs.note(deployment, None, &text).await?;
                    }
                }
                Effect::Release { group } => {
                    let now = Timestamp::now();
                    self.released.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone(), now);
                    self.put_hold(group, None).await?;
                }
                _ => {}
            }
        }
        Ok(done)
    }

    /// Writes down how it went, for the next daemon and for people.
    pub(super) async fn close_intent(
        &self,
        deployment: i64,
        intent: i64,
        effect: &Effect,
        done: &Result<(), FleetError>,
    ) -> anyhow::Result<()> {
        let error = done.as_ref().err().map(ToString::to_string);
        self.store.finish_intent(intent, error.as_deref(), Timestamp::now().as_millisecond()).await?;
        let instances = instances(effect).join(",");
        let instances = (!instances.is_empty()).then_some(instances);
        match done {
            Ok(()) => info!(instances, "{}", effect.key()),
            Err(error) => {
                warn!(instances, request_id = error.request_id, "{error}");
                if error.kind == Kind::Refused && deployment != NO_DEPLOYMENT {
                    self.logs.note(deployment, None, &error.to_string()).await?;
                }
            }
        }
        Ok(())
    }

    async fn begin_hold(&self, deployment: i64, snapshot: &Snapshot, group: &str) -> anyhow::Result<()> {
        let Some(seen) = snapshot.groups.get(group) else { return Ok(()) };
        if seen.hold.is_some() {
            return Ok(());
        }
        // The tag is to say all that we are about to change: it is what is left when the store is lost.
        let suspended = SUSPENDED.iter().filter(|process| !seen.suspended.iter().any(|s| s == *process));
        let suspended = suspended.map(|process| (*process).to_owned()).collect();
        let in_standby = snapshot.members.iter().filter(|member| {
            member.record.group == group
                && member.record.state() == InstanceState::Skipped
                && member.sight.lifecycle == Lifecycle::Standby
        });
        // Quarantined ones are ours; they are named, too, as far as there is room, to stay out when the store is lost.
        let kept: HashSet<String> =
            self.store.quarantines().await?.into_iter().map(|row| row.instance).collect();
        let (mut theirs, ours): (Vec<String>, Vec<String>) =
            in_standby.map(|member| member.record.id.clone()).partition(|id| !kept.contains(id));
        theirs.extend(ours);
        theirs.truncate(MOST_STANDBY);
        let hold = Hold { deployment, former_min: seen.min, suspended, theirs, ..Hold::default() };
        self.put_hold(group, Some(&hold)).await
    }

    /// AWS has answered that something is put back.
    async fn note_put_back(&self, group: &str, note: impl FnOnce(&mut Hold)) -> anyhow::Result<()> {
        let Some(text) = self.store.hold(group).await? else { return Ok(()) };
        let mut hold: Hold = serde_json::from_str(&text)?;
        note(&mut hold);
        self.put_hold(group, Some(&hold)).await
    }

    async fn put_hold(&self, group: &str, hold: Option<&Hold>) -> anyhow::Result<()> {
        let mut tx = self.store.write().await?;
        tx.put_hold(group, hold.map(json).as_deref()).await?;
        Ok(tx.commit().await?)
    }
}

/// Whom an effect is about, for the log.
fn instances(effect: &Effect) -> Vec<&str> {
    match effect {
        Effect::EnterStandby { instances, .. } | Effect::ExitStandby { instances, .. } => {
            instances.iter().map(String::as_str).collect()
        }
        Effect::Deregister { targets, .. } | Effect::Register { targets, .. } => {
            targets.iter().map(|(instance, _)| instance.as_str()).collect()
        }
        Effect::Dispatch { orders, .. } => orders.iter().map(|order| order.instance.as_str()).collect(),
        Effect::Stop { instance, .. }
        | Effect::Terminate { instance, .. }
        | Effect::CompleteLaunch { instance, .. }
        | Effect::Heartbeat { instance, .. } => vec![instance],
        Effect::Journal { .. }
        | Effect::Suspend { .. }
        | Effect::SetMin { .. }
        | Effect::SetDesired { .. }
        | Effect::Resume { .. }
        | Effect::PutHook { .. }
        | Effect::DeleteHook { .. }
        | Effect::Release { .. } => Vec::new(),
    }
}

fn intent(effect: &Effect, tag: &str) -> Intent {
    let of_group = |action, group: &str, key: &str, value: serde_json::Value| Intent {
        action,
        request: serde_json::json!({ "AutoScalingGroupName": group, key: value }),
    };
    let of_targets = |action, arn: &str, targets: &[(String, u16)]| Intent {
        action,
        request: serde_json::json!({ "TargetGroupArn": arn, "Targets": targets }),
    };
    match effect {
        Effect::Journal { group } => of_group("CreateOrUpdateTags", group, RESTORE_TAG, tag.into()),
        Effect::Release { group } => of_group("DeleteTags", group, "Key", RESTORE_TAG.into()),
        Effect::Suspend { group, processes } => {
            of_group("SuspendProcesses", group, "ScalingProcesses", processes.clone().into())
        }
        Effect::Resume { group, processes } => {
            of_group("ResumeProcesses", group, "ScalingProcesses", processes.clone().into())
        }
        Effect::SetMin { group, min } => of_group("UpdateAutoScalingGroup", group, "MinSize", (*min).into()),
        Effect::SetDesired { group, desired, .. } => {
            of_group("UpdateAutoScalingGroup", group, "DesiredCapacity", (*desired).into())
        }
        Effect::EnterStandby { group, instances } => {
            of_group("EnterStandby", group, "InstanceIds", instances.clone().into())
        }
        Effect::ExitStandby { group, instances } => {
            of_group("ExitStandby", group, "InstanceIds", instances.clone().into())
        }
        Effect::Deregister { target_group, targets } => {
            of_targets("DeregisterTargets", target_group, targets)
        }
        Effect::Register { target_group, targets } => of_targets("RegisterTargets", target_group, targets),
        Effect::Terminate { group, instance } => of_group(
            "TerminateInstanceInAutoScalingGroup",
            group,
            "InstanceIds",
            vec![instance.clone()].into(),
        ),
        Effect::PutHook { group, hook } => {
            of_group("PutLifecycleHook", group, "LifecycleHookName", hook.clone().into())
        }
        Effect::DeleteHook { group, hook } => {
            of_group("DeleteLifecycleHook", group, "LifecycleHookName", hook.clone().into())
        }
        Effect::CompleteLaunch { group, instance, proceed, .. } => Intent {
            action: "CompleteLifecycleAction",
            request: serde_json::json!({
                "AutoScalingGroupName": group,
                "InstanceIds": [instance],
                "LifecycleActionResult": if *proceed { "CONTINUE" } else { "ABANDON" },
            }),
        },
        Effect::Heartbeat { group, instance, .. } => {
            of_group("RecordLifecycleActionHeartbeat", group, "InstanceIds", vec![instance.clone()].into())
        }
        Effect::Dispatch { orders, .. } => Intent {
            action: "SendCommand",
            request: serde_json::json!({ "InstanceIds": orders.iter().map(|order| &order.instance).collect::<Vec<_>>() }),
        },
        Effect::Stop { instance, attempt, .. } => Intent {
            action: "SendCommand",
            request: serde_json::json!({ "InstanceIds": [instance], "Stops": attempt }),
        },
    }
}

pub(super) fn send_intent(effect: &Effect, comment: &str) -> Intent {
    let mut intent = intent(effect, "");
    intent.request["Comment"] = comment.into();
    intent
}
