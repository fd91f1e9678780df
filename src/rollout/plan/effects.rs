//! Turns states into effects: orders what the state of each instance requires and AWS doesn't show yet.

use super::{
    draft::Draft,
    effect::{DispatchKind, Effect, MOST_PER_DISPATCH, MOST_PER_STANDBY, Order, SUSPENDED},
    planner::Planner,
    service::leaves_by_standby,
};
use crate::rollout::{
    snapshot::{Health, Lifecycle},
    state::InstanceState as S,
};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// Instances that become ready within this time share one dispatch.
pub const COALESCE: SignedDuration = SignedDuration::from_millis(500);

impl Planner<'_> {
    pub(super) fn order_effects(&mut self) {
        for kind in [
            DispatchKind::Stage,
            DispatchKind::PreBlock,
            DispatchKind::Run,
            DispatchKind::PostAllow,
            DispatchKind::Restore,
        ] {
            self.order_dispatches(kind);
        }
        if self.is_launch() {
            self.launch_effects();
        } else {
            self.order_blocking();
            self.order_allowing();
        }
        self.hold_back_refused();
        self.note_standby();
    }

    /// Records which instances have reduced the desired capacity by standby: those ordered into it or seen there, until
    /// they are ordered back or seen in service.
    fn note_standby(&mut self) {
        let mut asked: BTreeMap<&str, bool> = BTreeMap::new();
        for effect in &self.plan.effects {
            let (instances, out) = match effect {
                Effect::EnterStandby { instances, .. } => (instances, true),
                Effect::ExitStandby { instances, .. } => (instances, false),
                _ => continue,
            };
            asked.extend(instances.iter().map(|id| (id.as_str(), out)));
        }
        for draft in &mut self.drafts {
            let seen = match draft.sight.lifecycle {
                Lifecycle::EnteringStandby | Lifecycle::Standby => true,
                Lifecycle::InService => false,
                _ => draft.record.left_desired_capacity,
            };
            let out = asked.get(draft.record.id.as_str()).copied().unwrap_or(seen);
            if draft.record.in_work() && out != draft.record.left_desired_capacity {
                draft.record.left_desired_capacity = out;
            }
        }
    }

    /// Orders one dispatch for all that are ready, after a short wait for others that are about to be.
    fn order_dispatches(&mut self, kind: DispatchKind) {
        let state = kind.state();
        let ready: Vec<&Draft> = self
            .drafts
            .iter()
            .filter(|draft| draft.record.state() == state && draft.record.running().is_none())
            // While nothing is seen, nobody is taken for gone; no command goes to one that was last seen leaving all the same.
            .filter(|draft| draft.sight.lifecycle != Lifecycle::Leaving)
            .collect();
        let Some(oldest) = ready.iter().map(|draft| draft.record.since).min() else { return };
        let more_to_come =
            kind == DispatchKind::Run && self.count(|record| record.state() == S::Blocking) > 0;
        if more_to_come && self.now < oldest + COALESCE {
            return self.wake(oldest + COALESCE);
        }
        let order = |draft: &&Draft| Order {
            instance: draft.record.id.clone(),
            first: draft.record.phase.resume().unwrap_or(kind.first_event()),
            good: draft.record.good.clone(),
            zone: draft.record.zone.clone(),
        };
        let (solo, together): (Vec<&Draft>, Vec<&Draft>) =
            ready.into_iter().partition(|draft| draft.record.dispatch_alone);
        // A restore sends each instance its own last good release; one dispatch has one release.
        let mut bundles: BTreeMap<Option<String>, Vec<Order>> = BTreeMap::new();
        for draft in &together {
            let release = if kind == DispatchKind::Restore { draft.record.good.clone() } else { None };
            bundles.entry(release).or_default().push(order(draft));
        }
        let mut dispatches: Vec<Vec<Order>> = solo.iter().map(|draft| vec![order(draft)]).collect();
        for orders in bundles.into_values() {
            dispatches.extend(orders.chunks(MOST_PER_DISPATCH).map(<[Order]>::to_vec));
        }
        self.plan.effects.extend(dispatches.into_iter().map(|orders| Effect::Dispatch { kind, orders }));
    }

    /// Orders standby or deregistration for those that are to be out and aren't.
    fn order_blocking(&mut self) {
        let mut standby: BTreeMap<&str, Vec<&Draft>> = BTreeMap::new();
        let mut deregister: BTreeMap<String, Vec<(String, u16)>> = BTreeMap::new();
        for draft in &self.drafts {
            let quarantine = draft.record.state() == S::Failed && draft.record.is_quarantined();
            if !(draft.record.state() == S::Blocking || quarantine) {
                continue;
            }
            if leaves_by_standby(&draft.record) && draft.sight.lifecycle == Lifecycle::InService {
                standby.entry(&draft.record.group).or_default().push(draft);
            }
            for membership in draft.record.memberships.iter().filter(|m| !m.owned) {
                if draft.sight.registered.contains(&membership.target()) {
                    let target = (draft.record.id.clone(), membership.port);
                    deregister.entry(membership.target_group.clone()).or_default().push(target);
                }
            }
        }
        let mut effects = Vec::new();
        for (name, drafts) in standby {
            let Some(group) = self.snapshot.groups.get(name) else { continue };
            let drafts = self.one_at_a_time_after_refusal("EnterStandby", name, drafts);
            // All of them in one look, with one change of MinSize before: a large batch begins to drain as one.
            let count = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
            let group_name = name.to_owned();
            let runs = |process: &&&str| !group.suspended.iter().any(|suspended| suspended == *process);
            let missing: Vec<String> =
                SUSPENDED.iter().filter(runs).map(|process| (*process).to_owned()).collect();
            match &group.hold {
                None => effects.push(Effect::Journal { group: group_name }),
                Some(hold) if !hold.tagged => effects.push(Effect::Journal { group: group_name }),
                Some(_) if !missing.is_empty() => {
                    effects.push(Effect::Suspend { group: group_name, processes: missing });
                }
                Some(_) if group.desired.saturating_sub(count) < group.min => {
                    effects
                        .push(Effect::SetMin { group: group_name, min: group.desired.saturating_sub(count) });
                }
                Some(_) => effects.extend(drafts.chunks(MOST_PER_STANDBY).map(|some| Effect::EnterStandby {
                    group: group_name.clone(),
                    instances: some.iter().map(|draft| draft.record.id.clone()).collect(),
                })),
            }
        }
        effects.extend(
            deregister
                .into_iter()
                .map(|(target_group, targets)| Effect::Deregister { target_group, targets }),
        );
        self.plan.effects.extend(effects);
    }

    /// Returns all of `whom`, or after a refusal of this call one of them in turn: standby calls are all or nothing,
    /// and one instance that can't go must not hold up the others.
    fn one_at_a_time_after_refusal<T>(&self, call: &str, group: &str, whom: Vec<T>) -> Vec<T> {
        match self.snapshot.refused.get(&format!("{call}:{group}")) {
            Some(refused) if !whom.is_empty() => {
                let at = refused.times as usize % whom.len();
                whom.into_iter().skip(at).take(1).collect()
            }
            _ => whom,
        }
    }

    /// Orders the return into service for those that are to be in and aren't: Allowing ones, and failed ones that are not
    /// quarantined. While others are about to be ready, too, they go together.
    fn order_allowing(&mut self) {
        let ready = self.drafts.iter().filter(|draft| {
            draft.record.state() == S::Allowing && draft.sight.lifecycle == Lifecycle::Standby
        });
        let oldest = ready.map(|draft| draft.record.since).min();
        let to_come = self.count(|record| record.state() == S::Deploying);
        // As long as a whole call's worth of them is still to come, the batch doesn't wait for those that are ready.
        let window = if to_come as usize > MOST_PER_STANDBY { COALESCE * 2 } else { COALESCE };
        let together = oldest.map(|oldest| oldest + window).filter(|at| to_come > 0 && self.now < *at);
        if let Some(at) = together {
            return self.wake(at);
        }
        let mut exit: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut register: BTreeMap<String, Vec<(String, u16)>> = BTreeMap::new();
        for draft in &self.drafts {
            let left_in_service = draft.record.state() == S::Failed
                && !draft.record.is_quarantined()
                && draft.record.batch.is_some();
            if !(draft.record.state() == S::Allowing || left_in_service) {
                continue;
            }
            if leaves_by_standby(&draft.record) && draft.sight.lifecycle == Lifecycle::Standby {
                exit.entry(draft.record.group.clone()).or_default().push(draft.record.id.clone());
            }
            for membership in draft.record.memberships.iter().filter(|m| !m.owned) {
                let leaving = draft.sight.health == Health::Draining;
                if !draft.sight.registered.contains(&membership.target()) && !leaving {
                    let target = (draft.record.id.clone(), membership.port);
                    register.entry(membership.target_group.clone()).or_default().push(target);
                }
            }
        }
        for (group, instances) in exit {
            let instances = self.one_at_a_time_after_refusal("ExitStandby", &group, instances);
            let chunks = instances.chunks(MOST_PER_STANDBY);
            self.plan.effects.extend(
                chunks.map(|some| Effect::ExitStandby { group: group.clone(), instances: some.to_vec() }),
            );
        }
        self.plan.effects.extend(
            register.into_iter().map(|(target_group, targets)| Effect::Register { target_group, targets }),
        );
    }

    /// Drops effects that AWS refused a moment ago until their pause has passed.
    pub(super) fn hold_back_refused(&mut self) {
        let (snapshot, now) = (self.snapshot, self.now);
        let mut later = Vec::new();
        self.plan.effects.retain(|effect| match snapshot.refused.get(&effect.key()) {
            Some(refused) if now < refused.until => {
                later.push(refused.until);
                false
            }
            _ => true,
        });
        self.held_back = !later.is_empty();
        later.into_iter().for_each(|at| self.wake(at));
    }
}
