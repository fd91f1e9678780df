//! GitHub's REST API over real git repositories.
//!
//! It serves repositories, their commits (by SHA, abbreviation, branch or tag), branches, refs, comparisons, contents and
//! archives. A commit that exists only in a fork is served through the parent, as GitHub does. A request for the former name
//! of a renamed repository is redirected by its number. The API may lag: it then shows commits, branches and comparisons as
//! they were.

pub mod app;
mod git;
mod reply;
mod shape;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use reply::{Reply, error};

use git::Git;
use reply::not_found;

/// How long an archive's address is good.
const LINK_LIFE: Duration = Duration::from_secs(300);

/// A repository given on the command line.
#[derive(Clone, Debug)]
pub struct RepositorySpec {
    /// `owner/name`.
    pub name: String,
    /// The path of the git repository.
    pub path: PathBuf,
}

/// A request for the API.
#[derive(Debug)]
pub struct Request<'a> {
    /// Decoded path segments, from `repos` or `repositories` on.
    pub segments: &'a [String],
    /// The path and the query as they came.
    pub target: &'a str,
    /// Decoded query parameters.
    pub query: &'a BTreeMap<String, String>,
    /// `http://host:port`, for the addresses in the answers.
    pub base: &'a str,
    /// Whether raw contents are asked for.
    pub raw: bool,
}

/// All repositories, with their names and the addresses of archives.
#[derive(Debug, Default)]
pub struct GitHub {
    /// The repositories in the order of their numbers, which begin at 1.
    repositories: Vec<Git>,
    names: Mutex<Names>,
    /// The archives' addresses by token: until when each is good, the repository's name, and the commit.
    links: Mutex<HashMap<String, (Instant, String, String)>>,
    /// The app that may ask in place of a person's token.
    pub apps: app::Apps,
}

/// The present and former names of the repositories.
#[derive(Debug, Default)]
struct Names {
    /// The present name of each, in the order of their numbers.
    now: Vec<String>,
    /// Numbers by former names.
    former: BTreeMap<String, usize>,
}

impl Names {
    /// Returns the index and the name of the repository with this number.
    fn find_number(&self, number: &str) -> Option<(usize, String)> {
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        Some((index, self.now.get(index)?.clone()))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.now.iter().position(|now| now.eq_ignore_ascii_case(name))
    }
}

impl GitHub {
    /// Opens the repositories, and the forks whose objects are seen through their parents.
    pub async fn open(repositories: &[RepositorySpec], forks: &[RepositorySpec]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut names = Names::default();
        for spec in repositories {
            anyhow::ensure!(
                spec.name.split('/').filter(|p| !p.is_empty()).count() == 2,
                "'{}' is no repository name: write OWNER/NAME=PATH",
                spec.name
            );
            all.repositories.push(Git::open(&spec.path).await?);
            names.now.push(spec.name.clone());
        }
        for fork in forks {
            let parent = names.index(&fork.name).and_then(|index| all.repositories.get_mut(index));
            let parent = parent.ok_or_else(|| {
                anyhow::anyhow!(
                    "a fork of '{}' is given, but not that repository: add --repo {}=PATH",
                    fork.name,
                    fork.name
                )
            })?;
            parent.add_fork(&fork.path).await?;
        }
        all.names = Mutex::new(names);
        Ok(all)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a repository another name; returns false if there is none of the old name.
    pub fn rename(&self, old: &str, new: &str) -> bool {
        let mut names = self.names();
        let Some(index) = names.index(old) else { return false };
        names.former.insert(old.to_lowercase(), index);
        names.former.remove(&new.to_lowercase());
        if let Some(name) = names.now.get_mut(index) {
            new.clone_into(name);
        }
        true
    }

    /// Makes the API show all repositories as they are at this moment from now on; or, with `false`, as they are whenever it
    /// is asked.
    pub async fn set_lag(&self, lags: bool) {
        for git in &self.repositories {
            git.set_lag(lags).await;
        }
    }

    /// Returns the name under which the audit log has a request.
    pub fn action(segments: &[String]) -> &'static str {
        let rest = Self::below_repository(segments);
        match rest.first().map(String::as_str) {
            _ if segments.first().is_some_and(|root| root == "app") => "CreateInstallationToken",
            None => "GetRepository",
            Some("installation") => "GetInstallation",
            Some("commits") if rest.len() == 1 => "ListCommits",
            Some("commits") => "GetCommit",
            Some("branches") if rest.len() == 1 => "ListBranches",
            Some("branches") => "GetBranch",
            Some("tags") => "ListTags",
            Some("git") => "GetRef",
            Some("compare") => "Compare",
            Some("tarball") => "GetTarball",
            Some("contents") => "GetContents",
            Some(_) => "GetOther",
        }
    }

    /// Returns the segments that follow the repository in a path.
    fn below_repository(segments: &[String]) -> &[String] {
        let named = if segments.first().is_some_and(|root| root == "repositories") { 2 } else { 3 };
        segments.get(named..).unwrap_or_default()
    }

    /// Answers a request.
    pub async fn answer(&self, request: &Request<'_>) -> Reply {
        let (index, full) = match request.segments {
            [root, number, ..] if root == "repositories" => {
                let Some(found) = self.names().find_number(number) else { return not_found() };
                found
            }
            [_, owner, name, ..] => {
                let full = format!("{owner}/{name}");
                let names = self.names();
                if let Some(index) = names.index(&full) {
                    (index, full)
                } else {
                    let Some(index) = names.former.get(&full.to_lowercase()) else { return not_found() };
                    let rest = request.target.splitn(4, '/').nth(3).and_then(|rest| rest.split_once('/'));
                    let rest = rest.map_or_else(String::new, |(_, rest)| format!("/{rest}"));
                    return Reply::Moved(format!("/repositories/{}{rest}", index + 1));
                }
            }
            _ => return not_found(),
        };
        let Some(git) = self.repositories.get(index) else { return not_found() };
        let rest = Self::below_repository(request.segments);
        let shape = shape::Shape { git, number: index + 1, base: request.base, name: &full };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [] => shape.repository().await,
            ["commits"] => {
                let start = request.query.get("sha").map_or("HEAD", String::as_str);
                shape.commits(start, request.query).await
            }
            ["commits", reference @ ..] => match git.commit(&reference.join("/")).await {
                Some(sha) => shape.commit(&sha, true).await.map_or_else(not_found, |c| Reply::Json(200, c)),
                None => error(422, &format!("No commit found for SHA: {}", reference.join("/"))),
            },
            ["branches"] => shape.branches().await,
            ["branches", branch @ ..] => shape.branch(&branch.join("/")).await,
            ["tags"] => shape.tags().await,
            ["git", "ref" | "refs", reference @ ..] => shape.reference(&reference.join("/")).await,
            ["compare", range @ ..] => shape.compare(&range.join("/"), request.query).await,
            ["contents", path @ ..] => {
                let reference = request.query.get("ref").map_or("HEAD", String::as_str);
                shape.contents(&path.join("/"), reference, request.raw).await
            }
            ["tarball"] => self.link(git, &full, "HEAD").await,
            ["tarball", reference @ ..] => self.link(git, &full, &reference.join("/")).await,
            _ => not_found(),
        }
    }

    /// Redirects to a short-lived address of an archive.
    async fn link(&self, git: &Git, full: &str, reference: &str) -> Reply {
        let Some(sha) = git.commit(reference).await else { return not_found() };
        let token = hex::encode(rand::random::<[u8; 16]>());
        let path = format!("/_codeload/{full}/legacy.tar.gz/{sha}?token={token}");
        if let Ok(mut links) = self.links.lock() {
            links.retain(|_, (until, ..)| *until > Instant::now());
            links.insert(token, (Instant::now() + LINK_LIFE, full.to_owned(), sha));
        }
        Reply::Redirect(path)
    }

    /// Serves the archive to which an answer has redirected with this token.
    pub async fn archive(&self, token: &str) -> Reply {
        let found = self.links.lock().ok().and_then(|links| links.get(token).cloned());
        let Some((until, full, sha)) = found else { return not_found() };
        if until <= Instant::now() {
            return not_found();
        }
        let Some(index) = self.names().index(&full) else { return not_found() };
        let Some(git) = self.repositories.get(index) else { return not_found() };
        let prefix = format!("--prefix={}-{}/", full.replace('/', "-"), &sha[..7]);
        match git.bytes(&["archive", "--format=tar.gz", &prefix, &sha]).await {
            Some(bytes) => Reply::Bytes("application/x-gzip", bytes),
            None => error(500, "the archive could not be made"),
        }
    }
}
