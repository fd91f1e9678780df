//! What the end-to-end tests stand on: a playground with a repository whose hooks keep a record of their own.

use drover::cli::demo::playground::{GROUP, Playground, Setup};
use drover::{revision::appspec::AppSpec, sim::sample};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// The binary under test.
pub const DROVER: &str = env!("CARGO_BIN_EXE_drover");

/// Three end-to-end tests at a time, which mostly wait: more would make each other fail their deadlines on two cores. Whatever
/// fills the machine by itself takes all of [`TURNS`].
pub static TURN: Semaphore = Semaphore::const_new(TURNS as usize);
/// See [`TURN`].
pub const TURNS: u32 = 3;

/// Around every hook of the sample: what it prints, and that it ran, is also written down on the instance, outside
/// the runner.
const WRAPPER: &str = r#"#!/bin/sh
printf '%s %s\n' "$DROVER_ATTEMPT" "$LIFECYCLE_EVENT" >>/var/log/hook-runs
out=$("$0.real" 2>&1)
code=$?
if [ -n "$out" ]; then printf '%s\n' "$out" | tee -a "/var/log/hook-lines.$DROVER_ATTEMPT"; fi
exit $code
"#;

/// A repository for tests.
pub struct Repository {
    pub path: PathBuf,
}

impl Repository {
    /// The sample, its hooks wrapped; `main` has two commits on top: version 3, version 4.
    pub fn wrapped(directory: &Path) -> Repository {
        let repository = Repository { path: directory.join("repository") };
        sample::create_repository(&repository.path).unwrap();
        for entry in fs::read_dir(repository.path.join("hooks")).unwrap() {
            let hook = entry.unwrap().path();
            if hook.extension().is_some() {
                // What hooks source is no hook.
                continue;
            }
            let real = PathBuf::from(format!("{}.real", hook.display()));
            fs::rename(&hook, &real).unwrap();
            repository.write(hook.strip_prefix(&repository.path).unwrap(), WRAPPER);
        }
        repository.commit("3");
        repository.commit("4");
        repository
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(["-c", "user.name=test", "-c", "user.email=test@example.com"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes an executable file.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.path.join(path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Commits everything as this version and answers its SHA.
    pub fn commit(&self, version: &str) -> String {
        fs::write(self.path.join("VERSION"), format!("{version}\n")).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", &format!("Version {version}")]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn appspec_of(&self, sha: &str) -> AppSpec {
        let archive = self.path.join("../first.tar.gz");
        self.git(&["archive", "--format=tar.gz", "--prefix=x/", "-o", archive.to_str().unwrap(), sha]);
        drover::revision::bundle::examine(&archive, &drover::revision::bundle::Packed::by_github())
            .unwrap()
            .appspec
    }
}

/// The usual setup: six instances on `first`, drains of four seconds, batches of two.
pub fn setup(directory: &Path, repository: &Repository, first: &str) -> Setup {
    Setup {
        drover: DROVER.into(),
        data: directory.to_path_buf(),
        repository: repository.path.clone(),
        first: first.to_owned(),
        first_appspec: repository.appspec_of(first),
        forks: Vec::new(),
        groups: 1,
        instances: 6,
        paper: false,
        time_scale: 2.0,
        seed: 1,
        deregistration_delay: 8,
        health_interval: 5,
        health_path: "/health".into(),
        port: 80,
        share_network: false,
        application: String::new(),
        policy: policy("batch = \"2\""),
        poll: "300ms".into(),
        public_url: Some("http://127.0.0.1:0".into()),
        branch: "main".into(),
        instance_policy: instance_policy(),
        database: None,
        listen: "127.0.0.1:0".into(),
    }
}

/// A small and quick fleet on `first`, as the tests of one matter have it.
pub fn small(
    directory: &Path,
    repository: &Repository,
    first: &str,
    instances: u32,
    policy: String,
) -> Setup {
    Setup { instances, time_scale: 5.0, policy, ..setup(directory, repository, first) }
}

/// The IAM policy that README gives the instances' role.
pub fn instance_policy() -> Value {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, after) = readme.split_once("Instances need `AmazonSSMManagedInstanceCore`").unwrap();
    let (_, json) = after.split_once("```json\n").unwrap();
    serde_json::from_str(json.split_once("```").unwrap().0).unwrap()
}

/// A policy whose retries don't wait for long.
pub fn policy(lines: &str) -> String {
    format!("{lines}\n[applications.sample.groups.demo.policy.retry]\nbase = \"500ms\"\ncap = \"2s\"\n")
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is no number")))
}

/// A client for a daemon that may go away at any moment.
pub fn impatient() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).pool_max_idle_per_host(0);
    client.build().unwrap()
}

/// `GET` of the API; none while the daemon is away.
pub async fn glimpse(http: &reqwest::Client, world: &Playground, path: &str) -> Option<Value> {
    let url = format!("{}/api/v1/{path}", world.url);
    let answer = http.get(url).bearer_auth(&world.token).send().await.ok()?;
    answer.error_for_status().ok()?.json().await.ok()
}

/// A finished run of the command line.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// What tests do with a playground.
pub trait Play {
    /// Runs a client subcommand to its end.
    fn drover(&self, arguments: &[&str]) -> impl Future<Output = Ran>;
    /// `GET` of the API.
    fn api(&self, path: &str) -> impl Future<Output = Value>;
    /// Submits a revision and answers the deployment's number.
    fn submit(&self, revision: &str) -> impl Future<Output = i64>;
    /// The calls of this action that the simulated cloud has seen.
    fn calls(&self, action: &str) -> impl Future<Output = Vec<Value>>;
    /// Waits until the deployment has an exit code.
    fn ended(&self, id: i64) -> impl Future<Output = Value>;
    /// Runs a shell command on an instance.
    fn on(&self, instance: &str, script: &str) -> impl Future<Output = String>;
    /// Compares each instance's own record of what its hooks printed with the log.
    fn log_is_whole(&self, id: i64) -> impl Future<Output = ()>;
    /// No hook ran twice in one attempt, as the hooks' own record says.
    fn nothing_ran_twice(&self) -> impl Future<Output = ()>;
}

impl Play for Playground {
    async fn drover(&self, arguments: &[&str]) -> Ran {
        let output = tokio::process::Command::new(DROVER)
            .args(arguments)
            .env("DROVER_URL", &self.url)
            .env("DROVER_TOKEN", &self.token)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(240), output).await.expect("it ends").unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    async fn api(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.url);
        let answer = reqwest::Client::new().get(url).bearer_auth(&self.token).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn submit(&self, revision: &str) -> i64 {
        let submission = serde_json::json!({ "group": GROUP, "revision": revision });
        let url = format!("{}/api/v1/deployments", self.url);
        let limit = Instant::now() + Duration::from_secs(120);
        loop {
            let request = reqwest::Client::new().post(&url).bearer_auth(&self.token).json(&submission);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            // The simulated GitHub may be slow on a machine that is full.
            let slow = answer["error"]["code"] == "github" && Instant::now() < limit;
            if !slow {
                return answer["id"].as_i64().unwrap_or_else(|| panic!("refused: {answer}"));
            }
        }
    }

    async fn calls(&self, action: &str) -> Vec<Value> {
        let audit = self.look("audit?after=0").await.unwrap();
        let calls = audit["calls"].as_array().unwrap().iter();
        calls.filter(|call| call["action"] == action).cloned().collect()
    }

    async fn ended(&self, id: i64) -> Value {
        let limit = Instant::now() + Duration::from_secs(240);
        loop {
            let deployment = self.api(&format!("deployments/{id}")).await;
            if !deployment["exit_code"].is_null() {
                return deployment;
            }
            assert!(Instant::now() < limit, "it doesn't end: {deployment:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn on(&self, instance: &str, script: &str) -> String {
        let argv = serde_json::json!({ "argv": ["/bin/sh", "-c", script] });
        let done = self.control(&format!("instances/{instance}/exec"), &argv).await.unwrap();
        done["stdout"].as_str().unwrap_or_default().to_owned()
    }

    async fn log_is_whole(&self, id: i64) {
        let url = format!("{}/api/v1/deployments/{id}/logs?follow=false", self.url);
        let request =
            reqwest::Client::new().get(url).bearer_auth(&self.token).header("accept", "application/x-ndjson");
        let text = request.send().await.unwrap().text().await.unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: Vec<i64> = rows.iter().filter_map(|row| row["seq"].as_i64()).collect();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "numbers without holes");
        let mut lines = 0;
        for instance in self.instances().await.unwrap() {
            let mut attempts: Vec<i64> = rows
                .iter()
                .filter(|row| row["instance"] == instance.as_str() && row["source"] == "hook")
                .filter_map(|row| row["attempt"].as_i64())
                .collect();
            attempts.dedup();
            for attempt in attempts {
                let theirs =
                    self.on(&instance, &format!("cat /var/log/hook-lines.{attempt} 2>/dev/null")).await;
                let ours: Vec<&str> = rows
                    .iter()
                    .filter(|row| row["attempt"] == attempt && row["source"] == "hook")
                    // No hook runs there: what curl says of a daemon that is being killed.
                    .filter(|row| row["event"] != "DownloadBundle")
                    .filter_map(|row| row["text"].as_str())
                    .filter(|text| !text.starts_with("drover: "))
                    .collect();
                lines += ours.len();
                assert_eq!(ours, theirs.lines().collect::<Vec<_>>(), "{instance} attempt {attempt}");
            }
        }
        assert!(lines > 20, "only {lines} lines: the hooks' own record is missing");
    }

    async fn nothing_ran_twice(&self) {
        let mut runs = 0;
        for instance in self.instances().await.unwrap() {
            let argv = serde_json::json!({ "argv": ["/bin/cat", "/var/log/hook-runs"] });
            // It may have left since it was listed.
            let Ok(done) = self.control(&format!("instances/{instance}/exec"), &argv).await else { continue };
            let text = done["stdout"].as_str().unwrap_or_default();
            let mut lines: Vec<&str> = text.lines().collect();
            runs += lines.len();
            lines.sort_unstable();
            for pair in lines.windows(2) {
                assert_ne!(pair[0], pair[1], "{instance} ran it twice");
            }
        }
        assert!(runs > 20, "only {runs} runs: the hooks' own record is missing");
    }
}

/// How many of a deployment's instances are in this state.
pub fn states(deployment: &Value, state: &str) -> usize {
    deployment["instances"].as_array().unwrap().iter().filter(|i| i["state"] == state).count()
}

/// The ids of an Auto Scaling group's instances that are in service.
pub fn serving(group: &Value) -> Vec<String> {
    let all = group["instances"].as_array().unwrap();
    let serve = all.iter().filter(|instance| instance["lifecycle"] == "InService");
    serve.map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

/// Waits for something, with a deadline.
pub async fn until<F: Future<Output = bool>>(what: &str, seconds: u64, mut check: impl FnMut() -> F) {
    let limit = Instant::now() + Duration::from_secs(seconds);
    while !check().await {
        assert!(Instant::now() < limit, "waited {seconds} s in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
