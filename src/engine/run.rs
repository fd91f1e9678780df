//! The engine's loops: tasks that go on for as long as the daemon does. A panic in one is a fault of drover's own: it is logged, said in `/readyz`,
//! and the task begins anew after a pause.

use crate::engine::Engine;
use futures_util::FutureExt as _;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tracing::error;

/// The queue is looked at this often even when nothing wakes it.
const QUEUE_INTERVAL: Duration = Duration::from_secs(5);
/// Before a task that panicked begins anew.
const PAUSE: Duration = Duration::from_secs(5);
/// A fault is said in `/readyz` for so long: whoever looks after the daemon looks there.
const SAID: Duration = Duration::from_secs(600);

impl Engine {
    /// Runs until the daemon stops: starts what is queued, goes on with what is under way.
    pub async fn run(self: Arc<Self>) {
        self.keep_running("follows pushes", Engine::follow_pushes);
        self.keep_running("follows launches", Engine::follow_launches);
        self.keep_running("removes what is over for long", Engine::follow_retention);
        if self.public_url.is_none() {
            self.keep_running("reads uploaded logs", Engine::follow_uploads);
        }
        while !self.stop.is_cancelled() {
            if let Err(error) = self.look_at_queue().await {
                error!("looking at the queue: {error}");
            }
            tokio::select! {
                () = self.queue.notified() => {}
                () = tokio::time::sleep(QUEUE_INTERVAL) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a task until the daemon stops, and again after a panic.
    pub(super) fn keep_running<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        task: impl Fn(Arc<Self>) -> F + Send + Sync + 'static,
    ) {
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            while let Err(panic) = AssertUnwindSafe(task(Arc::clone(&engine))).catch_unwind().await {
                let words = words_of(panic.as_ref());
                error!(
                    "a fault of drover's own ended what {what}: {words}; it begins anew in {} s",
                    PAUSE.as_secs()
                );
                engine.note_fault(format!("what {what}: {words}"));
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = engine.stop.cancelled() => return,
                }
            }
        });
    }

    pub(super) fn note_fault(&self, words: String) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), words));
    }

    /// The last fault of drover's own, if there was one lately.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.as_ref().filter(|(at, _)| at.elapsed() < SAID).map(|(_, words)| words.clone())
    }
}

/// What a panic said.
pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
