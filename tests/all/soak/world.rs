//! One cloud of the soak: rollout after rollout, each with its share of trouble.

use super::{
    figures::{Figures, apart, said_of},
    trouble::{self, Trouble, What},
};
use crate::ground::{Repository, glimpse, impatient, policy, setup};
use anyhow::Context as _;
use drover::{
    cli::demo::playground::{GROUP, Playground},
    sim::load::{Load, LoadReport, LoadSpec},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

const INSTANCES: u32 = 6;
/// Requests a second.
const RATE: u32 = 30;
/// A rollout that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(180);
/// A fleet without further trouble is whole within this.
const WHOLE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(300);
/// The calls that drover makes to AWS: a fault that names no action would meet GitHub's too.
const CALLS: [&str; 18] = [
    "CreateOrUpdateTags",
    "DeleteTags",
    "DeregisterTargets",
    "DescribeAutoScalingGroups",
    "DescribeInstanceInformation",
    "DescribeInstanceRefreshes",
    "DescribeTargetGroupAttributes",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "EnterStandby",
    "ExitStandby",
    "ListCommandInvocations",
    "ListCommands",
    "RegisterTargets",
    "ResumeProcesses",
    "SendCommand",
    "SuspendProcesses",
    "UpdateAutoScalingGroup",
];

struct World {
    /// From 1.
    cloud: u64,
    /// Removed at the end.
    _directory: tempfile::TempDir,
    playground: Playground,
    /// The daemon runs.
    up: bool,
    revisions: [String; 2],
    random: StdRng,
    http: reqwest::Client,
    /// Standby instances that a rollout said it keeps out.
    quarantined: BTreeSet<String>,
    /// The hooks' own record, by instance, as it was read last.
    records: BTreeMap<String, String>,
    figures: Figures,
}

/// Makes a cloud and rolls its fleet that often.
pub async fn soak(cloud: u64, rollouts: usize, seed: u64) -> Figures {
    let mut world = World::start(cloud, seed).await.unwrap();
    // GETs alone: the load's streams take three seconds, and the drains here two.
    let spec = LoadSpec { url: world.playground.service.clone(), rate_per_second: RATE, seed };
    let load = Load::start_gets(spec).unwrap();
    let rolled = world.roll(rollouts).await;
    let requests = load.stop().await;
    let counted = world.count(&requests).await;
    let World { playground, mut figures, _directory, .. } = world;
    for error in [rolled.err(), counted.err()].into_iter().flatten() {
        figures.broken.push(format!("cloud {cloud} could not go on: {error:#}"));
    }
    playground.stop().await;
    figures
}

fn members(seen: &Value) -> &[Value] {
    seen["groups"][0]["instances"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// As many serve as are desired, and nobody is on the way in or out.
fn is_whole(seen: &Value) -> bool {
    let serves = |member: &&Value| {
        member["lifecycle"] == "InService" && member["running"] == true && member["booted"] == true
    };
    let serving = members(seen).iter().filter(serves).count();
    let settled =
        members(seen).iter().all(|member| ["InService", "Standby"].contains(&text(member, "lifecycle")));
    let targets = seen["target_groups"][0]["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let healthy = targets.iter().filter(|target| target["state"] == "healthy").count();
    settled && serving == healthy && seen["groups"][0]["desired"] == json!(serving)
}

fn one_of<'a>(random: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices[random.random_range(0..choices.len())]
}

impl World {
    async fn start(cloud: u64, seed: u64) -> anyhow::Result<World> {
        let directory = tempfile::tempdir()?;
        let repository = Repository::wrapped(directory.path());
        let revisions = ["main", "main~1"].map(|name| repository.git(&["rev-parse", name]));
        let mut setup = setup(directory.path(), &repository, &revisions[1]);
        (setup.instances, setup.seed, setup.time_scale) = (INSTANCES, seed, 10.0);
        setup.deregistration_delay = 20;
        setup.policy = policy("batch = \"3\"");
        let playground = Playground::start(setup).await?;
        for action in CALLS {
            for (kind, probability) in [("throttle", 0.3), ("lose-response", 0.02)] {
                let fault = json!({
                    "kind": kind, "match": { "action": action }, "probability": probability, "times": u32::MAX,
                });
                playground.control("faults", &fault).await?;
            }
        }
        Ok(World {
            cloud,
            _directory: directory,
            playground,
            up: true,
            revisions,
            random: StdRng::seed_from_u64(seed),
            http: impatient(),
            quarantined: BTreeSet::new(),
            records: BTreeMap::new(),
            figures: Figures::default(),
        })
    }

    async fn roll(&mut self, rollouts: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        for number in 1..=rollouts {
            self.wait_until_whole().await?;
            self.rollout(number).await?;
            if number % 10 == 0 || number == rollouts {
                let (cloud, minutes) = (self.cloud, begun.elapsed().as_secs_f64() / 60.0);
                let (stuck, left) = (self.figures.stuck(), self.figures.not_put_back.len());
                println!(
                    "soak, cloud {cloud}: {number} of {rollouts} rollouts after {minutes:.1} min, {stuck} stuck, \
                     {left} things not put back"
                );
            }
        }
        Ok(())
    }

    /// A rollout begins with a whole fleet, so that the trouble of the last one is not added to its own.
    async fn wait_until_whole(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + WHOLE;
        while !is_whole(&self.playground.look("world").await?) {
            if Instant::now() > limit {
                self.figures.thin += 1;
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn rollout(&mut self, number: usize) -> anyhow::Result<()> {
        let batch = one_of(&mut self.random, &["3", "3", "3", "1,3"]);
        let mode = one_of(&mut self.random, &["batch", "window"]);
        let max_failed = one_of(&mut self.random, &["0", "1", "2"]);
        let revision = &self.revisions[(number - 1) % 2];
        let submission = json!({
            "group": GROUP, "revision": revision, "batch": batch, "mode": mode, "max_failed": max_failed,
        });
        let troubles = trouble::plan(&mut self.random);
        let id = self.submit(&submission).await?;
        let begun = Instant::now();
        let mut seen = self.wait_for(id, "exit_code", troubles).await?;
        let state = seen.as_ref().map_or("stuck", |deployment| text(deployment, "state")).to_owned();
        self.figures.ended(&state, begun.elapsed());
        if seen.is_none() {
            let shown = self.deployment(id).await.unwrap_or_default();
            println!("soak, cloud {}: STUCK in rollout {number}: {shown:#}", self.cloud);
        }
        if ["Halted", "stuck"].contains(&state.as_str()) {
            self.cancel(id).await;
            seen = self.wait_for(id, "finished_at", VecDeque::new()).await?;
        }
        let deployment = seen.with_context(|| format!("deployment {id} was cancelled, and doesn't end"))?;
        for instance in deployment["instances"].as_array().into_iter().flatten() {
            if instance["quarantined"] == true {
                self.quarantined.insert(text(instance, "id").to_owned());
            }
        }
        self.look_behind(number).await
    }

    async fn submit(&self, submission: &Value) -> anyhow::Result<i64> {
        let url = format!("{}/api/v1/deployments", self.playground.url);
        let begun = Instant::now();
        loop {
            let request = self.http.post(&url).bearer_auth(&self.playground.token).json(submission);
            let answer = request.send().await?;
            // What passes is tried again, as a person would: GitHub is slow on a machine that is busy.
            let passes = answer.status().is_server_error() && begun.elapsed() < Duration::from_secs(60);
            let answer: Value = answer.json().await?;
            match answer["id"].as_i64() {
                None if passes => tokio::time::sleep(Duration::from_secs(2)).await,
                id => return id.with_context(|| format!("refused: {answer}")),
            }
        }
    }

    async fn deployment(&self, id: i64) -> Option<Value> {
        glimpse(&self.http, &self.playground, &format!("deployments/{id}")).await
    }

    async fn cancel(&self, id: i64) {
        let url = format!("{}/api/v1/deployments/{id}/cancel", self.playground.url);
        // Refused where it has ended meanwhile; lost where the daemon is away.
        let _ = self.http.post(url).bearer_auth(&self.playground.token).json(&json!({})).send().await;
    }

    /// Waits until the deployment has this, and makes the trouble meanwhile. None: it takes too long.
    async fn wait_for(
        &mut self,
        id: i64,
        key: &str,
        mut troubles: VecDeque<Trouble>,
    ) -> anyhow::Result<Option<Value>> {
        let begun = Instant::now();
        loop {
            while troubles.front().is_some_and(|trouble| trouble.at <= begun.elapsed()) {
                if let Some(trouble) = troubles.pop_front() {
                    self.strike(id, trouble).await?;
                }
            }
            let seen = self.deployment(id).await;
            if seen.as_ref().is_some_and(|deployment| !deployment[key].is_null()) {
                return Ok(seen);
            }
            if begun.elapsed() > LIMIT {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn strike(&mut self, id: i64, trouble: Trouble) -> anyhow::Result<()> {
        match trouble.what {
            What::Kill if self.up => {
                self.up = false;
                self.figures.kills += 1;
                self.playground.kill_daemon().await
            }
            What::Start if !self.up => {
                self.playground.start_daemon().await?;
                self.up = true;
                Ok(())
            }
            What::Kill | What::Start => Ok(()),
            What::Cancel => {
                self.cancel(id).await;
                Ok(())
            }
            What::AgentOffline | What::NetworkCut | What::Terminate => self.order(trouble).await,
        }
    }

    /// Orders a fault of the cloud's.
    async fn order(&mut self, trouble: Trouble) -> anyhow::Result<()> {
        let seen = self.playground.look("world").await?;
        let dies = trouble.what == What::Terminate;
        let fit = members(&seen)
            .iter()
            .filter(|member| member["running"] == true && (!dies || member["lifecycle"] == "InService"));
        let fit: Vec<&str> = fit.map(|member| text(member, "id")).collect();
        let Some(instance) = fit.get(trouble.pick % fit.len().max(1)).copied() else { return Ok(()) };
        if dies {
            self.read_record(instance).await;
        }
        let fault = json!({
            "kind": trouble.what.fault(), "match": { "instance": instance }, "seconds": trouble.seconds,
        });
        // Refused where it has gone this very moment.
        let _ = self.playground.control("faults", &fault).await;
        Ok(())
    }

    /// After a rollout: is everything put back that it changed, and what have the hooks written down?
    async fn look_behind(&mut self, number: usize) -> anyhow::Result<()> {
        let seen = self.playground.look("world").await?;
        let group = &seen["groups"][0];
        let mut left = Vec::new();
        if group["min"] != json!(INSTANCES) {
            left.push(format!("MinSize is {}", group["min"]));
        }
        if group["suspended"] != json!([]) {
            left.push(format!("suspended: {}", group["suspended"]));
        }
        if !group["tags"]["drover:restore"].is_null() {
            left.push(format!("tagged: {}", group["tags"]));
        }
        let mut out = BTreeSet::new();
        for member in members(&seen) {
            let (instance, lifecycle) = (text(member, "id"), text(member, "lifecycle"));
            if ["EnteringStandby", "Standby"].contains(&lifecycle) {
                out.insert(instance.to_owned());
                if !self.quarantined.contains(instance) {
                    left.push(format!("{instance} is in {lifecycle}, and not quarantined"));
                }
            }
            if member["running"] == true {
                self.read_record(instance).await;
            }
        }
        self.quarantined.retain(|instance| out.contains(instance));
        let cloud = self.cloud;
        let left = left.iter().map(|what| format!("cloud {cloud}, rollout {number}: {what}"));
        self.figures.not_put_back.extend(left);
        Ok(())
    }

    async fn read_record(&mut self, instance: &str) {
        let argv = json!({ "argv": ["/bin/sh", "-c", "cat /var/log/hook-runs"] });
        // One that is being terminated can't be asked any more; what it said before stays.
        let Ok(done) = self.playground.control(&format!("instances/{instance}/exec"), &argv).await else {
            return;
        };
        let record = text(&done, "stdout");
        if !record.is_empty() {
            self.records.insert(instance.to_owned(), record.to_owned());
        }
    }

    /// Counts what is known at the end only.
    async fn count(&mut self, requests: &LoadReport) -> anyhow::Result<()> {
        for (instance, record) in &self.records {
            self.figures.count_record(instance, record);
        }
        let events = self.playground.look("events?after=0").await?;
        let events = events["events"].as_array().context("the cloud has no events")?;
        let (at_dead, others) = apart(&requests.failed_at, events);
        self.figures.requests = requests.total;
        self.figures.at_dead = at_dead;
        self.figures.failed = others.len();
        let notes = others.iter().take(5).map(|at| said_of(*at, events));
        self.figures.notes.extend(notes);
        let faults = self.playground.look("faults").await?;
        for fault in faults["faults"].as_array().into_iter().flatten() {
            let struck = fault["struck"].as_u64().unwrap_or_default();
            *self.figures.struck.entry(text(fault, "kind").to_owned()).or_default() += struck;
        }
        Ok(())
    }
}
