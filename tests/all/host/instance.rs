use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_boots_runs_user_data_once_and_keeps_its_files_over_a_reboot() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let mut spec = spec(&dir, "i-0123456789abcdef0", &cloud);
    spec.user_data = Some("#!/bin/sh\necho data $FLAVOUR\necho run >>/opt/user-data-runs\n".into());
    let host = Host::launch(spec).await.unwrap();
    println!("limits: {:?}", host.limits());
    host.wait_booted().await;
    if host.limits().iter().any(|limit| limit.contains("DROVER_ROOT")) {
        // A plain folder has none of this.
        return;
    }
    assert_eq!(out(&host, "cat /var/log/user-data.log").await, "data plum");
    assert_eq!(out(&host, "ls -A /root /home | grep -v : | tr -d '\\n'").await, "");
    assert_eq!(out(&host, "id -u").await, "0");
    assert!(out(&host, "tr '\\0' ' ' </proc/1/cmdline").await.contains("sim-instance init"));
    assert_eq!(out(&host, "hostname || uname -n").await, out(&host, "cat /etc/hostname").await);
    assert_eq!(
        out(&host, "command -v drover; command -v sim-fault").await,
        "/usr/local/bin/drover\n/usr/local/bin/sim-fault"
    );
    // All the usual places can be written to.
    out(&host, "for d in /usr/local/bin /etc /opt /var/lib /var/log /srv /tmp /run /root /etc/cron.d; do
        [ -d $d ] || continue; echo x >$d/written || exit 1; done; rm /opt/written; useradd --help >/dev/null")
    .await;
    let boot = out(&host, "cat /proc/sys/kernel/random/boot_id").await;
    host.reboot().await.unwrap();
    assert_ne!(out(&host, "cat /proc/sys/kernel/random/boot_id").await, boot);
    assert_eq!(
        out(&host, "cat /opt/user-data-runs; ls /tmp/written 2>/dev/null || cat /etc/written").await,
        "run\nx"
    );
    assert!(!std::path::Path::new("/etc/written").exists());
    host.terminate().await;
    assert!(!host.running());
    assert!(host.exec(&["true"]).await.is_err());
    assert!(host.connect(80).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_instance_leaves_no_process() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-00000000000000d0d", &cloud)).await.unwrap();
    out(&host, "setsid sleep 98765 >/dev/null 2>&1 </dev/null &").await;
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0098765\0")
        })
    };
    eventually("the instance's process", async || alive().then_some(())).await;
    drop(host);
    eventually("its death", async || (!alive()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn armed_faults_fire_as_often_as_they_were_armed() {
    let (dir, cloud) = (tempfile::tempdir().unwrap(), Cloud::start().await);
    let host = Host::launch(spec(&dir, "i-0000000000000fa01", &cloud)).await.unwrap();
    host.arm_fault("AfterInstall", 3, "disk on fire", 2).await.unwrap();
    assert_eq!(sh(&host, "sim-fault ApplicationStart").await.code, 0);
    for _ in 0..2 {
        let failed = sh(&host, "sim-fault AfterInstall").await;
        assert_eq!((failed.code, failed.stderr.as_slice()), (3, b"disk on fire\n".as_slice()));
    }
    assert_eq!(sh(&host, "sim-fault AfterInstall").await.code, 0);
}
