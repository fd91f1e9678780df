//! The queue: what is submitted waits its turn; one deployment at a time per Auto Scaling group and target group. A locked
//! group's deployments wait for the lock to go. An instance that launches waits for nobody.

use crate::{
    engine::{Engine, deployment::Deployment, intake::lock::lock_words, record, run},
    logs::{lines_of, note_chunk},
    rollout::plan::Explain,
    store::{DeploymentRow, LockRow, StoreError},
};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
};
use tokio::sync::Notify;
use tracing::{Instrument as _, error, info, info_span};

/// What a queued deployment waits for.
enum Blocker {
    Deployment(i64),
    Lock(LockRow),
}

impl Blocker {
    fn words(&self) -> String {
        match self {
            Blocker::Deployment(id) => format!("queued behind deployment {id}, which has the same instances"),
            Blocker::Lock(lock) => {
                format!("queued: {}", lock_words(lock, Timestamp::now()))
            }
        }
    }
}

impl Engine {
    pub(super) async fn look_at_queue(self: &Arc<Self>) -> Result<(), StoreError> {
        let unfinished = self.store.unfinished().await?;
        let now = Timestamp::now().as_millisecond();
        let locks = self.store.locks(now).await?;
        let mut taken: HashMap<String, i64> = HashMap::new();
        for row in &unfinished {
            let mine = self.mutexes(row);
            let other = mine.iter().find_map(|name| taken.get(name)).copied();
            // A way back is never locked, nor is a launch: both bring what is known to be good.
            let lockable = row.state == "Queued" && row.rolls_back.is_none() && row.launch == 0;
            let lock = locks.iter().find(|lock| lockable && lock.group_name == row.group_name);
            let blocker = other.map(Blocker::Deployment).or_else(|| lock.cloned().map(Blocker::Lock));
            if !matches!(blocker, Some(Blocker::Lock(_))) {
                for name in mine {
                    taken.entry(name).or_insert(row.id);
                }
            }
            match blocker {
                None => self.spawn(row),
                // Under way already, when they came to share something: neither can be made to wait.
                Some(_) if row.state != "Queued" => self.spawn(row),
                Some(blocker) => self.keep_waiting(row, &blocker).await?,
            }
        }
        Ok(())
    }

    /// What a deployment that is submitted now would wait for, in words.
    pub(super) async fn waits_for(&self, row: &DeploymentRow) -> Result<Vec<String>, StoreError> {
        let now = Timestamp::now();
        let locks = self.store.locks(now.as_millisecond()).await?;
        let locks = locks.iter().filter(|lock| lock.group_name == row.group_name);
        let mut words: Vec<String> = locks.map(|lock| lock_words(lock, now)).collect();
        let mine = self.mutexes(row);
        let unfinished = self.store.unfinished().await?;
        let before = unfinished.iter().filter(|other| !mine.is_disjoint(&self.mutexes(other)));
        words.extend(before.map(|other| {
            format!("deployment {} of {} comes first: {}", other.id, other.group_name, other.state)
        }));
        Ok(words)
    }

    /// What a deployment holds for itself: its Auto Scaling groups and target groups, or the one instance that launches.
    fn mutexes(&self, row: &DeploymentRow) -> HashSet<String> {
        if row.launch != 0 {
            return row.only_instance.iter().map(|id| format!("{} {id}", row.group_name)).collect();
        }
        let mut names = HashSet::from([format!("group {}", row.group_name)]);
        // By what it was planned with, where it is: the configuration may have changed since.
        if let Ok(group) = self.planned(row) {
            names.extend(group.auto_scaling_groups.iter().map(|name| format!("asg {name}")));
            let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
            let attached = group.auto_scaling_groups.iter().filter_map(|name| attached.get(name)).flatten();
            names.extend(attached.map(|arn| format!("target group {arn}")));
            names.extend(group.target_groups.iter().map(|arn| format!("target group {arn}")));
        }
        names
    }

    /// A deployment that left the queue before it was known which target groups are attached to its Auto Scaling groups may
    /// have to go back: another has the same ones. True if it did.
    pub(super) async fn requeue_if_blocked(&self, row: &DeploymentRow) -> anyhow::Result<bool> {
        if let Some((_, group)) = self.config.group(&row.group_name) {
            let known =
                |name| self.attached.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
            if !group.auto_scaling_groups.iter().all(known) {
                self.remember_attached(&self.fleet.groups(&group.auto_scaling_groups).await?);
            }
        }
        let mine = self.mutexes(row);
        let unfinished = self.store.unfinished().await?;
        let blocked = unfinished.iter().any(|other| {
            let goes_first = match other.state.as_str() {
                "Queued" => false,
                "Preparing" => other.id < row.id,
                _ => true,
            };
            other.id != row.id && goes_first && !mine.is_disjoint(&self.mutexes(other))
        });
        if blocked {
            let mut tx = self.store.write().await?;
            tx.set_state(row.id, "Queued", None, Timestamp::now().as_millisecond(), false).await?;
            tx.commit().await?;
            self.logs.announce(row.id);
        }
        Ok(blocked)
    }

    async fn keep_waiting(&self, row: &DeploymentRow, blocker: &Blocker) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let limit = match record::policy(row) {
            Ok(policy) => policy.deadlines.queued,
            Err(error) => return self.end(row.id, "Failed", &format!("{error:#}")).await,
        };
        let since = Timestamp::from_millisecond(row.created_at).unwrap_or(now);
        if row.cancel.is_some() {
            return self.end(row.id, "Cancelled", "cancelled in the queue").await;
        }
        let words = blocker.words();
        // A lock goes when the person who set it says so, whatever the deadline.
        if now >= since + limit && !matches!(blocker, Blocker::Lock(_)) {
            return self.end(row.id, "Failed", &format!("not begun within {limit:#}; {words}")).await;
        }
        let explain = Explain { deployment: vec![words], ..Explain::default() };
        self.explain(row.id, explain);
        Ok(())
    }

    /// Ends a deployment that never got to its instances.
    pub(super) async fn end(&self, id: i64, state: &str, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        tx.set_state(id, state, Some(reason), Timestamp::now().as_millisecond(), true).await?;
        tx.append_log(id, &note_chunk(None, &lines_of(&format!("{state}: {reason}")))).await?;
        tx.commit().await?;
        self.logs.announce(id);
        self.queue.notify_one();
        Ok(())
    }

    /// A fault of drover's own: it ends this deployment, and nothing else.
    async fn broke(&self, id: i64, words: &str) {
        let group = match self.store.deployment(id).await {
            Ok(row) => row.map(|row| row.group_name).unwrap_or_default(),
            Err(_) => String::new(),
        };
        let reason = format!(
            "a fault of drover's own ended it: {words}. What it changed on the group is put back by: drover group restore {group}"
        );
        error!("{reason}");
        self.note_fault(format!("deployment {id}: {words}"));
        if let Err(error) = self.end(id, "Failed", &reason).await {
            error!("and that could not be written down: {error}");
        }
    }

    fn spawn(self: &Arc<Self>, row: &DeploymentRow) {
        let id = row.id;
        let notify = Arc::new(Notify::new());
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&id) {
                return;
            }
            running.insert(id, Arc::clone(&notify));
        }
        let engine = Arc::clone(self);
        let task = async move {
            info!("taking it up");
            let driven = AssertUnwindSafe(Deployment::new(&engine, id, notify).drive()).catch_unwind().await;
            if let Err(panic) = driven {
                engine.broke(id, &run::words_of(panic.as_ref())).await;
            }
            engine.forget(id);
            engine.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            engine.queue.notify_one();
        };
        self.tasks.spawn(task.instrument(info_span!("deployment", id, group = row.group_name)));
    }
}
