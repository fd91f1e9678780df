//! The simulated cloud: AWS's and GitHub's APIs on one loopback port, with instances, agents and balancers that are
//! real behind them. A process of its own (`drover sim`), so that a daemon under test can be killed beside it.
//!
//! It imports nothing of the daemon's modules (except that [`paper`] reads the scripts that it is sent by
//! [`crate::revision::script`]), and only the command line and tests import it.
//!
//! No file imports another in a circle. From the bottom up: the types of each service import no state; [`state::State`] holds
//! them and does no I/O; the services implement their calls, and the passing of time, on it; [`cloud::Cloud`] shares it among
//! tasks; `perform` carries out the effects that it orders; the handlers of each API answer requests; [`server`] tells the
//! APIs apart.
//!
//! # Access
//! Only loopback is listened on, and only requests whose `Host` header names it are answered. AWS calls must be signed
//! (Signature Version 4) with the run's keys; the control API wants `Authorization: Bearer` with its token, GitHub's
//! API with its own, agents theirs. The first line on standard output, when all is ready, is
//! `{"ready": {"url", "token", "access_key_id", "secret_access_key", "region", "github_token"}}`.
//!
//! # AWS
//! The service is read from the signature's credential scope; every call goes to `POST /`.
//! - **autoscaling** (query/XML): DescribeAutoScalingGroups, DescribeAutoScalingInstances, DescribeScalingActivities,
//!   DescribeTags, DescribeScalingProcessTypes, EnterStandby, ExitStandby, SuspendProcesses, ResumeProcesses,
//!   UpdateAutoScalingGroup, SetDesiredCapacity, SetInstanceHealth, SetInstanceProtection,
//!   TerminateInstanceInAutoScalingGroup, CreateOrUpdateTags, DeleteTags, CreateLaunchConfiguration,
//!   CreateAutoScalingGroup, DeleteAutoScalingGroup, AttachLoadBalancerTargetGroups, PutLifecycleHook,
//!   DeleteLifecycleHook, DescribeLifecycleHooks, CompleteLifecycleAction, RecordLifecycleActionHeartbeat,
//!   StartInstanceRefresh, CancelInstanceRefresh, DescribeInstanceRefreshes, PutWarmPool, DeleteWarmPool,
//!   DescribeWarmPool. Groups keep their desired capacity, replace unhealthy members and even out their zones, each as
//!   far as the process isn't suspended. Where a group has hooks on launches, a new instance waits for them in
//!   `Pending:Wait`: its agent runs, it counts, and it is in no target group.
//! - **elasticloadbalancing** (v2, query/XML): DescribeTargetGroups, DescribeTargetGroupAttributes,
//!   ModifyTargetGroupAttributes, DescribeTargetHealth, RegisterTargets, DeregisterTargets, DescribeLoadBalancers,
//!   DescribeListeners, CreateTargetGroup, CreateLoadBalancer, CreateListener (on loopback; for a port below 1024 a
//!   free one is taken, and the answer names it).
//! - **ssm** (JSON 1.1): DescribeInstanceInformation, SendCommand (document AWS-RunShellScript), ListCommands,
//!   ListCommandInvocations, GetCommandInvocation, CancelCommand, GetParameter, GetParameters, PutParameter.
//!
//! - **logs** (CloudWatch Logs, JSON 1.1): CreateLogGroup, PutRetentionPolicy, DescribeLogGroups, CreateLogStream,
//!   DescribeLogStreams, PutLogEvents, GetLogEvents. With `CloudWatchOutputConfig` in SendCommand, agents upload what a
//!   command writes once a second while it runs: whole lines, all since the last time as one event.
//!
//! # GitHub
//! `GET /repos/O/R`, `…/commits`, `…/commits/REF`, `…/branches`, `…/branches/B`, `…/tags`, `…/git/ref/heads|tags/…`,
//! `…/compare/BASE...HEAD`, `…/contents/PATH?ref=`, `…/tarball/REF` (302 to an address on the same port that is good
//! for five minutes and needs no token). A commit of a fork given with `--fork` is served through its parent.
//! `…/installation` and `POST /app/installations/N/access_tokens` for the one GitHub App that `POST /_sim/github/app` has
//! registered (its JWT is verified; a token is good for an hour of simulated time, or until `POST /_sim/github/revoke`).
//!
//! # Control API
//! | request | answer |
//! |---|---|
//! | `POST /_sim/world`, `GET /_sim/world` | creates groups and target groups; shows all with their states |
//! | `POST /_sim/reach {"address"}` | a loopback address that all instances, present and future, can reach |
//! | `POST /_sim/github/rename {"from", "to"}` | gives a repository another name; GitHub redirects the old one by its number |
//! | `POST /_sim/github/lag {"on"}` | from now on GitHub's API shows commits and branches as they are at this moment; or again as they are |
//! | `POST /_sim/instance-policy {"Statement": […]}` | the IAM policy of the instances' role, which the agents' own calls are held against (at first it allows nothing beyond Run Command) |
//! | `PUT /_sim/objects/BUCKET/KEY` with the object as body | puts an object into S3; those of the bucket `public` are read unsigned |
//! | `POST /_sim/bucket-region/BUCKET/REGION` | `{}`; the bucket is in that region |
//! | `POST /_sim/paper/GROUP` with a pattern | changes how attempts on the group's paper instances go |
//! | `POST /_sim/parameters {"name", "value", "type"}` | puts a parameter (SecureString by default) |
//! | `POST /_sim/instances/ID/terminate`, `cut`, `restore`, `reboot`, `stop-agent`, `start-agent`, `kill-agent` | `{}` |
//! | `POST /_sim/instances/ID/exec {"argv": […]}` | `{"code", "stdout", "stderr"}` |
//! | `POST /_sim/instances/ID/lifecycle {"name"}` | `{}`; until `{"name": null}` Auto Scaling shows this name as the instance's lifecycle state, such as `ReplacingRootVolume`, and refuses to move it to or from standby |
//! | `POST /_sim/aws/autoscaling/ACTION`, `…/elasticloadbalancing/ACTION` with the call's parameters | an operator's call, unsigned and met by no limit or fault: its answer as JSON, or status 400 with `{"error": {"code", "message"}}` |
//! | `POST /_sim/faults`, `GET /_sim/faults`, `DELETE /_sim/faults[/ID]` | orders, lists, clears faults |
//! | `GET /_sim/audit?after=N` | `{"calls": [{"seq", "at", "service", "action", "mutating", "params", "status", "error_code", "request_id", "fault"}]}` |
//! | `GET /_sim/events?after=N` | `{"events": [{"seq", "at", "instance", "kind", "detail"}]}` |
//!
//! A group with `"paper": true` consists of instances without processes (see [`paper`]), by thousands; `"paper_pattern"` says
//! how attempts on them go: `download_seconds`, `hook_seconds`, `lines`, `failing_instances`, `failing_attempts`. Of the
//! verbs they have `terminate`, `cut`, `restore`, `stop-agent` and `start-agent`.
//!
//! Times (`at`) are milliseconds since the Unix epoch. In the audit log, status 0 is a response lost on purpose; calls
//! through `/_sim/aws` are left out of it, so that it holds what the tested program did and nothing else.
//! Event kinds: `instance-launched`, `instance-launch-failed`, `instance-booted` (user-data has run),
//! `instance-pending-wait` (`hooks`: each one's `hook` and `token`), `lifecycle-action` (`hook`, `result`, `by`: `call`
//! or `timeout`; a deleted hook's actions end by `call`), `instance-pending-proceed`, `instance-in-service`,
//! `instance-entering-standby`, `instance-standby`, `instance-exiting-standby`, `instance-unhealthy`,
//! `instance-terminating`, `instance-terminated`, `instance-killed`, `instance-reboot`, `network-cut`,
//! `network-restored`, `agent-online`, `target-state` (`target_group`, `from`, `to`, `reason`; the end of a drain is
//! `to: "unused"`), `command-delivered`, `command-started`, `command-ended` (`command_id`, `status`,
//! `exit_code`, `started_at`, `ended_at`), `balancer-failure` (a 5xx made by the balancer, or a
//! response broken off by its target: `target_group`, `status`, `method`, `path`, `upgraded`, `why`), `request-cut` (still
//! going on when the deregistration delay ended), `fault`.
//!
//! # Faults
//! `{"kind", "match": {"action", "instance"}, "times": 1, "probability": 1.0, …}` answers `{"id", "instance"}`. An absent
//! `match` field matches all; `instance` may be `"random"`: one in service, chosen with the run's seed. `seconds` are the
//! cloud's, divided by the time scale. GitHub's actions are named `GetRepository`, `ListCommits`, `GetCommit`,
//! `GetBranch`, `GetRef`, `Compare`, `GetContents`, `GetTarball`, `DownloadTarball`.
//! Met by the next calls that match, `times` times:
//! - `throttle`: the service's throttling error; `error` (`status`, `code`, `message`): any other;
//! - `lose-response`: the call takes effect, then the connection closes without an answer;
//! - `delay-visibility` (`seconds`): the command sent by the next SendCommand is missing from ListCommands that long;
//! - `invalid-instance`: SendCommand answers InvalidInstanceId;
//! - `undeliverable`: the command ends Undeliverable on the instance;
//! - `delivery-delay` (`seconds`): the command reaches the agent that much later;
//! - `download-fail`: an archive's download answers 502;
//! - `stale-read` (`seconds`): DescribeAutoScalingGroups or DescribeTargetHealth answers what was true that long ago (as far
//!   as it was asked since the first such fault was posted);
//! - `partial-read`: the same two leave out `match.instance`; without one, all groups or all targets.
//!
//! Carried out at once, on `match.instance`:
//! - `agent-offline`, `network-cut`, `health-fail` (the check answers 503), `health-slow` (it times out), each for
//!   `seconds` (30 by default);
//! - `hook-exit` (`event`, `exit`: 1 by default, `message`, `times`): arms the `sim-fault` command inside the instance, which
//!   a hook calls with its lifecycle event; it then says `message` and ends with `exit`;
//! - `terminate-instance`.
//!
//! # Time
//! AWS's ranges are checked on the values as given; the cloud's own waits are then divided by `--time-scale`. A health
//! check always has 750 ms, and the empty list right after SendCommand lasts 50 ms at least.
//!
//! # Where it departs from AWS
//! - A command that was never acknowledged is DeliveryTimedOut after TimeoutSeconds, one that was after TimeoutSeconds and
//!   executionTimeout together.
//! - An instance is in service 1 s after its process tree runs, whether or not its user-data has ended, as an EC2 instance
//!   would be; health checks then decide. Standby is reached when the drain is over.
//! - Target states `unhealthy.draining` and `unavailable` and StatusDetails `Delayed` don't occur. ExitStandby past
//!   MaxSize is refused.
//! - A group's launch hooks are looked at when a new instance's process tree runs. Hooks on terminations are kept and
//!   listed, and have no effect. No hook notifies anybody: the tokens are in the event `instance-pending-wait`.
//! - An instance refresh is in progress until it is cancelled, at once, and replaces nothing. A warm pool is described
//!   and holds no instance.
//! - An instance's root lacks the capabilities that reach beyond it (mounts, modules, devices, the clock): a real one has them.
//! - Request limits other than ELBv2's Describe* are assumptions; see [`throttle`].
//! - There are no alarms, scheduled actions or IAM: every signed call is allowed.

pub mod account;
mod agent_api;
pub mod audit;
pub mod autoscaling;
mod aws;
pub mod balancer;
mod balancing;
pub mod clock;
pub mod cloud;
pub mod cloudwatch;
mod control;
mod effect;
pub mod elb;
pub mod faults;
pub mod github;
mod github_api;
mod iam;
pub mod instance;
mod instance_state;
pub mod load;
pub mod objects;
mod outages;
pub mod paper;
mod perform;
pub mod reads;
mod s3;
pub mod sample;
pub mod server;
pub mod ssm;
pub mod state;
pub mod throttle;
mod tick;
pub mod wire;
pub mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use account::REGION;
use cloud::{Cloud, Secrets};
use github::{GitHub, RepositorySpec};
use state::State;
use wire::sigv4::Keys;
use world::World;

/// The arguments that a simulated cloud is started with.
#[derive(Clone, Debug)]
pub struct SimSpec {
    /// Where the API is served; loopback only.
    pub listen: SocketAddr,
    /// The directory in which the instances' files are kept.
    pub data: PathBuf,
    /// Git repositories served as GitHub's.
    pub repositories: Vec<RepositorySpec>,
    /// Git repositories that are forks of those: `name` is the parent's.
    pub forks: Vec<RepositorySpec>,
    /// The groups and target groups that exist at the start.
    pub world: World,
    /// What the cloud's own waits are divided by.
    pub time_scale: f64,
    /// The seed of all random choices.
    pub seed: u64,
    /// The loopback addresses that instances can reach.
    pub reach: Vec<SocketAddr>,
    /// Whether instances have this machine's network instead of networks of their own.
    pub share_network: bool,
}

/// A running simulated cloud.
pub struct Sim {
    /// The cloud itself.
    pub cloud: Arc<Cloud>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sim {
    /// Starts a cloud; an error says which argument was wrong or which address is taken.
    pub async fn start(spec: SimSpec) -> anyhow::Result<Self> {
        anyhow::ensure!(
            spec.listen.ip().is_loopback(),
            "the simulated cloud runs scripts that it is sent, so it listens on loopback only, not on {}: use 127.0.0.1",
            spec.listen.ip()
        );
        if let Some(far) = spec.reach.iter().find(|a| !a.ip().is_loopback()) {
            anyhow::bail!("instances may reach loopback addresses only, not {far}");
        }
        anyhow::ensure!(
            spec.time_scale.is_finite() && (0.01..=1000.0).contains(&spec.time_scale),
            "a time scale of {} makes no sense: use one between 0.01 and 1000",
            spec.time_scale
        );
        std::fs::create_dir_all(spec.data.join("instances"))
            .with_context(|| format!("can't create the data directory {}", spec.data.display()))?;
        let data = spec.data.canonicalize().with_context(|| format!("can't open {}", spec.data.display()))?;
        let github = GitHub::open(&spec.repositories, &spec.forks).await?;
        let listener = tokio::net::TcpListener::bind(spec.listen)
            .await
            .with_context(|| format!("can't listen on {}: is the port in use?", spec.listen))?;
        let address = listener.local_addr().context("can't tell the address that is listened on")?;
        let secrets = Secrets {
            keys: Keys { id: format!("AKIASIM{}", secret(7).to_uppercase()), secret: secret(20) },
            token: secret(16),
            github: format!("ghs_{}", secret(18)),
            agent: secret(16),
        };
        let mut state = State::new(spec.time_scale, spec.seed);
        state.share_network = spec.share_network;
        state.reach = spec.reach;
        let cloud =
            Cloud::new(state, github, secrets, address, data, paper::Uplink::new()?, perform::perform);
        let made = cloud.with(|s| s.create_world(spec.world));
        made.map_err(|e| anyhow::anyhow!("the world description can't be carried out: {}", e.message))?;
        let tasks = vec![
            tokio::spawn(Arc::clone(&cloud).run()),
            tokio::spawn(server::serve(Arc::clone(&cloud), listener)),
        ];
        Ok(Self { cloud, tasks })
    }

    /// Returns the document that tells callers the address and the credentials.
    pub fn ready(&self) -> Value {
        let secrets = &self.cloud.secrets;
        json!({"ready": {
            "url": self.cloud.url(),
            "token": secrets.token,
            "access_key_id": secrets.keys.id,
            "secret_access_key": secrets.keys.secret,
            "region": REGION,
            "github_token": secrets.github,
        }})
    }

    /// Shuts everything down, all instances included.
    pub async fn shut_down(self) {
        self.cloud.shut_down().await;
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Makes a random secret of this many bytes, in hexadecimal.
fn secret(bytes: usize) -> String {
    hex::encode((0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<u8>>())
}
