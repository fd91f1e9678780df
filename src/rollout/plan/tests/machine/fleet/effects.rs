//! What AWS and the hosts make of the plan's effects: done, refused, or failed.

use super::*;

impl Fleet {
    pub(super) fn begin(&mut self, effect: &Effect) {
        if let Effect::SetMin { min, .. } = effect {
            self.ours.insert(*min);
        }
        self.toy.begin(effect);
    }

    pub(super) fn act(&mut self, effect: Effect) {
        let key = effect.key();
        let call = key.split(':').next().unwrap_or_default();
        let denied = self.denied.get(call).is_some_and(|until| self.toy.now < *until);
        let refusal = match denied {
            true => Some(Refusal { pause: 20, for_an_id: false }),
            false if !self.can(&effect) => Some(Refusal { pause: 5, for_an_id: true }),
            false => self.refusals.remove(call),
        };
        match (effect, refusal) {
            (Effect::Dispatch { kind, orders }, refusal) => {
                match refusal.filter(|refusal| !refusal.for_an_id) {
                    Some(refusal) => self.refuse(key, refusal),
                    None => drop(self.toy.snapshot.refused.remove(&key)),
                }
                self.dispatch(kind, orders, refusal);
            }
            (effect, Some(refusal)) => {
                self.begin(&effect);
                self.refuse(key, refusal);
            }
            (effect, None) => {
                self.toy.snapshot.refused.remove(&key);
                match &effect {
                    Effect::SetMin { min, .. } => {
                        self.ours.insert(*min);
                    }
                    Effect::EnterStandby { instances, .. } => instances.iter().for_each(|id| self.forget(id)),
                    Effect::ExitStandby { instances, .. } => {
                        let unproven = instances.iter().find(|id| self.unproven.contains(*id));
                        assert_eq!(unproven, None, "a broken one is put back into service");
                    }
                    _ => {}
                }
                let before = self.group().desired;
                self.toy.act(&effect);
                let after = self.group().desired;
                self.owed =
                    (self.owed + before.saturating_sub(after)).saturating_sub(after.saturating_sub(before));
            }
        }
    }

    /// Whether AWS could do that: what was planned from an old look may be over.
    fn can(&self, effect: &Effect) -> bool {
        let Snapshot { members, groups, .. } = &self.toy.snapshot;
        let are = |ids: &[String], lifecycle: &Lifecycle| {
            let is =
                |id: &String| members.iter().any(|m| m.record.id == *id && m.sight.lifecycle == *lifecycle);
            ids.iter().all(is)
        };
        match effect {
            Effect::EnterStandby { group, instances } => {
                let (group, out) = (&groups[group], u32::try_from(instances.len()).unwrap());
                are(instances, &Lifecycle::InService) && group.desired >= group.min + out
            }
            Effect::ExitStandby { instances, .. } => are(instances, &Lifecycle::Standby),
            _ => true,
        }
    }

    /// As the engine's `remember` does.
    fn refuse(&mut self, key: String, refusal: Refusal) {
        let now = self.toy.now;
        let (until, message) = (now + SignedDuration::from_secs(refusal.pause), format!("{key} was refused"));
        let refused = &mut self.toy.snapshot.refused;
        refused.retain(|_, refused| refused.is_current(now));
        let since = refused.get(&key).map_or(now, |before| before.since);
        let times = refused.get(&key).map_or(0, |before| before.times) + 1;
        let of_the_account = !refusal.for_an_id;
        refused.insert(key, Refused { times, until, since, of_the_account, message });
    }

    /// As the engine's `dispatch` does: the attempts are written down even where the call is then refused.
    fn dispatch(&mut self, kind: DispatchKind, orders: Vec<Order>, refusal: Option<Refusal>) {
        let together = orders.len();
        self.toy.act(&Effect::Dispatch { kind, orders: orders.clone() });
        for order in &orders {
            let outcome = match refusal {
                Some(Refusal { for_an_id: false, .. }) => Some(Outcome::NotSent { alone: false }),
                Some(_) if together > 1 => Some(Outcome::NotSent { alone: true }),
                Some(_) => {
                    let cause = Cause::Undelivered("InvalidInstanceId".into());
                    Some(Outcome::Failed(Fault { event: order.first, hook: None, cause, tail: Vec::new() }))
                }
                None => self.failure(kind, order),
            };
            let newest = self.toy.results.iter_mut().rev().find(|(_, id, ..)| *id == order.instance);
            if let (Some(result), Some(outcome)) = (newest, outcome) {
                result.3 = outcome;
            }
        }
    }

    /// The dispatch reached the instance; how it is to fail there, if it is.
    fn failure(&mut self, kind: DispatchKind, order: &Order) -> Option<Outcome> {
        let id = &order.instance;
        if kind == DispatchKind::Run {
            *self.sent.entry(id.clone()).or_default() += 1;
        }
        let runs = matches!(kind, DispatchKind::Run | DispatchKind::Restore);
        if runs {
            self.unproven.insert(id.clone());
        }
        let armed = self.armed.get_mut(&(id.clone(), kind)).filter(|armed| armed.times > 0)?;
        armed.times -= 1;
        let event = if runs { LifecycleEvent::ApplicationStart } else { kind.first_event() };
        let cause = match kind {
            DispatchKind::Stage => Cause::Download,
            _ => Cause::Exit(armed.code),
        };
        let tail = vec![armed.line.to_owned()];
        Some(Outcome::Failed(Fault { event, hook: Some("hooks/one".into()), cause, tail }))
    }
}
