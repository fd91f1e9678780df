//! Dispatches: one SendCommand to many instances, each with its own attempt.

use super::{Deployment, release::Source};
use crate::{
    engine::{
        crash,
        effects::send_intent,
        record::{self, json},
    },
    fleet::{FleetError, Kind, list::NonEmpty},
    logs::{lines_of, note_chunk},
    revision::{
        appspec::AppSpec,
        script::{Former, Kind as Job, Row, missing_runner, runner, with_runner, without_runner},
    },
    rollout::{
        event::{LifecycleEvent, RUN},
        plan::{DispatchKind, Effect, Order},
        snapshot::Outcome,
        state::{Cause, Fault, Instance, Stop},
    },
    store::{AttemptRow, DeploymentRow, DispatchRow, Tx},
};
use anyhow::Context as _;
use jiff::Timestamp;
use std::collections::BTreeSet;
use tracing::warn;

/// executionTimeout must not end the runner: it kills without a word. The sum of the time-outs, and this much more.
const EXECUTION_MARGIN_SECONDS: i64 = 600;

impl Deployment<'_> {
    /// Records the dispatch with its attempts, then sends it. True: the planner is to look at once.
    pub(super) async fn dispatch(
        &mut self,
        row: &DeploymentRow,
        kind: DispatchKind,
        orders: &[Order],
    ) -> anyhow::Result<bool> {
        let release = match kind {
            DispatchKind::Restore => match orders.first().and_then(|order| order.good.clone()) {
                Some(good) => good,
                None => anyhow::bail!("an instance without a last good release can't be restored"),
            },
            _ => row.sha.clone(),
        };
        let origin = self.engine.origin(row, &release).await?;
        let bundle = match self.engine.fetch_bundle(&origin, &release).await {
            Ok(Ok(bundle)) => Ok(bundle),
            // It can't be had any more, and is on the hosts that are to go back to it.
            failed if kind == DispatchKind::Restore => match self.kept_bundle(row, &release).await? {
                Some(kept) => Ok(kept),
                None => failed?,
            },
            failed => failed?,
        };
        // A release that can't be had (a former one, gone from the repository) fails where it is needed.
        let missing = bundle.as_ref().err().map(|reason| format!("revision {release}: {reason}"));
        let bundle = bundle.unwrap_or_default();
        let source = match missing {
            None => match self.source(row, &origin, &release, &bundle).await {
                Ok(source) => source,
                // It is on the host since it was staged, which needs no link; where it isn't, the download fails there.
                Err(error) if kind != DispatchKind::Stage => {
                    warn!("no link to the bundle of {release}, which is staged: {error:#}");
                    self.packed_source(&origin, &release, &bundle)
                }
                Err(error) => return Err(error),
            },
            Some(_) => Source::default(),
        };
        let appspec = bundle.appspec.timed(&record::policy(row)?.time_outs);
        let effect = Effect::Dispatch { kind, orders: orders.to_vec() };
        let now = Timestamp::now().as_millisecond();
        let mut tx = self.engine.store.write().await?;
        let mut rows = Vec::new();
        let mut next = tx.next_attempt(now).await?;
        for order in orders {
            rows.push(Row {
                instance: order.instance.clone(),
                attempt: next,
                first: order.first,
                nonce: self.engine.secrets.nonce(next),
                token: self.engine.secrets.attempt_token(next),
                good: order.good.clone(),
                zone: order.zone.clone(),
            });
            next += 1;
        }
        let id =
            format!("drover {} {} {}", row.id, kind.name(), rows.first().map_or(now, |first| first.attempt));
        let events: &[LifecycleEvent] = match kind {
            DispatchKind::Stage => &[LifecycleEvent::DownloadBundle],
            DispatchKind::PreBlock => &[LifecycleEvent::BeforeBlockTraffic],
            DispatchKind::PostAllow => &[LifecycleEvent::AfterAllowTraffic],
            DispatchKind::Run | DispatchKind::Restore => &RUN,
        };
        let mut adopted = None;
        let seconds = match kind {
            DispatchKind::Stage => record::policy(row)?.deadlines.staging.as_secs(),
            _ => {
                let mut longest = appspec.seconds(events);
                let goods: BTreeSet<&String> =
                    orders.iter().filter_map(|order| order.good.as_ref()).collect();
                for good in &goods {
                    let former = self.engine.former_appspec(good).await?;
                    longest = longest.max(appspec.seconds_after(former.as_ref(), events));
                }
                if let (Some(good), 1) = (goods.first(), goods.len()) {
                    adopted = self.adopted(row, good).await?;
                }
                // What is restored comes after this deployment's own revision.
                longest.max(appspec.seconds_after(Some(&record::appspec(row)?), events))
            }
        };
        let job = if kind == DispatchKind::Stage { Job::Stage } else { Job::Run };
        let former = adopted.as_ref().map(|(sha, appspec, digest)| Former { sha, appspec, digest });
        let script =
            self.script(row, job, &id, (&release, &source), events, (&appspec, former), rows.clone())?;
        let mut attempts = Vec::new();
        for (order, sent) in orders.iter().zip(&rows) {
            let failed = missing.as_ref().map(|reason| {
                let cause = Cause::Undelivered(reason.clone());
                let fault = Fault { event: order.first, hook: None, cause, tail: Vec::new() };
                json(&Outcome::Failed(fault))
            });
            attempts.push(AttemptRow {
                number: sent.attempt,
                deployment: row.id,
                instance: order.instance.clone(),
                dispatch: id.clone(),
                first_event: order.first.name().into(),
                ended_at: failed.is_some().then_some(now),
                outcome: failed,
                log_bytes: 0,
                log_complete: 0,
                created_at: now,
            });
        }
        tx.insert_attempts(&attempts).await?;
        let written = self.assign(&mut tx, row, &attempts, kind, seconds).await?;
        let (runner, packed) = runner();
        tx.keep_runner(runner, packed).await?;
        tx.insert_dispatch(&DispatchRow {
            id: id.clone(),
            deployment: row.id,
            kind: kind.name().into(),
            script: without_runner(&script),
            state: if missing.is_some() { "refused" } else { "intended" }.into(),
            command_id: None,
            created_at: now,
            seconds,
        })
        .await?;
        if missing.is_some() {
            tx.commit().await?;
            self.keep(written, attempts);
            return Ok(true);
        }
        let intent = send_intent(&effect, &id);
        let request = intent.request.to_string();
        let intent = tx
            .insert_intent(row.id, self.engine.store.epoch(), intent.action, &effect.key(), &request, now)
            .await?;
        tx.commit().await?;
        self.keep(written, attempts);

        let instances: Vec<String> = orders.iter().map(|order| order.instance.clone()).collect();
        crash::point(intent, crash::When::Before);
        let sent = self.send(&id, &instances, (&script, seconds), intent).await?;
        self.engine.close_intent(row.id, intent, &effect, &sent).await?;
        crash::point(intent, crash::When::Lost);
        match sent {
            // It is tried again after a pause.
            Err(error) if error.is_of_the_account() && error.kind != Kind::Unknown => {
                Ok(self.remember(&effect, Err(error)))
            }
            _ => Ok(self.remember(&effect, Ok(()))),
        }
    }

    /// Writes down that the instances' records wait for these attempts, and answers the records.
    async fn assign(
        &self,
        tx: &mut Tx<'_>,
        row: &DeploymentRow,
        attempts: &[AttemptRow],
        kind: DispatchKind,
        seconds: i64,
    ) -> anyhow::Result<Vec<Instance>> {
        let ids: Vec<&str> = attempts.iter().map(|attempt| attempt.instance.as_str()).collect();
        let texts = tx.records_of(row.id, &ids).await?;
        let mut records: Vec<Instance> =
            texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        for record in &mut records {
            let attempt = attempts.iter().find(|attempt| attempt.instance == record.id);
            let Some(attempt) = attempt else { continue };
            record.begin_attempt(attempt.number, Some(seconds));
            record.attempts += u32::from(kind != DispatchKind::Stage);
            record.touched |= matches!(kind, DispatchKind::Run | DispatchKind::Restore);
        }
        if matches!(kind, DispatchKind::Run | DispatchKind::Restore) {
            let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
            tx.set_dirty(&row.group_name, &ids).await?;
        }
        tx.put_instances(row.id, &records.iter().map(record::write_of).collect::<Vec<_>>()).await?;
        Ok(records)
    }

    /// Sends a recorded dispatch and records its fate. An answer that is lost leaves it open: see `adopt`.
    async fn send(
        &mut self,
        id: &str,
        instances: &[String],
        (script, seconds): (&str, i64),
        intent: i64,
    ) -> anyhow::Result<Result<(), FleetError>> {
        let seconds = seconds + EXECUTION_MARGIN_SECONDS;
        let output = self.engine.public_url.is_none().then_some(self.engine.config.aws.log_group.as_str());
        let Some(instances) = NonEmpty::of(instances) else { return Ok(Ok(())) };
        let sent = self.engine.fleet.send_command(instances, script, id, seconds, output).await;
        let sent = crash::answered(intent, "SendCommand", sent);
        let mut refused = Vec::new();
        let mut tx = self.engine.store.write().await?;
        match &sent {
            Ok(command) => tx.set_dispatch(id, "sent", Some(command)).await?,
            Err(error) if error.kind == Kind::Unknown => {}
            Err(error) => {
                tx.set_dispatch(id, "refused", None).await?;
                let outcome = match (error.code.as_str(), instances.as_slice().len()) {
                    // Credentials, permissions, throttling: no instance is to blame.
                    _ if error.is_of_the_account() => Outcome::NotSent { alone: false },
                    ("InvalidInstanceId", 2..) => Outcome::NotSent { alone: true },
                    _ => Outcome::Failed(Fault {
                        event: LifecycleEvent::DownloadBundle,
                        hook: None,
                        cause: Cause::Undelivered(error.to_string()),
                        tail: Vec::new(),
                    }),
                };
                let open = self.members.iter().flat_map(|members| members.open_attempts());
                for attempt in open.filter(|attempt| attempt.dispatch == id) {
                    refused.push((attempt.number, with_event(outcome.clone(), &attempt.first_event)));
                }
                let at = Timestamp::now().as_millisecond();
                for (attempt, outcome) in std::mem::take(&mut refused) {
                    // Its host may have told meanwhile how it ended: the first word stands.
                    if tx.set_outcome(attempt, &json(&outcome), at).await? {
                        refused.push((attempt, outcome));
                    }
                }
            }
        }
        tx.commit().await?;
        if let Some(members) = &mut self.members {
            refused.iter().for_each(|(attempt, outcome)| members.note_outcome(*attempt, outcome));
        }
        Ok(sent.map(drop))
    }

    /// The same dispatch once more: the host's own guard sees to it that nothing runs twice.
    pub(super) async fn send_again(
        &mut self,
        row: &DeploymentRow,
        dispatch: &DispatchRow,
    ) -> anyhow::Result<()> {
        let attempts = self.engine.store.attempts(row.id).await?;
        let instances: Vec<String> = attempts
            .iter()
            .filter(|attempt| attempt.dispatch == dispatch.id)
            .map(|attempt| attempt.instance.clone())
            .collect();
        let request = serde_json::json!({ "InstanceIds": instances, "Comment": dispatch.id, "Again": true });
        let key = format!("SendCommand:{}", dispatch.kind);
        let now = Timestamp::now().as_millisecond();
        let intent =
            self.engine.store.record_intent(row.id, "SendCommand", &key, &request.to_string(), now).await?;
        crash::point(intent, crash::When::Before);
        // Written by a version that kept no such number.
        let seconds = match dispatch.seconds {
            0 => record::appspec(row)?.for_planning().run_seconds,
            seconds => seconds,
        };
        let script = match missing_runner(&dispatch.script) {
            None => dispatch.script.clone(),
            Some(name) => {
                let packed = self.engine.store.runner(name).await?;
                let packed = packed.with_context(|| format!("the runner {name} is not in the store"))?;
                with_runner(&dispatch.script, name, &packed)
            }
        };
        let sent = self.send(&dispatch.id, &instances, (&script, seconds), intent).await?;
        let error = sent.err().map(|error| error.to_string());
        self.engine.store.finish_intent(intent, error.as_deref(), Timestamp::now().as_millisecond()).await?;
        Ok(())
    }

    /// Asks the host to stop a running attempt. Sending it twice does no harm.
    pub(super) async fn stop_attempt(
        &mut self,
        row: &DeploymentRow,
        instance: &str,
        attempt: i64,
        now: bool,
    ) -> anyhow::Result<Result<(), FleetError>> {
        let effect = Effect::Stop { instance: instance.into(), attempt, now };
        let id = format!("drover {} stop {attempt}", row.id);
        let asked = Row {
            instance: instance.into(),
            attempt,
            first: LifecycleEvent::ApplicationStop,
            nonce: self.engine.secrets.nonce(attempt),
            token: self.engine.secrets.attempt_token(attempt),
            good: None,
            zone: String::new(),
        };
        let job = if now { Job::StopNow } else { Job::StopAfter };
        let script = self.script(
            row,
            job,
            &id,
            (&row.sha, &Source::default()),
            &[],
            (&AppSpec::default(), None),
            vec![asked],
        )?;
        let intent = send_intent(&effect, &id);
        let at = Timestamp::now().as_millisecond();
        let intent = self
            .engine
            .store
            .record_intent(row.id, intent.action, &effect.key(), &intent.request.to_string(), at)
            .await?;
        crash::point(intent, crash::When::Before);
        let whom = [instance.to_owned()];
        let Some(whom) = NonEmpty::of(&whom) else { return Ok(Ok(())) };
        let sent = self.engine.fleet.send_command(whom, &script, &id, EXECUTION_MARGIN_SECONDS, None).await;
        if let Ok(command) = &sent {
            self.stops.insert(attempt, command.clone());
        }
        let sent = crash::answered(intent, "SendCommand", sent.map(drop));
        self.engine.close_intent(row.id, intent, &effect, &sent).await?;
        crash::point(intent, crash::When::Lost);
        if sent.is_ok() {
            let mut written = Vec::new();
            let mut tx = self.engine.store.write().await?;
            if let Some(mut record) = record_of(&mut tx, row.id, instance).await? {
                record.note_stop(attempt, Stop { at_once: now, sent: Timestamp::now() });
                tx.put_instances(row.id, &[record::write_of(&record)]).await?;
                written.push(record);
            }
            let text = if now { "asked to stop at once" } else { "asked to stop after the event in work" };
            tx.append_log(row.id, &note_chunk(Some(instance), &lines_of(text))).await?;
            tx.commit().await?;
            self.keep(written, Vec::new());
            self.engine.logs.announce(row.id);
        }
        Ok(sent)
    }
}

/// An instance's record as it stands in the store.
async fn record_of(tx: &mut Tx<'_>, deployment: i64, instance: &str) -> anyhow::Result<Option<Instance>> {
    let text = tx.instance(deployment, instance).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The fault names the event that the attempt was to begin with.
fn with_event(outcome: Outcome, first_event: &str) -> Outcome {
    match (outcome, first_event.parse()) {
        (Outcome::Failed(fault), Ok(event)) => Outcome::Failed(Fault { event, ..fault }),
        (outcome, _) => outcome,
    }
}
