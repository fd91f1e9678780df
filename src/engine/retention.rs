//! What is over for long goes, in small steps that nobody waits for.

use crate::{
    engine::Engine,
    store::{Prunable, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// How often it is looked for what may go.
const EVERY: Duration = Duration::from_secs(600);
/// A daemon that has just started has other things to do.
const FIRST: Duration = Duration::from_secs(60);
/// Between two steps: others write, too.
const BREATH: Duration = Duration::from_millis(50);
/// Scripts are kept for so long after their deployment: a person may want to read one.
const SCRIPTS: SignedDuration = SignedDuration::from_hours(24);

impl Engine {
    /// Removes what is too old or too much, until the daemon stops.
    pub(super) async fn follow_retention(self: Arc<Self>) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            if let Err(error) = self.prune().await {
                warn!("removing what is over for long: {error}");
            }
            pause = EVERY;
        }
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let mut tx = self.store.write().await?;
        let scripts = tx.prune_scripts((now - SCRIPTS).as_millisecond()).await?;
        tx.commit().await?;
        if scripts > 0 {
            info!("removed {scripts} scripts of deployments that are over");
        }
        let server = &self.config.server;
        let oldest = (now - SignedDuration::from_hours(24 * i64::from(server.keep_days))).as_millisecond();
        let most = i64::from(server.keep_gb).saturating_mul(1_000_000_000);
        let kept = self.store.log_bytes().await?;
        for gone in too_much(&self.store.prunable().await?, kept, oldest, most) {
            loop {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                let mut tx = self.store.write().await?;
                let more = tx.prune_lines(gone.id).await?;
                if !more {
                    tx.prune_rest(gone.id, Timestamp::now().as_millisecond()).await?;
                }
                tx.commit().await?;
                if !more {
                    break;
                }
                tokio::time::sleep(BREATH).await;
            }
            info!(deployment = gone.id, "removed its log and attempts ({} bytes)", gone.log_bytes);
        }
        Ok(())
    }
}

/// Of deployments that are over, oldest first: those that ended before `oldest`, and as many more as it takes to keep no more
/// than `most` bytes.
fn too_much(over: &[Prunable], mut kept: i64, oldest: i64, most: i64) -> Vec<Prunable> {
    let goes = |one: &&Prunable| {
        let goes = one.finished_at < oldest || kept > most;
        if goes {
            kept -= one.log_bytes;
        }
        goes
    };
    over.iter().take_while(goes).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_goes_and_then_what_is_too_much() {
        let over: Vec<Prunable> =
            (1..=5).map(|id| Prunable { id, finished_at: id * 100, log_bytes: 10 }).collect();
        let ids = |kept, oldest, most| -> Vec<i64> {
            too_much(&over, kept, oldest, most).iter().map(|one| one.id).collect()
        };
        assert_eq!(ids(50, 0, 50), Vec::<i64>::new());
        assert_eq!(ids(50, 201, 1000), [1, 2]);
        // What runs is kept beyond these five, and counts.
        assert_eq!(ids(75, 0, 50), [1, 2, 3]);
        assert_eq!(ids(75, 201, 60), [1, 2]);
    }
}
