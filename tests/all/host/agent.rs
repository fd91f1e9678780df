use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_runs_scripts_as_the_real_one_does() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-0000000000000a9e1", &cloud)).await.unwrap();
    cloud.online().await;
    assert_eq!(cloud.calls("hello")[0]["instance_id"], "i-0000000000000a9e1");

    cloud.run(
        "c-1",
        "#!/bin/bash\necho $AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME $SSM_COMMAND_ID $FLAVOUR ${BASH_VERSION:+bash}
echo to stderr >&2\nread x || echo no stdin\nenv | grep -c SIM_AGENT_TOKEN\nexit 7",
        3600,
    );
    let reply = cloud.reply("c-1").await;
    assert_eq!(reply["stdout"], "i-0000000000000a9e1 eu-central-1 c-1 plum bash\nno stdin\n0\n");
    let stderr = "to stderr\nfailed to run commands: exit status 7";
    assert_eq!((&reply["stderr"], &reply["status"]), (&stderr.into(), &"Failed".into()));
    assert_eq!(reply["exit_code"], 7);
    assert_eq!(cloud.calls("progress")[0]["status"], "InProgress");

    // A background child that holds stdout holds the command.
    cloud.run("c-2", "(sleep 1; echo late) &\necho early", 3600);
    assert_eq!(cloud.reply("c-2").await["stdout"], "early\nlate\n");

    cloud.run("c-3", "echo begun; sleep 500", 1);
    let reply = cloud.reply("c-3").await;
    assert_eq!((&reply["status"], &reply["exit_code"]), (&"TimedOut".into(), &137.into()));

    // It ended well, but a child of another session held its output past the time-out; and 168 is a success to the agent.
    cloud.run("c-5", "setsid sleep 4 &\nexit 0", 1);
    let reply = cloud.reply("c-5").await;
    assert_eq!((&reply["status"], &reply["exit_code"]), (&"Failed".into(), &1.into()));
    cloud.run("c-6", "exit 168", 3600);
    let reply = cloud.reply("c-6").await;
    assert_eq!((&reply["status"], &reply["exit_code"]), (&"Success".into(), &168.into()));

    cloud.run("c-4", "trap 'echo trapped' TERM\ntouch $DROVER_ROOT/tmp/c-4\nsetsid sleep 8642 >/dev/null 2>&1 &\nsleep 500", 3600);
    eventually("the script", async || {
        (sh(&host, "test -e $DROVER_ROOT/tmp/c-4").await.code == 0).then_some(())
    })
    .await;
    cloud.cancel("c-4");
    let reply = cloud.reply("c-4").await;
    assert_eq!((&reply["status"], &reply["stdout"]), (&"Cancelled".into(), &"".into()));
    out(&host, "grep -ql 8642 /proc/*/cmdline").await;

    // Five run, five wait, the rest is not taken; a waiting one can be cancelled.
    for number in 0..12 {
        cloud.run(
            &format!("many-{number}"),
            "until [ -e $DROVER_ROOT/tmp/go ]; do sleep 0.05; done; echo done",
            3600,
        );
    }
    eventually("ten taken", async || (cloud.calls("progress").len() == 16).then_some(())).await;
    let workers = "ls $DROVER_ROOT/var/lib/amazon/ssm/*/document/orchestration/many-*/worker.json | wc -l";
    eventually("five at work", async || (out(&host, workers).await == "5").then_some(())).await;
    out(&host, "touch $DROVER_ROOT/tmp/go").await;
    for number in 0..12 {
        assert_eq!(cloud.reply(&format!("many-{number}")).await["stdout"], "done\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_takes_running_commands_up_and_a_killed_one_loses_them() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-0000000000000a9e2", &cloud)).await.unwrap();
    cloud.run("r-1", "echo one\necho x >>$DROVER_ROOT/tmp/runs\nuntil [ -e $DROVER_ROOT/tmp/go ]; do sleep 0.05; done\necho two", 3600);
    eventually("the script", async || {
        (sh(&host, "test -e $DROVER_ROOT/tmp/runs").await.code == 0).then_some(())
    })
    .await;
    host.stop_agent().await.unwrap();
    out(&host, "touch $DROVER_ROOT/tmp/go").await;
    assert!(cloud.calls("reply").is_empty());
    host.start_agent().await.unwrap();
    let reply = cloud.reply("r-1").await;
    assert_eq!((&reply["stdout"], &reply["status"]), (&"one\ntwo\n".into(), &"Success".into()));
    assert_eq!(out(&host, "cat $DROVER_ROOT/tmp/runs").await, "x");

    cloud.run("r-2", "echo x >$DROVER_ROOT/tmp/second\nsleep 500", 3600);
    eventually("the script", async || {
        (sh(&host, "test -e $DROVER_ROOT/tmp/second").await.code == 0).then_some(())
    })
    .await;
    host.kill_agent().await.unwrap();
    let reply = cloud.reply("r-2").await;
    assert_eq!((&reply["status"], &reply["exit_code"]), (&"Failed".into(), &1.into()));
    assert!(reply["stderr"].as_str().unwrap().contains("document process failed unexpectedly"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_194_reboots_and_the_script_runs_again() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-0000000000000a9e3", &cloud)).await.unwrap();
    cloud.run("b-1", "[ -e $DROVER_ROOT/opt/seen ] && { echo again; exit 0; }\ntouch $DROVER_ROOT/opt/seen\necho first\nexit 194", 3600);
    eventually("the wish for a reboot", async || cloud.calls("reboot").pop()).await;
    host.reboot().await.unwrap();
    let reply = cloud.reply("b-1").await;
    assert_eq!((&reply["stdout"], &reply["status"]), (&"first\nagain\n".into(), &"Success".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_takes_the_agent_offline_and_a_restored_one_brings_it_back() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-0000000000000a9e4", &cloud)).await.unwrap();
    cloud.online().await;
    host.cut_network().await;
    cloud.run("n-1", "echo through", 3600);
    let quiet = eventually("silence", async || {
        let before = cloud.calls("poll").len() + cloud.calls("hello").len();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        (cloud.calls("poll").len() + cloud.calls("hello").len() == before).then_some(before)
    })
    .await;
    assert!(quiet > 0 && cloud.calls("reply").is_empty());
    host.restore_network().await;
    assert_eq!(cloud.reply("n-1").await["stdout"], "through\n");
}
