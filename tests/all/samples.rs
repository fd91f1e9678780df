//! Applications in the shapes that CodeDeploy's users have, deployed as they are by `drover rehearse`.

use crate::ground::{DROVER, TURN};
use std::path::Path;
use tokio::process::Command;

/// What is stood in for: package managers, init systems, runtimes.
const STUBS: &str = "apt-get,yum,service,systemctl,npm,java,php,composer";

/// Runs `drover rehearse` on a sample; its exit code and what it printed.
async fn rehearse(sample: &str, more: &[&str]) -> (Option<i32>, String) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/samples");
    let mut command = Command::new(DROVER);
    command.args(["rehearse", "--stub", STUBS, "--repo"]).arg(samples.join(sample)).args(more);
    let output = command.current_dir(&samples).kill_on_drop(true).output().await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// What stands in the text, in this order.
fn says(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at =
            rest.find(word).unwrap_or_else(|| panic!("'{word}' is missing, or not in its place, in\n{text}"));
        rest = &rest[at + word.len()..];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_site() {
    let _turn = TURN.acquire().await;
    let (code, text) = rehearse("static-site", &["--again"]).await;
    assert_eq!(code, Some(0), "{text}");
    says(
        &text,
        &[
            "BeforeInstall | stub: yum install -y nginx",
            "3 files are in their places",
            "stub: service nginx reload",
        ],
    );
}

/// Under systemd, with a user of its own; its scripts lack the run bit, their locations begin with a slash.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_service() {
    let _turn = TURN.acquire().await;
    let (code, text) = rehearse("node-service", &["--again"]).await;
    assert_eq!(code, Some(0), "{text}");
    says(
        &text,
        &[
            "warning: appspec.yml: hooks: AfterInstall: scripts/unit.sh: is not executable",
            "AfterInstall | stub: npm ci --omit=dev",
            "stub: systemctl restart orders",
            "ApplicationStop | stub: systemctl stop orders",
        ],
    );
}

/// The former version's stop script fails: it is tried again, then the new one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_java_service_whose_stop_script_fails() {
    let _turn = TURN.acquire().await;
    let (code, text) = rehearse("java-service", &["--former", "java-service.former"]).await;
    assert_eq!(code, Some(0), "{text}");
    says(
        &text,
        &[
            "ApplicationStop | drover: ApplicationStop of the running release failed with 1, once more",
            "failed with 1, trying the hooks of",
            "ApplicationStart | stub: java -jar /opt/ledger/ledger.jar",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_php_site_with_permissions() {
    let _turn = TURN.acquire().await;
    let (code, text) = rehearse("php-site", &["--again"]).await;
    assert_eq!(code, Some(0), "{text}");
    says(
        &text,
        &[
            "stub: composer install",
            "stub: php /var/www/shop/artisan migrate --force",
            "stub: systemctl reload php-fpm",
        ],
    );
}

/// The author's own folders are out of sight, the machine out of reach, and nothing of his environment is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_can_harm_nobody() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("evil");
    std::fs::create_dir_all(repository.join("hooks")).unwrap();
    let outside = directory.path().join("precious");
    std::fs::write(&outside, "untouched").unwrap();
    let script = format!(
        "#!/bin/sh\necho \"home: $(ls -A /home /root | tr '\\n' ' ')\"\nls {0} || echo 'not in sight'\ntouch /etc/drover-was-here /opt/drover-was-here\n\
         mount -t tmpfs none /opt 2>/dev/null || echo 'no mount'\nmknod /tmp/sda b 8 0 2>/dev/null || echo 'no device'\n\
         env | grep -c AUTHORS_SECRET\ncurl -sS -m 3 http://192.0.2.1/ 2>/dev/null || echo 'no network'\n",
        directory.path().display()
    );
    std::fs::write(repository.join("hooks/BeforeInstall"), script).unwrap();
    let mut command = Command::new(DROVER);
    command.args(["rehearse", "--repo"]).arg(&repository).env("AUTHORS_SECRET", "x").kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    says(&text, &["home: /home: ", "not in sight", "no mount", "no device", "| 0\n", "no network"]);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
    for trace in ["/etc/drover-was-here", "/opt/drover-was-here"] {
        assert!(!Path::new(trace).exists(), "{trace}");
    }
}

/// With `--network` hooks reach what the machine reaches, and can still do nothing to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_with_the_machines_network() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("downloads");
    std::fs::create_dir_all(repository.join("hooks")).unwrap();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            use std::io::Write as _;
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nthere");
        }
    });
    let script = format!(
        "#!/bin/sh\ncurl -sS -m 5 http://{address}/; echo\nip link add x type dummy 2>/dev/null || echo 'no link'\n\
         echo 1 >/proc/sys/net/ipv4/ip_forward 2>/dev/null || echo 'no setting'\n"
    );
    std::fs::write(repository.join("hooks/BeforeInstall"), script).unwrap();
    let mut command = Command::new(DROVER);
    command.args(["rehearse", "--network", "--repo"]).arg(&repository).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    says(&text, &["BeforeInstall | there", "no link", "no setting"]);
}
