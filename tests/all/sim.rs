//! The simulated cloud as its callers see it: the production SDK clients against a `drover sim` process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_autoscaling::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::{CommandFilter, CommandFilterKey};
use serde_json::{Value, json};

/// A `drover sim` process with clients for it; dropping it ends it.
struct Cloud {
    child: Child,
    ready: Value,
    autoscaling: aws_sdk_autoscaling::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    ssm: aws_sdk_ssm::Client,
    http: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A service from user-data that answers 200 on port 80.
const SERVICE: &str = "#!/bin/sh\nmkdir -p /srv/release\necho 1 >/srv/release/VERSION\n\
    setsid drover sample-service --port 80 --release /srv/release >/var/log/sample.log 2>&1 </dev/null &\n";

impl Cloud {
    async fn start(args: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_drover"))
            .args(["sim", "--time-scale", "10", "--data"])
            .arg(data.path())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str::<Value>(&line).unwrap()["ready"].clone();
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        let (id, secret) = (text("access_key_id"), text("secret_access_key"));
        let keys = aws_credential_types::Credentials::new(id, secret, None, None, "test");
        let config = aws_config::SdkConfig::builder()
            .endpoint_url(text("url"))
            .region(aws_config::Region::new(text("region")))
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(keys))
            .behavior_version(aws_config::BehaviorVersion::latest())
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build();
        Self {
            autoscaling: aws_sdk_autoscaling::Client::new(&config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            http: reqwest::Client::new(),
            child,
            ready,
            _data: data,
        }
    }

    async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.ready["url"].as_str().unwrap());
        let request = self.http.request(method.parse().unwrap(), url);
        let request = request.bearer_auth(self.ready["token"].as_str().unwrap());
        let request = if method == "GET" { request } else { request.json(&body) };
        request.send().await.unwrap().json().await.unwrap()
    }

    /// A group of `size` instances behind a balancer, all of them healthy; the balancer's address and the ids.
    async fn fleet(&self, size: u64) -> (String, Vec<String>) {
        let world = json!({
            "target_groups": [{
                "name": "web", "port": 80, "deregistration_delay": 10,
                "health_check": {"path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2},
            }],
            "groups": [{
                "name": "web", "min": 1, "max": 9, "desired": size, "target_groups": ["web"],
                "health_check_type": "ELB", "grace": 60, "user_data": SERVICE,
            }],
        });
        let made = self.control("POST", "world", world).await;
        let url = made["target_groups"][0]["url"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        self.until("all targets are healthy and all agents are there", async || {
            let world = self.control("GET", "world", Value::Null).await;
            let targets = world["target_groups"][0]["targets"].as_array().unwrap().clone();
            let agents = world["groups"][0]["instances"].as_array().unwrap().clone();
            targets.len() as u64 == size
                && targets.iter().all(|t| t["state"] == "healthy")
                && agents.iter().all(|i| i["agent_seen"] == true)
        })
        .await;
        let world = self.control("GET", "world", Value::Null).await;
        let instances = world["groups"][0]["instances"].as_array().unwrap().clone();
        (url, instances.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect())
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds().await {
            if Instant::now() > deadline {
                let events = self.control("GET", "events", Value::Null).await;
                panic!("waited 60 s until {what}; events: {events:#}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The instance's lifecycle state as Auto Scaling shows it.
    async fn lifecycle(&self, id: &str) -> String {
        let answer =
            self.autoscaling.describe_auto_scaling_instances().instance_ids(id).send().await.unwrap();
        answer.auto_scaling_instances().first().and_then(|i| i.lifecycle_state()).unwrap_or("gone").to_owned()
    }

    /// What the cloud itself says of a member of its first group.
    async fn member(&self, id: &str) -> Value {
        let world = self.control("GET", "world", Value::Null).await;
        let members = world["groups"][0]["instances"].as_array().cloned().unwrap_or_default();
        members.into_iter().find(|i| i["id"] == id).unwrap_or_default()
    }

    /// The instance that waits for a launch hook, if there is one.
    async fn waiting(&self) -> Option<String> {
        let world = self.control("GET", "world", Value::Null).await;
        let members = world["groups"][0]["instances"].as_array().cloned().unwrap_or_default();
        let waits = members.iter().find(|i| i["lifecycle"] == "Pending:Wait")?;
        waits["id"].as_str().map(str::to_owned)
    }

    /// Completes an instance's action of the hook `deploy`; a refusal is its code and message.
    async fn complete(&self, id: &str, result: &str) -> Result<(), String> {
        let call = self.autoscaling.complete_lifecycle_action().auto_scaling_group_name("web");
        let call = call.lifecycle_hook_name("deploy").instance_id(id).lifecycle_action_result(result);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) => Err(format!("{}: {}", e.code().unwrap_or_default(), e.message().unwrap_or_default())),
        }
    }

    /// The state and reason of one target; `absent` where it isn't listed.
    async fn target(&self, arn: &str, id: &str) -> (String, String) {
        let answer = self.elb.describe_target_health().target_group_arn(arn).send().await.unwrap();
        let found = answer
            .target_health_descriptions()
            .iter()
            .find(|d| d.target().and_then(|t| t.id()) == Some(id))
            .and_then(|d| d.target_health().cloned());
        match found {
            None => ("absent".to_owned(), String::new()),
            Some(h) => (
                h.state().map(|s| s.as_str().to_owned()).unwrap_or_default(),
                h.reason().map(|r| r.as_str().to_owned()).unwrap_or_default(),
            ),
        }
    }

    async fn send(&self, ids: &[String], script: &str) -> Result<String, String> {
        let sent = self
            .ssm
            .send_command()
            .document_name("AWS-RunShellScript")
            .set_instance_ids(Some(ids.to_vec()))
            .parameters("commands", vec![script.to_owned()])
            .comment("a test")
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(answer.command().unwrap().command_id().unwrap().to_owned()),
            Err(e) => Err(e.code().unwrap_or("no code").to_owned()),
        }
    }

    async fn status(&self, command: &str, id: &str) -> String {
        let answer = self.ssm.list_command_invocations().command_id(command).send().await.unwrap();
        answer
            .command_invocations()
            .iter()
            .find(|i| i.instance_id() == Some(id))
            .and_then(|i| i.status_details())
            .unwrap_or("absent")
            .to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_leaves_and_comes_back_and_runs_a_command() {
    let cloud = Cloud::start(&[]).await;
    let (url, ids) = cloud.fleet(2).await;
    let id = ids[0].clone();
    let groups = cloud.autoscaling.describe_auto_scaling_groups().send().await.unwrap();
    let group = &groups.auto_scaling_groups()[0];
    assert_eq!((group.desired_capacity(), group.instances().len()), (Some(2), 2));
    let arn = group.target_group_arns()[0].clone();
    assert_eq!(cloud.target(&arn, &id).await.0, "healthy");
    assert!(cloud.http.get(format!("{url}/")).send().await.unwrap().status().is_success());

    // Standby: first draining, as long as the deregistration delay, then gone; desired shrinks.
    let entering = cloud.autoscaling.enter_standby().auto_scaling_group_name("web").instance_ids(&id);
    entering.should_decrement_desired_capacity(true).send().await.unwrap();
    assert_eq!(cloud.lifecycle(&id).await, "EnteringStandby");
    assert_eq!(
        cloud.target(&arn, &id).await,
        ("draining".to_owned(), "Target.DeregistrationInProgress".to_owned())
    );
    cloud.until("it is in standby", async || cloud.lifecycle(&id).await == "Standby").await;
    assert_eq!(cloud.target(&arn, &id).await.0, "absent");
    let again = cloud.autoscaling.enter_standby().auto_scaling_group_name("web").instance_ids(&id);
    let error = again.should_decrement_desired_capacity(true).send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationError"));

    // A command: nothing is seen of it right after sending; output only after the end.
    let command = cloud
        .send(std::slice::from_ref(&id), "echo out; echo err >&2; echo $AWS_SSM_INSTANCE_ID; exit 3")
        .await
        .unwrap();
    let early = cloud.ssm.get_command_invocation().command_id(&command).instance_id(&id).send().await;
    assert_eq!(early.unwrap_err().code(), Some("InvocationDoesNotExist"));
    cloud.until("the command has failed", async || cloud.status(&command, &id).await == "Failed").await;
    let got = cloud.ssm.get_command_invocation().command_id(&command).instance_id(&id).send().await.unwrap();
    assert_eq!(got.response_code(), 3);
    assert_eq!(got.standard_output_content(), Some(format!("out\n{id}\n").as_str()));
    assert!(got.standard_error_content().unwrap().starts_with("err"));
    let filter =
        CommandFilter::builder().key(CommandFilterKey::InvokedAfter).value("2020-01-01T00:00:00Z").build();
    let listed = cloud.ssm.list_commands().filters(filter.unwrap()).send().await.unwrap();
    assert_eq!(listed.commands()[0].comment(), Some("a test"));

    let leaving = cloud.autoscaling.exit_standby().auto_scaling_group_name("web").instance_ids(&id);
    leaving.send().await.unwrap();
    assert_eq!(cloud.lifecycle(&id).await, "Pending");
    cloud.until("it is healthy again", async || cloud.target(&arn, &id).await.0 == "healthy").await;
    assert_eq!(cloud.lifecycle(&id).await, "InService");

    let audit = cloud.control("GET", "audit", Value::Null).await;
    let calls = audit["calls"].as_array().unwrap();
    let sent = calls.iter().find(|c| c["action"] == "SendCommand").unwrap();
    assert_eq!((&sent["mutating"], &sent["status"]), (&json!(true), &json!(200)));
    assert_eq!(sent["params"]["InstanceIds"], json!([id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_instance_is_replaced_and_no_longer_commanded() {
    let cloud = Cloud::start(&[]).await;
    let (_, ids) = cloud.fleet(2).await;
    cloud.control("POST", &format!("instances/{}/terminate", ids[0]), json!({})).await;
    assert_eq!(
        cloud.send(&[ids[0].clone(), ids[1].clone()], "true").await,
        Err("InvalidInstanceId".to_owned())
    );
    cloud
        .until("another one has taken its place", async || {
            let world = cloud.control("GET", "world", Value::Null).await;
            let instances = world["groups"][0]["instances"].as_array().unwrap().clone();
            instances.len() == 2
                && instances.iter().all(|i| i["id"] != json!(ids[0]) && i["lifecycle"] == "InService")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_waits_for_its_groups_launch_hook() {
    let cloud = Cloud::start(&[]).await;
    let world = json!({
        "target_groups": [{
            "name": "web", "port": 80, "deregistration_delay": 10,
            "health_check": {"path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2},
        }],
        "groups": [{
            "name": "web", "max": 4, "desired": 1, "target_groups": ["web"], "user_data": SERVICE,
            "lifecycle_hooks": [{"name": "deploy", "heartbeat_timeout": 1800}],
        }],
    });
    let made = cloud.control("POST", "world", world).await;
    assert_eq!(made["groups"][0]["hooks"], json!(["deploy"]), "{made}");
    let arn = made["target_groups"][0]["arn"].as_str().unwrap().to_owned();
    let id = made["groups"][0]["instances"][0]["id"].as_str().unwrap().to_owned();
    cloud.until("it waits for the hook", async || cloud.lifecycle(&id).await == "Pending:Wait").await;

    // Its agent takes commands, no balancer knows it.
    cloud.until("its agent is there", async || cloud.member(&id).await["agent_seen"] == true).await;
    let command = cloud.send(std::slice::from_ref(&id), "echo there").await.unwrap();
    cloud.until("the command has run", async || cloud.status(&command, &id).await == "Success").await;
    let heartbeat = cloud.autoscaling.record_lifecycle_action_heartbeat().auto_scaling_group_name("web");
    heartbeat.lifecycle_hook_name("deploy").instance_id(&id).send().await.unwrap();
    assert_eq!(cloud.lifecycle(&id).await, "Pending:Wait");
    assert_eq!(cloud.target(&arn, &id).await.0, "absent");

    cloud.complete(&id, "CONTINUE").await.unwrap();
    cloud.until("it is healthy", async || cloud.target(&arn, &id).await.0 == "healthy").await;
    assert_eq!(cloud.lifecycle(&id).await, "InService");
    let none = format!("ValidationError: No active Lifecycle Action found with instance ID {id}");
    assert_eq!(cloud.complete(&id, "CONTINUE").await, Err(none));

    // Another one, wanted by an operator, is abandoned: a third takes its place.
    let wanted = json!({"AutoScalingGroupName": "web", "DesiredCapacity": 2});
    assert_eq!(cloud.control("POST", "aws/autoscaling/SetDesiredCapacity", wanted).await, json!({}));
    cloud.until("another one waits", async || cloud.waiting().await.is_some()).await;
    let second = cloud.waiting().await.unwrap();
    cloud.complete(&second, "ABANDON").await.unwrap();
    cloud.until("it is gone", async || cloud.lifecycle(&second).await == "gone").await;
    cloud.until("a third one waits", async || cloud.waiting().await.is_some_and(|w| w != second)).await;
    assert_eq!(cloud.lifecycle(&id).await, "InService");

    // What an operator does leaves no line in the audit log.
    let asked = json!({"TargetGroupArn": arn});
    let health = cloud.control("POST", "aws/elasticloadbalancing/DescribeTargetHealth", asked).await;
    assert_eq!(health["TargetHealthDescriptions"][0]["Target"]["Id"], json!(id));
    let refused = cloud.control("POST", "aws/autoscaling/SetDesiredCapacity", json!({})).await;
    assert_eq!(refused["error"]["code"], "ValidationError");
    let audit = cloud.control("GET", "audit", Value::Null).await;
    let actions: Vec<&str> =
        audit["calls"].as_array().unwrap().iter().filter_map(|c| c["action"].as_str()).collect();
    assert!(actions.contains(&"CompleteLifecycleAction") && !actions.contains(&"SetDesiredCapacity"));

    let shown = format!("instances/{id}/lifecycle");
    cloud.control("POST", &shown, json!({"name": "ReplacingRootVolume"})).await;
    assert_eq!(cloud.lifecycle(&id).await, "ReplacingRootVolume");
    cloud.control("POST", &shown, json!({"name": null})).await;
    assert_eq!(cloud.lifecycle(&id).await, "InService");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_strike_once_and_are_named_in_the_audit_log() {
    let cloud = Cloud::start(&[]).await;
    let (_, ids) = cloud.fleet(1).await;
    for (fault, code) in [
        (json!({"kind": "throttle", "match": {"action": "SendCommand"}}), "ThrottlingException"),
        (
            json!({"kind": "error", "match": {"action": "SendCommand"}, "status": 503, "code": "ServiceUnavailable"}),
            "ServiceUnavailable",
        ),
        (json!({"kind": "invalid-instance", "match": {"instance": ids[0]}}), "InvalidInstanceId"),
        (json!({"kind": "lose-response", "match": {"action": "SendCommand"}}), "no code"),
    ] {
        cloud.control("POST", "faults", fault).await;
        assert_eq!(cloud.send(&ids, "true").await, Err(code.to_owned()));
    }
    // The response was lost, the effect was not.
    cloud
        .until("the command is listed", async || {
            !cloud.ssm.list_commands().send().await.unwrap().commands().is_empty()
        })
        .await;
    let audit = cloud.control("GET", "audit", Value::Null).await;
    let struck: Vec<&Value> =
        audit["calls"].as_array().unwrap().iter().map(|c| &c["fault"]).filter(|f| !f.is_null()).collect();
    assert_eq!(struck, [&json!("throttle"), &json!("error"), &json!("lose-response")]);
    assert!(cloud.send(&ids, "true").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_wrong_keys_are_refused_in_each_protocols_form() {
    let cloud = Cloud::start(&[]).await;
    let mut codes = Vec::new();
    for _ in 0..60 {
        if let Err(e) = cloud.elb.describe_target_groups().send().await {
            codes.push(e.code().unwrap_or_default().to_owned());
        }
    }
    assert!(codes.iter().all(|c| c == "Throttling"), "{codes:?}");
    let url = cloud.ready["url"].as_str().unwrap();
    let unsigned = cloud
        .http
        .post(url)
        .body("Action=DescribeAutoScalingGroups&Version=2011-01-01")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 403);
    assert!(unsigned.text().await.unwrap().contains("<Code>MissingAuthenticationToken</Code>"));
    let foreign = cloud.http.get(url).header("host", "example.com").send().await.unwrap();
    assert_eq!(foreign.status(), 421);
    let open = cloud.http.get(format!("{url}/_sim/audit")).send().await.unwrap();
    assert_eq!(open.status(), 401);
    let error = cloud
        .autoscaling
        .describe_instance_refreshes()
        .auto_scaling_group_name("none")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ValidationError"));
}

/// Runs git in `dir` with a fixed identity.
fn git(dir: &std::path::Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main", "-C"])
        .arg(dir)
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn github_answers_as_octocrab_expects() {
    let dir = tempfile::tempdir().unwrap();
    let (parent, fork) = (dir.path().join("parent"), dir.path().join("fork"));
    std::fs::create_dir(&parent).unwrap();
    git(&parent, &["init", "-q"]);
    std::fs::write(parent.join("appspec.yml"), "version: 0.0\n").unwrap();
    git(&parent, &["add", "."]);
    git(&parent, &["commit", "-qm", "one"]);
    let one = git(&parent, &["rev-parse", "HEAD"]);
    git(dir.path(), &["clone", "-q", "parent", "fork"]);
    git(&parent, &["commit", "-q", "--allow-empty", "-m", "two"]);
    git(&parent, &["tag", "-a", "v2", "-m", "v2"]);
    let two = git(&parent, &["rev-parse", "HEAD"]);
    git(&fork, &["commit", "-q", "--allow-empty", "-m", "of the fork"]);
    let foreign = git(&fork, &["rev-parse", "HEAD"]);

    let (repo, forked) = (format!("o/r={}", parent.display()), format!("o/r={}", fork.display()));
    let cloud = Cloud::start(&["--repo", &repo, "--fork", &forked]).await;
    let crab = octocrab::Octocrab::builder()
        .base_uri(cloud.ready["url"].as_str().unwrap())
        .unwrap()
        .personal_token(cloud.ready["github_token"].as_str().unwrap().to_owned())
        .build()
        .unwrap();
    for (reference, sha) in
        [("main", &two), ("v2", &two), (one.as_str(), &one), (&one[..7], &one), (&foreign, &foreign)]
    {
        let commit: octocrab::models::repos::RepoCommit =
            crab.get(format!("/repos/o/r/commits/{reference}"), None::<&()>).await.unwrap();
        assert_eq!(&commit.sha, sha, "{reference}");
    }
    for (range, status) in [
        (format!("{two}...{one}"), "behind"),
        (format!("{one}...{two}"), "ahead"),
        (format!("main...{two}"), "identical"),
        (format!("main...{foreign}"), "diverged"),
    ] {
        let compared: octocrab::models::commits::CommitComparison =
            crab.get(format!("/repos/o/r/compare/{range}"), None::<&()>).await.unwrap();
        assert_eq!(serde_json::to_value(&compared.status).unwrap(), status, "{range}");
    }
    let missing = "/repos/o/r/commits/0123456789012345678901234567890123456789";
    let error = crab.get::<Value, _, _>(missing, None::<&()>).await.unwrap_err();
    let octocrab::Error::GitHub { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.status_code, 422);
    assert!(source.message.starts_with("No commit found for SHA"));

    let url = format!("{}/repos/o/r/tarball/{one}", cloud.ready["url"].as_str().unwrap());
    let token = cloud.ready["github_token"].as_str().unwrap();
    cloud.control("POST", "faults", json!({"kind": "download-fail"})).await;
    assert_eq!(cloud.http.get(&url).bearer_auth(token).send().await.unwrap().status(), 502);
    let archive = cloud.http.get(&url).bearer_auth(token).send().await.unwrap().bytes().await.unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&archive[..]));
    let paths: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert!(paths.contains(&format!("o-r-{}/appspec.yml", &one[..7])), "{paths:?}");
    let denied = cloud.http.get(&url).send().await.unwrap();
    assert_eq!(denied.status(), 401);
}

#[test]
fn any_address_but_loopback_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(["sim", "--listen", "0.0.0.0:0", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback only"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_an_agent_that_is_away() {
    let cloud = Cloud::start(&[]).await;
    let (_, ids) = cloud.fleet(1).await;
    let id = &ids[0];
    for kind in ["agent-offline", "network-cut"] {
        cloud
            .control("POST", "faults", json!({"kind": kind, "match": {"instance": id}, "seconds": 15}))
            .await;
        let command = cloud.send(&ids, "echo there").await.unwrap();
        cloud.until("the command is listed", async || cloud.status(&command, id).await != "absent").await;
        assert_eq!(cloud.status(&command, id).await, "Pending", "{kind}");
        cloud.until("it has run", async || cloud.status(&command, id).await == "Success").await;
    }
    cloud.control("POST", "faults", json!({"kind": "undeliverable"})).await;
    let command = cloud.send(&ids, "true").await.unwrap();
    cloud.until("it is given up", async || cloud.status(&command, id).await == "Undeliverable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_target_is_marked_and_recovers() {
    let cloud = Cloud::start(&[]).await;
    let (_, ids) = cloud.fleet(2).await;
    let suspend = cloud.autoscaling.suspend_processes().auto_scaling_group_name("web");
    suspend.scaling_processes("ReplaceUnhealthy").send().await.unwrap();
    let groups = cloud.autoscaling.describe_auto_scaling_groups().send().await.unwrap();
    let arn = groups.auto_scaling_groups()[0].target_group_arns()[0].clone();
    for (kind, reason) in [("health-fail", "Target.ResponseCodeMismatch"), ("health-slow", "Target.Timeout")]
    {
        let fault = json!({"kind": kind, "match": {"instance": ids[0]}, "seconds": 40});
        cloud.control("POST", "faults", fault).await;
        cloud
            .until("the target is unhealthy", async || cloud.target(&arn, &ids[0]).await.0 == "unhealthy")
            .await;
        assert_eq!(cloud.target(&arn, &ids[0]).await.1, reason);
        cloud.until("it has recovered", async || cloud.target(&arn, &ids[0]).await.0 == "healthy").await;
    }
}
