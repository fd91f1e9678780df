//! `drover rehearse`: a revision's real hooks on one simulated instance, on its author's machine.
//!
//! The revision goes the whole way: a repository, the daemon, Systems Manager, the runner. The instance is a process tree in
//! namespaces of its own (see [`crate::sim::instance`]): what hooks write goes to memory, `/home`, `/root` and `/run` of the
//! machine are not to be seen, and nothing can be reached but the instance itself, unless `--network` asks for it. A stand-in release is there first; it
//! answers the balancer's health checks, on a port of its own, whatever the revision does.

use crate::{
    api::{LogQuery, Submission},
    cli::{
        client::{Client, Daemon},
        demo::playground::{GROUP, Playground, Setup},
        follow::{self, Format},
        git,
    },
    revision::{
        appspec::{AppSpec, Parsed},
        bundle,
    },
};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// Where the stand-in answers: out of the way of whatever the revision starts.
const STAND_IN_PORT: u16 = 65080;

/// The users that Amazon's and Ubuntu's images have: scripts count on them.
const OF_IMAGES: [&str; 2] = ["ec2-user", "ubuntu"];

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository, as it is in its folder now: what git would keep of it.
    #[arg(long, default_value = ".")]
    pub repo: PathBuf,
    /// The folder of the repository that holds the application.
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// Commands that only note what they were asked, in the instance: the package manager, the init system.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub stub: Vec<String>,
    /// Deploy it a second time, over itself: then its ApplicationStop runs too.
    #[arg(long)]
    pub again: bool,
    /// A folder with a former version, which is deployed first.
    #[arg(long, value_name = "PATH")]
    pub former: Option<PathBuf>,
    /// Let the hooks reach what this machine reaches, by its network.
    #[arg(long)]
    pub network: bool,
    /// Run the hooks even where this machine can give no namespaces: on the machine itself, as you.
    #[arg(long = "unsafe")]
    pub without_namespaces: bool,
}

/// Ends with the deployment's exit code.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let source = args.repo.join(args.path.as_deref().unwrap_or(Path::new("")));
    ensure!(source.is_dir(), "--repo: {} is no folder", source.display());
    for name in &args.stub {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        ensure!(!name.is_empty() && name.chars().all(plain), "--stub: '{name}' is no name of a command");
    }
    let directory = tempfile::Builder::new().prefix("drover-rehearse-").tempdir()?;
    let repository = directory.path().join("repository");
    let (first, first_appspec, targets) = match make_repository(&args, &source, &repository)? {
        Ok(made) => made,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(1);
        }
    };
    let setup = Setup {
        drover: std::env::current_exe()?,
        data: directory.path().to_path_buf(),
        repository,
        branch: "main".into(),
        first,
        first_appspec,
        forks: Vec::new(),
        groups: 1,
        instances: 1,
        paper: false,
        port: STAND_IN_PORT,
        time_scale: 20.0,
        seed: 1,
        deregistration_delay: 0,
        health_interval: 5,
        health_path: "/health".into(),
        share_network: args.network,
        application: String::new(),
        policy: "batch = \"1\"\nallow_downtime = true\n[applications.sample.groups.demo.policy.retry]\nattempts = 1\nattempts_unknown = 1".into(),
        poll: "200ms".into(),
        public_url: Some("http://127.0.0.1:0".into()),
        instance_policy: Value::Null,
        database: None,
        listen: "127.0.0.1:0".into(),
    };
    let playground = Playground::start(setup).await?;
    let result = play(&args, &playground, &targets).await;
    playground.stop().await;
    result
}

async fn play(args: &Args, playground: &Playground, targets: &[String]) -> anyhow::Result<i32> {
    let world = playground.look("world").await?;
    let limits = world["groups"][0]["instances"][0]["limits"].as_array().cloned().unwrap_or_default();
    for limit in limits.iter().filter_map(Value::as_str) {
        let bare = limit.starts_with("namespaces");
        if bare && !args.without_namespaces {
            bail!(
                "{limit}: the hooks would run on this machine itself. Nothing of yours was run; --unsafe does it all the same"
            );
        }
        println!("note: {limit}");
    }
    let daemon = Daemon {
        url: playground.url.clone(),
        token: playground.token.clone(),
        patience: jiff::SignedDuration::from_mins(10),
    };
    let client = Client::new(&daemon)?;
    for target in targets {
        let submission =
            Submission { group: GROUP.into(), revision: target.clone(), ..Submission::default() };
        let id = client.submit(&submission).await?.read()?.id;
        let query = LogQuery::following();
        let outcome = follow::follow(&client, id, query, Format::Text).await?;
        if outcome.detached || outcome.exit_code != 0 {
            return Ok(outcome.exit_code);
        }
    }
    Ok(0)
}

/// The stand-in's commit and appspec, and what is to be deployed.
type Made = (String, AppSpec, Vec<String>);

/// A repository of its own: the stand-in, then what is rehearsed. The inner error says what is wrong with that.
fn make_repository(args: &Args, source: &Path, repository: &Path) -> anyhow::Result<Result<Made, String>> {
    let tree = repository.with_file_name("tree");
    copy(source, &tree)?;
    let checked = bundle::read_folder(&tree).map_err(|e| e.to_string()).and_then(|contents| contents.check());
    let Parsed { spec, .. } = match checked {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(why)),
    };
    fs::create_dir(repository)?;
    git(repository, &["init", "--quiet", "--initial-branch=main", "--template="])?;
    let permissions = &spec.permissions;
    let owners = permissions.iter().filter_map(|permission| permission.owner.as_ref());
    let runas = spec.hooks.values().flatten().filter_map(|hook| hook.runas.as_ref());
    let usual = OF_IMAGES.map(str::to_owned);
    let users: BTreeSet<&String> = owners.chain(runas).chain(&usual).collect();
    let groups: BTreeSet<&String> =
        permissions.iter().filter_map(|permission| permission.group.as_ref()).collect();
    let lines =
        |names: BTreeSet<&String>| names.into_iter().map(|name| format!("{name}\n")).collect::<String>();
    for (name, text, mode) in [
        ("appspec.yml", include_str!("stand-in/appspec.yml"), 0o644),
        ("prepare", include_str!("stand-in/prepare"), 0o755),
        ("start", include_str!("stand-in/start"), 0o755),
        ("stub", include_str!("stand-in/stub"), 0o755),
        ("sudo", include_str!("stand-in/sudo"), 0o755),
        ("VERSION", "stand-in\n", 0o644),
        ("port", &format!("{STAND_IN_PORT}\n"), 0o644),
        ("users", &lines(users), 0o644),
        ("groups", &lines(groups), 0o644),
        ("stubs", &lines(args.stub.iter().collect()), 0o644),
    ] {
        fs::write(repository.join(name), text)?;
        fs::set_permissions(repository.join(name), fs::Permissions::from_mode(mode))?;
    }
    let first = commit(repository, "The stand-in of a rehearsal")?;
    let contents = bundle::read_folder(repository).map_err(|e| anyhow::anyhow!("{e}"))?;
    let stand_in = contents.check().map_err(anyhow::Error::msg)?.spec;
    let mut targets = Vec::new();
    if let Some(former) = &args.former {
        targets.push(replace(repository, former, "The former version")?);
    }
    targets.push(replace(repository, &tree, "The rehearsed revision")?);
    if args.again {
        targets.push(commit(repository, "The same once more")?);
    }
    Ok(Ok((first, stand_in, targets)))
}

/// A commit of this tree alone.
fn replace(repository: &Path, tree: &Path, message: &str) -> anyhow::Result<String> {
    git(repository, &["rm", "-rq", "--", "."])?;
    copy(tree, repository)?;
    commit(repository, message)
}

fn commit(repository: &Path, message: &str) -> anyhow::Result<String> {
    git(repository, &["add", "--all", "--force"])?;
    let author =
        ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost", "-c", "commit.gpgSign=false"];
    let rest = ["commit", "--quiet", "--no-verify", "--allow-empty", "--message", message];
    git(repository, &[&author[..], &rest[..]].concat())?;
    git(repository, &["rev-parse", "HEAD"])
}

/// Copies what git keeps of a folder, or would keep once it is added; all of one that is in no repository.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let listed = git(from, &["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]);
    let names: Vec<PathBuf> = match listed {
        Ok(text) => text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect(),
        Err(_) => all_below(from, Path::new(""))?,
    };
    for name in names {
        let (old, new) = (from.join(&name), to.join(&name));
        // Deleted, and not yet staged; a submodule.
        let Ok(metadata) = fs::symlink_metadata(&old) else { continue };
        // A folder that has become a link is that link, and what git remembers below it is gone: never write through it.
        let through = |folder: &Path| folder.ancestors().skip(1).any(|above| from.join(above).is_symlink());
        if through(&name) || fs::symlink_metadata(&new).is_ok() {
            continue;
        }
        fs::create_dir_all(new.parent().unwrap_or(to))?;
        if metadata.is_symlink() {
            symlink(fs::read_link(&old)?, &new)?;
        } else if metadata.is_file() {
            fs::copy(&old, &new).with_context(|| format!("copying {}", old.display()))?;
        } else {
            fs::create_dir_all(&new)?;
        }
    }
    Ok(())
}

fn all_below(folder: &Path, below: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if name == Path::new(".git") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            names.extend(all_below(folder, &name)?);
        } else {
            names.push(name);
        }
    }
    Ok(names)
}
