//! Revisions as people who come from CodeDeploy have them.

use crate::ground::{Play as _, Repository, TURN, policy, small, until};
use base64::Engine as _;
use drover::cli::demo::playground::{GROUP, Playground, Setup};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};
use warp::Filter as _;

/// Slashes before locations, keys that CodeDeploy passes over, a script without its run bit: deployed, with warnings in the
/// rehearsal and in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_codedeploy_takes_is_deployed_with_warnings() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let appspec = repository.path.join("appspec.yml");
    let text = fs::read_to_string(&appspec).unwrap();
    let odd = text.replace("location: hooks/", "location: /hooks/") + "branch_config:\n  main: production\n";
    assert_ne!(odd.len(), text.len());
    fs::write(&appspec, format!("\u{feff}{odd}")).unwrap();
    let script = repository.path.join("hooks/after-install");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    let target = repository.commit("5");
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    let plan = world.drover(&["plan", &target, "--group", GROUP]).await;
    let ran = world.drover(&["deploy", &target, "--group", GROUP, "--follow"]).await;
    assert_eq!((plan.code, ran.code), (0, 0), "{}\n{}\n{}", plan.stderr, ran.stdout, ran.stderr);
    for words in [
        "branch_config: this key is passed over",
        "hooks/after-install: is not executable: the host makes it so",
    ] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
        assert!(
            ran.stdout.contains("warning: appspec.yml:") && ran.stdout.contains(words),
            "{words}: {}",
            ran.stdout
        );
    }
    assert!(
        ran.stdout.contains("the hook hooks/after-install was not executable: made so"),
        "{}",
        ran.stdout
    );

    // The bundle by the link that the host had: whole, and from a byte on.
    let sent = world.calls("SendCommand").await;
    let spec = spec_of(sent.last().unwrap()["params"]["Parameters"]["commands"][0].as_str().unwrap());
    let value = |name: &str| {
        let line = spec.lines().find_map(|line| line.strip_prefix(&format!("D_{name}='"))).unwrap();
        line.trim_end_matches('\'').to_owned()
    };
    let get = async |range: &str| {
        let request = reqwest::Client::new().get(value("BUNDLE_URL")).header("range", range);
        let answer = request.header("authorization", value("BUNDLE_AUTH")).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    let (whole, from) = (get("bytes=0-").await, get("bytes=1000-").await);
    assert_eq!((whole.0, from.0), (206, 206));
    assert!(whole.1.len() > 1000 && from.1 == whole.1[1000..], "{} {}", whole.1.len(), from.1.len());
    world.stop().await;
}

/// What a command tells the runner.
fn spec_of(script: &str) -> String {
    let packed = script.split("printf %s '").last().unwrap().split('\'').next().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

/// `files` and `permissions` as CodeDeploy has them: copied, owned, cleaned up after; undone where a file is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_to_their_places_and_cleaned_up_after() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let appspec = repository.path.join("appspec.yml");
    let text = fs::read_to_string(&appspec).unwrap();
    let files = "files:\n  - source: /site/\n    destination: /srv/shop/\n  - source: VERSION\n    destination: /srv/shop/conf\n    overwrite: true\n\
                 permissions:\n  - object: /srv/shop\n    pattern: \"*.html\"\n    owner: nobody\n    mode: 640\n    type: [file]\n";
    fs::write(&appspec, format!("{text}{files}")).unwrap();
    fs::create_dir_all(repository.path.join("site/img")).unwrap();
    for (path, content) in [("index.html", "one"), ("img/logo", "logo"), ("old.html", "old")] {
        fs::write(repository.path.join("site").join(path), content).unwrap();
    }
    let one = repository.commit("5");
    fs::write(repository.path.join("site/index.html"), "two").unwrap();
    fs::remove_file(repository.path.join("site/old.html")).unwrap();
    let two = repository.commit("6");
    fs::write(repository.path.join("site/mine"), "theirs").unwrap();
    let three = repository.commit("7");
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    let instance = world.instances().await.unwrap().remove(0);
    let tree = async || {
        world
            .on(
                &instance,
                "cd /srv/shop && find . -type f | sort | while read f; do echo \"$f $(cat $f)\"; done",
            )
            .await
    };

    let ran = world.drover(&["deploy", &one, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("files: 2: overwrite: this key is passed over"), "{}", ran.stdout);
    assert_eq!(tree().await, "./conf/VERSION 5\n./img/logo logo\n./index.html one\n./old.html old\n");
    let modes = world.on(&instance, "cd /srv/shop && stat -c '%a %U' index.html img/logo").await;
    assert_eq!(modes, "640 nobody\n664 root\n");
    // What a person put there stays, and what the revision lacks goes.
    world.on(&instance, "echo by hand >/srv/shop/mine").await;
    let id = world.submit(&two).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    let wanted = "./conf/VERSION 6\n./img/logo logo\n./index.html two\n./mine by hand\n";
    assert_eq!(tree().await, wanted);
    // It is in the way of the next: nothing is changed, and the words say which and what to do.
    let ran = world.drover(&["deploy", &three, "--group", GROUP, "--follow"]).await;
    assert_ne!(ran.code, 0);
    let words = "/srv/shop/mine is there already, and no former revision brought it: remove it, or set file_exists_behavior";
    assert!(ran.stdout.contains(words), "{}", ran.stdout);
    assert_eq!(tree().await, wanted);
    // A way back is a deployment like any other.
    assert_eq!(world.drover(&["cancel", "3"]).await.code, 0);
    world.ended(3).await;
    world.on(&instance, "rm /srv/shop/mine").await;
    let id = world.submit(&one).await;
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    assert_eq!(tree().await, "./conf/VERSION 5\n./img/logo logo\n./index.html one\n./old.html old\n");
    world.stop().await;
}

/// What CodeDeploy users have in S3, by the daemon's own route and, where nothing comes in, by a presigned link.
#[tokio::test(flavor = "multi_thread")]
async fn what_ci_built_is_deployed_from_s3() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let [first, zip, tar] = ["main~1", "main", ""].map(|name| match name {
        "" => repository.commit("5"),
        name => repository.git(&["rev-parse", name]),
    });
    let setup = Setup {
        public_url: None,
        application: "bundle = \"s3://builds/sample app/{sha}.bundle\"".into(),
        ..small(directory.path(), &repository, &first, 2, policy("batch = \"1\""))
    };
    let world = Playground::start(setup).await.unwrap();
    world.control("bucket-region/builds/eu-north-1", &serde_json::json!({})).await.unwrap();
    let archive = directory.path().join("archive");
    let build = |form: &str, sha: &str| {
        let output = format!("--output={}", archive.display());
        repository.git(&["archive", &format!("--format={form}"), &output, sha]);
        fs::read(&archive).unwrap()
    };
    put(&world, &format!("builds/sample app/{zip}.bundle"), build("zip", &zip)).await;
    let ran = world.drover(&["deploy", &zip, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let instance = world.instances().await.unwrap().remove(0);
    assert_eq!(world.on(&instance, "cat /opt/drover/sample/current/VERSION").await, "4\n");
    let sent = world.calls("SendCommand").await;
    let spec = spec_of(sent.last().unwrap()["params"]["Parameters"]["commands"][0].as_str().unwrap());
    assert!(spec.contains(&format!("BUNDLE_BUCKET=builds\nBUNDLE_KEY=sample app/{zip}.bundle\n")), "{spec}");
    let asked = world.calls("GetObject").await;
    assert_eq!(
        asked[0]["error_code"], "AuthorizationHeaderMalformed",
        "first in the daemon's own region: {asked:#?}"
    );

    // CI has built the same commit once more: that is what is deployed, and not what the daemon and the hosts have already.
    put(&world, &format!("builds/sample app/{zip}.bundle"), build("tar.gz", &tar)).await;
    let ran = world.drover(&["deploy", &zip, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("another build of"), "{}", ran.stdout);
    assert_eq!(world.on(&instance, "cat /opt/drover/sample/current/VERSION").await, "5\n");

    // CI is slower than the person: what isn't there yet is waited for, and the words say so.
    let id = world.submit(&tar).await;
    let shown = async || world.drover(&["logs", &id.to_string()]).await.stdout;
    let words = format!("s3://builds/sample app/{tar}.bundle may not be read, or is not there (yet)");
    until("the words", 30, async || shown().await.contains(&words)).await;
    put(&world, &format!("builds/sample app/{tar}.bundle"), build("tar", &tar)).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(world.on(&instance, "cat /opt/drover/sample/current/VERSION").await, "5\n");
    world.stop().await;
}

/// What was GitHub's archive when it was deployed is brought back from there, wherever bundles come from since.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_goes_back_to_where_a_revision_came_from() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let (old, new) = (repository.git(&["rev-parse", "main"]), repository.commit("5"));
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let mut world = Playground::start(setup).await.unwrap();
    let id = world.submit(&old).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    let config = world.config_path();
    let text = fs::read_to_string(&config).unwrap();
    let line = "branch = \"main\"\n";
    assert!(text.contains(line), "{text}");
    fs::write(&config, text.replacen(line, &format!("{line}bundle = \"s3://builds/{{sha}}.tgz\"\n"), 1))
        .unwrap();
    world.kill_daemon().await.unwrap();
    world.start_daemon().await.unwrap();
    let archive = directory.path().join("archive");
    repository.git(&["archive", "--format=tar.gz", &format!("--output={}", archive.display()), &new]);
    put(&world, &format!("builds/{new}.tgz"), fs::read(&archive).unwrap()).await;
    let id = world.submit(&new).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(world.drover(&["rollback", &id.to_string()]).await.code, 0);
    let ended = world.ended(id + 1).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    let instance = world.instances().await.unwrap().remove(0);
    assert_eq!(world.on(&instance, "cat /opt/drover/sample/current/VERSION").await, "4\n");
    world.stop().await;
}

/// Behind HTTPS a checksum lies beside the bundle, and is held against it.
#[tokio::test(flavor = "multi_thread")]
async fn what_ci_built_is_deployed_from_a_web_server() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let (first, next) = (repository.git(&["rev-parse", "main~1"]), repository.git(&["rev-parse", "main"]));
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup {
        application: format!("bundle = \"http://{server}/{{sha}}.tar.gz\""),
        ..small(directory.path(), &repository, &first, 2, policy("batch = \"1\""))
    };
    let world = Playground::start(setup).await.unwrap();
    let archive = directory.path().join("archive");
    repository.git(&["archive", "--format=tar.gz", &format!("--output={}", archive.display()), &next]);
    let bytes = fs::read(&archive).unwrap();
    let right = hex::encode(Sha256::digest(&bytes));
    let sums = Arc::new(Mutex::new(format!("{}  x.tar.gz\n", "0".repeat(64))));
    let said = Arc::clone(&sums);
    let served = Arc::new(Mutex::new(bytes));
    let bytes = Arc::clone(&served);
    let file = warp::path!(String).map(move |name: String| match name.ends_with(".sha256") {
        true => said.lock().unwrap().clone().into_bytes(),
        false => bytes.lock().unwrap().clone(),
    });
    let serving = tokio::spawn(warp::serve(file).run(server));
    let id = world.submit(&next).await;
    let shown = async || world.drover(&["logs", &id.to_string()]).await.stdout;
    until("the words about the checksum", 30, async || shown().await.contains("says 000")).await;
    *sums.lock().unwrap() = format!("{right}  x.tar.gz\n");
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    // What is no archive at all is said once, and not asked for again and again.
    *served.lock().unwrap() = b"<!doctype html>".repeat(100);
    *sums.lock().unwrap() = hex::encode(Sha256::digest(b"<!doctype html>".repeat(100)));
    let ran = world.drover(&["deploy", &first, "--group", GROUP, "--follow"]).await;
    assert!(
        ran.code == 1 && ran.stdout.contains("it is to be a tar, tar.gz or zip archive"),
        "{}",
        ran.stdout
    );
    serving.abort();
    world.stop().await;
}

/// Two applications of one repository, each of its own folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_monorepo_is_deployed() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    repository.git(&["rm", "-rq", "--cached", "."]);
    fs::create_dir_all(repository.path.join("services/api")).unwrap();
    for entry in fs::read_dir(&repository.path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != ".git" && name != "services" {
            fs::rename(&path, repository.path.join("services/api").join(name)).unwrap();
        }
    }
    fs::write(repository.path.join("services/api/VERSION"), "6\n").unwrap();
    let next = repository.commit("not this one");
    let setup = Setup {
        application: "path = \"services/api\"".into(),
        ..small(directory.path(), &repository, &first, 2, policy("batch = \"1\""))
    };
    let world = Playground::start(setup).await.unwrap();
    let ran = world.drover(&["deploy", &next, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let instance = world.instances().await.unwrap().remove(0);
    let release =
        world.on(&instance, "cd /opt/drover/sample/current && cat VERSION && ls -d services 2>&1").await;
    assert!(release.starts_with("6\n") && release.contains("No such file"), "{release}");
    world.stop().await;
}

/// A secret is in the hooks' environment, masked in the log, and in no file of the daemon's; where a host can't have it, nothing
/// leaves the balancer.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_had_by_the_hosts_and_shown_to_nobody() {
    const SECRET: &str = "postgres://app:s3cret/&\\*@db";
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let hook = repository.path.join("hooks/after-install.real");
    let text = fs::read_to_string(&hook).unwrap();
    fs::write(&hook, format!("{text}\necho \"connects to $DB_URL, ${{#DB_URL}} characters\"\n")).unwrap();
    let (next, last) = (repository.commit("5"), repository.commit("6"));
    let setup = Setup {
        application: "secrets = { DB_URL = { parameter = \"/eval/db-url\" } }".into(),
        ..small(directory.path(), &repository, &first, 2, policy("batch = \"1\""))
    };
    let world = Playground::start(setup).await.unwrap();
    let put = serde_json::json!({ "name": "/eval/db-url", "value": SECRET });
    world.control("parameters", &put).await.unwrap();
    let ran = world.drover(&["deploy", &next, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let words = format!("connects to ***, {} characters", SECRET.len());
    assert!(ran.stdout.contains(&words), "{}", ran.stdout);
    for command in world.calls("SendCommand").await {
        assert!(!spec_of(command["params"]["Parameters"]["commands"][0].as_str().unwrap()).contains(SECRET));
    }
    let found =
        std::process::Command::new("grep").args(["-rlF", "-e", SECRET]).arg(directory.path()).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");

    let deny = serde_json::json!({ "Statement": [
        { "Effect": "Deny", "Action": "ssm:GetParameter", "Resource": "arn:aws:ssm:*:*:parameter/eval/*" }] });
    world.control("instance-policy", &deny).await.unwrap();
    let out = world.calls("EnterStandby").await.len();
    let ran = world.drover(&["deploy", &last, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("the secret DB_URL can't be had: An error occurred (AccessDeniedException)"),
        "{}",
        ran.stdout
    );
    assert_eq!(world.calls("EnterStandby").await.len(), out, "nobody was taken out");
    world.stop().await;
}

/// From CodeDeploy: `drover adopt` writes down what runs; the first deployment stops it by its own script and cleans up after it,
/// and a rollback leads back to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_codedeploy_has_deployed_to_is_taken_over() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let appspec = repository.path.join("appspec.yml");
    let text = fs::read_to_string(&appspec).unwrap();
    fs::write(&appspec, format!("{text}files:\n  - source: site\n    destination: /srv/shop\n")).unwrap();
    fs::create_dir(repository.path.join("site")).unwrap();
    for name in ["index.html", "old.html"] {
        fs::write(repository.path.join("site").join(name), "one").unwrap();
    }
    let first = repository.commit("5");
    fs::write(repository.path.join("site/index.html"), "two").unwrap();
    fs::remove_file(repository.path.join("site/old.html")).unwrap();
    let next = repository.commit("6");
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    // As CodeDeploy's agent would have left them; nothing of drover's is there.
    let left = "root=/opt/codedeploy-agent/deployment-root; mkdir -p $root/0b1d/d-1 $root/deployment-instructions\n\
        mv $(readlink -f /opt/drover/sample/current) $root/0b1d/d-1/deployment-archive\n\
        echo $root/0b1d/d-1 >$root/deployment-instructions/0b1d_last_successful_install\n\
        printf '%s\\n' /srv/shop /srv/shop/index.html /srv/shop/old.html >$root/deployment-instructions/0b1d-cleanup\n\
        rm -rf /opt/drover/sample; ls /srv/shop";
    let instances = world.instances().await.unwrap();
    for instance in &instances {
        assert_eq!(world.on(instance, left).await, "index.html\nold.html\n");
    }
    let adopted = world.drover(&["adopt", "--group", GROUP, "--revision", &first]).await;
    assert_eq!(adopted.code, 0, "{}{}", adopted.stdout, adopted.stderr);
    let words =
        format!("admin wrote down that {first} runs on the 2 instances of {GROUP}: no host was touched");
    assert!(adopted.stdout.contains(&words), "{}", adopted.stdout);
    let again = world.drover(&["adopt", "--group", GROUP, "--revision", &first]).await;
    assert!(again.code != 0 && again.stderr.contains("drover has deployed to"), "{}", again.stderr);

    let ran = world.drover(&["deploy", &next, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    for words in [
        "the hooks of what CodeDeploy has installed",
        "AfterBlockTraffic: version 5 still runs here",
        "are taken over",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let site = "cd /srv/shop && for f in *; do echo \"$f $(cat $f)\"; done";
    assert_eq!(world.on(&instances[0], site).await, "index.html two\n");
    // The way back is to what CodeDeploy had installed.
    let back = world.drover(&["rollback", "2"]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    let ended = world.ended(3).await;
    assert_eq!(
        (&ended["state"], &ended["revision"]["sha"]),
        (&"Succeeded".into(), &first.as_str().into()),
        "{ended:#}"
    );
    assert_eq!(world.on(&instances[0], site).await, "index.html one\nold.html one\n");
    world.stop().await;
}

/// Puts an object into the simulated S3.
async fn put(world: &Playground, path: &str, bytes: Vec<u8>) {
    let path = path.replace(' ', "%20");
    let request = reqwest::Client::new().put(format!("{}/_sim/objects/{path}", world.cloud.url));
    let answer = request.bearer_auth(&world.cloud.token).body(bytes).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}
