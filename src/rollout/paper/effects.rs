//! What each effect does to a fleet on paper.

use super::{behaviour::Behaviour, fleet::PaperFleet};
use crate::rollout::{
    plan::{DispatchKind, Effect, Order},
    snapshot::{Attempt, Health, Hold, Lifecycle, Outcome},
    state::Stop,
};

impl PaperFleet {
    /// Records in a group's journal what the engine records before the call itself, which may be refused or never made.
    pub fn begin(&mut self, effect: &Effect) {
        let deployment = self.snapshot.deployment.id;
        let (Effect::Journal { group }
        | Effect::Suspend { group, .. }
        | Effect::SetMin { group, .. }
        | Effect::SetDesired { group, .. }) = effect
        else {
            return;
        };
        let Some(group) = self.snapshot.groups.get_mut(group) else { return };
        let (min, fresh) = (group.min, Hold { deployment, former_min: group.min, ..Hold::default() });
        match (effect, &mut group.hold) {
            (Effect::Journal { .. }, hold) => drop(hold.get_or_insert(fresh)),
            (Effect::Suspend { processes, .. }, Some(hold)) => hold.note_suspended(processes),
            (Effect::SetDesired { desired, .. }, Some(hold)) => hold.note_return(*desired),
            (Effect::SetMin { min: wanted, .. }, Some(hold)) => hold.note_min(min, *wanted),
            _ => {}
        }
    }

    /// Performs an effect.
    pub fn act(&mut self, effect: &Effect, behaviour: &mut dyn Behaviour) {
        behaviour.before_effect(effect, &self.snapshot);
        self.begin(effect);
        let now = self.now;
        match effect {
            Effect::Dispatch { kind, orders } => self.dispatch(*kind, orders, behaviour),
            Effect::Stop { instance, attempt, now: at_once } => {
                if let Some(member) = self.find(instance) {
                    member.record.note_stop(*attempt, Stop { at_once: *at_once, sent: now });
                }
                self.results.retain(|(_, _, number, _)| number != attempt);
                let end = now + self.pace.hooks;
                self.results.push((end, instance.clone(), *attempt, Outcome::Stopped(None)));
            }
            Effect::Journal { group } => {
                let hold = self.snapshot.groups.get_mut(group).and_then(|group| group.hold.as_mut());
                if let Some(hold) = hold {
                    hold.tagged = true;
                }
            }
            Effect::Suspend { group, processes } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.suspended.extend(processes.clone());
                }
            }
            Effect::SetMin { group, min } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.min = *min;
                    group.desired = group.desired.max(*min);
                    if let Some(hold) = &mut group.hold {
                        hold.min_restored = *min == hold.former_min;
                    }
                }
            }
            Effect::SetDesired { group, desired, returns } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.desired = *desired;
                    if let Some(hold) = &mut group.hold {
                        hold.note_returned(*returns);
                    }
                }
            }
            Effect::Resume { group, processes } => {
                let Some(group) = self.snapshot.groups.get_mut(group) else { return };
                group.suspended.retain(|process| !processes.contains(process));
                if let Some(hold) = &mut group.hold {
                    hold.resumed = true;
                }
            }
            Effect::Release { group } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.hold = None;
                }
            }
            Effect::EnterStandby { group, instances } => self.enter_standby(group, instances),
            Effect::ExitStandby { group, instances } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.desired += u32::try_from(instances.len()).unwrap_or(0);
                }
                instances.iter().for_each(|id| self.enter_service(id));
            }
            Effect::Deregister { target_group, targets } => {
                for (id, port) in targets {
                    let Some(member) = self.find(id) else { continue };
                    let target = (target_group.clone(), *port);
                    member.sight.registered.retain(|there| *there != target);
                    member.sight.health = Health::Draining;
                    let lifecycle = member.sight.lifecycle.clone();
                    self.coming.push((now + self.pace.drain, id.clone(), lifecycle, Health::Out));
                }
            }
            Effect::Register { target_group, targets } => {
                for (id, port) in targets {
                    let Some(member) = self.find(id) else { continue };
                    member.sight.registered.push((target_group.clone(), *port));
                    self.enter_service(id);
                }
            }
            Effect::CompleteLaunch { instance, proceed: true, .. } => self.enter_service(instance),
            Effect::CompleteLaunch { instance, .. } => {
                if let Some(member) = self.find(instance) {
                    member.sight.lifecycle = Lifecycle::Leaving;
                }
            }
            Effect::Terminate { instance, .. } => {
                if let Some(member) = self.find(instance) {
                    member.sight.lifecycle = Lifecycle::Leaving;
                }
            }
            Effect::Heartbeat { .. } | Effect::PutHook { .. } | Effect::DeleteHook { .. } => {}
        }
        self.note_service();
    }

    fn dispatch(&mut self, kind: DispatchKind, orders: &[Order], behaviour: &mut dyn Behaviour) {
        self.dispatches.push((kind, orders.len()));
        for order in orders {
            let number = self.next_attempt;
            self.next_attempt += 1;
            let end = self.now + self.duration_of(kind);
            self.results.push((end, order.instance.clone(), number, behaviour.outcome(kind, order)));
            let created_at = self.now;
            let Some(member) = self.find(&order.instance) else { continue };
            member.record.begin_attempt(number, None);
            member.record.attempts += u32::from(kind != DispatchKind::Stage);
            member.record.touched |= matches!(kind, DispatchKind::Run | DispatchKind::Restore);
            member.attempt = Some(Attempt { number, created_at, outcome: None });
        }
    }

    fn enter_standby(&mut self, group: &str, instances: &[String]) {
        if let Some(group) = self.snapshot.groups.get_mut(group) {
            group.desired = group.desired.saturating_sub(u32::try_from(instances.len()).unwrap_or(0));
        }
        let drained = self.now + self.pace.drain;
        for id in instances {
            let Some(member) = self.find(id) else { continue };
            (member.sight.lifecycle, member.sight.health) = (Lifecycle::EnteringStandby, Health::Draining);
            self.coming.push((drained, id.clone(), Lifecycle::Standby, Health::Out));
        }
    }

    fn enter_service(&mut self, id: &str) {
        let healthy = self.now + self.pace.health;
        let Some(member) = self.find(id) else { return };
        (member.sight.lifecycle, member.sight.health) =
            (Lifecycle::InService, Health::Initial("Elb.InitialHealthChecking".into()));
        self.coming.push((healthy, id.to_owned(), Lifecycle::InService, Health::Healthy));
    }
}
