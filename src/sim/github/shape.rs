//! The JSON of GitHub's answers, made from what git says about a repository.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Value, json};

use super::git::Git;
use super::reply::{Reply, error, not_found};

/// One repository, about which GitHub's answers are made.
pub(super) struct Shape<'a> {
    pub git: &'a Git,
    pub number: usize,
    pub base: &'a str,
    pub name: &'a str,
}

impl Shape<'_> {
    fn url(&self, rest: &str) -> String {
        format!("{}/repos/{}{rest}", self.base, self.name)
    }

    fn html(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.base, self.name)
    }

    /// Describes the repository.
    pub async fn repository(&self) -> Reply {
        let (owner, short) = self.name.split_once('/').unwrap_or((self.name, ""));
        Reply::Json(
            200,
            json!({
                "id": self.number,
                "node_id": format!("R_{}", self.number),
                "name": short,
                "full_name": self.name,
                "owner": self.user(owner),
                "private": true,
                "fork": false,
                "url": self.url(""),
                "html_url": self.html(""),
                "default_branch": self.default_branch().await,
                "archived": false,
                "disabled": false,
            }),
        )
    }

    async fn default_branch(&self) -> String {
        let head = self.git.text(&["symbolic-ref", "--short", "HEAD"]).await;
        head.unwrap_or_else(|| "main".to_owned())
    }

    fn user(&self, login: &str) -> Value {
        let url = |rest: &str| format!("{}/users/{login}{rest}", self.base);
        json!({
            "login": login, "id": 1, "node_id": "U_1", "avatar_url": url("/avatar"), "gravatar_id": "",
            "url": url(""), "html_url": format!("{}/{login}", self.base), "followers_url": url("/followers"),
            "following_url": url("/following"), "gists_url": url("/gists"), "starred_url": url("/starred"),
            "subscriptions_url": url("/subscriptions"), "organizations_url": url("/orgs"), "repos_url": url("/repos"),
            "events_url": url("/events"), "received_events_url": url("/received_events"), "type": "User",
            "site_admin": false,
        })
    }

    /// Describes a commit; with `whole`, its changed files too.
    pub async fn commit(&self, sha: &str, whole: bool) -> Option<Value> {
        let format = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B";
        let text = self.git.text(&["show", "-s", format, sha]).await?;
        let fields: Vec<&str> = text.splitn(10, '\0').collect();
        let [sha, tree, parents, an, ae, at, cn, ce, ct, message] = fields.as_slice() else { return None };
        let parents: Vec<Value> = parents
            .split_whitespace()
            .map(|p| {
                json!({
                    "sha": p,
                    "url": self.url(&format!("/commits/{p}")),
                    "html_url": self.html(&format!("/commit/{p}")),
                })
            })
            .collect();
        let mut commit = json!({
            "sha": sha,
            "node_id": format!("C_{}", &sha[..12]),
            "url": self.url(&format!("/commits/{sha}")),
            "html_url": self.html(&format!("/commit/{sha}")),
            "comments_url": self.url(&format!("/commits/{sha}/comments")),
            "commit": {
                "url": self.url(&format!("/git/commits/{sha}")),
                "author": {"name": an, "email": ae, "date": utc(at)},
                "committer": {"name": cn, "email": ce, "date": utc(ct)},
                "message": message.trim_end(),
                "tree": {"sha": tree, "url": self.url(&format!("/git/trees/{tree}"))},
                "comment_count": 0,
                "verification": {"verified": false, "reason": "unsigned", "signature": null, "payload": null},
            },
            "author": null,
            "committer": null,
            "parents": parents,
        });
        if whole {
            let files = self
                .files(sha, &["diff-tree", "-r", "--root", "--no-commit-id", "-m", "--first-parent", sha])
                .await;
            let sum = |key: &str| files.iter().filter_map(|f| f[key].as_u64()).sum::<u64>();
            let (additions, deletions) = (sum("additions"), sum("deletions"));
            commit["stats"] =
                json!({"total": additions + deletions, "additions": additions, "deletions": deletions});
            commit["files"] = Value::Array(files);
        }
        Some(commit)
    }

    /// Describes the files that a diff command names, without renames; at most 300, as GitHub does.
    async fn files(&self, at: &str, diff: &[&str]) -> Vec<Value> {
        let run = |kind: &'static str| {
            let args: Vec<&str> = [&diff[..1], &["--no-renames", "-z", kind], &diff[1..]].concat();
            async move { self.git.text(&args).await.unwrap_or_default() }
        };
        let (numbers, states) = (run("--numstat").await, run("--name-status").await);
        let mut status: BTreeMap<&str, &str> = BTreeMap::new();
        let mut parts = states.split('\0');
        while let (Some(state), Some(path)) = (parts.next(), parts.next()) {
            status.insert(path, state);
        }
        let mut files = Vec::new();
        for line in numbers.split('\0').filter(|l| !l.is_empty()).take(300) {
            let fields: Vec<&str> = line.splitn(3, '\t').collect();
            let [added, removed, path] = fields.as_slice() else { continue };
            let (added, removed) = (added.parse::<u64>().unwrap_or(0), removed.parse::<u64>().unwrap_or(0));
            let state = match status.get(path).copied() {
                Some("A") => "added",
                Some("D") => "removed",
                Some("T") => "changed",
                _ => "modified",
            };
            let object = self.git.text(&["rev-parse", "--verify", "--quiet", &format!("{at}:{path}")]).await;
            let encoded = escape_path(path);
            files.push(json!({
                "sha": object,
                "filename": path,
                "status": state,
                "additions": added,
                "deletions": removed,
                "changes": added + removed,
                "blob_url": self.html(&format!("/blob/{at}/{encoded}")),
                "raw_url": self.html(&format!("/raw/{at}/{encoded}")),
                "contents_url": self.url(&format!("/contents/{encoded}?ref={at}")),
            }));
        }
        files
    }

    async fn list(&self, args: &[&str]) -> Vec<String> {
        let text = self.git.text(args).await.unwrap_or_default();
        text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    }

    /// Lists the commits from one on, page by page.
    pub async fn commits(&self, start: &str, query: &BTreeMap<String, String>) -> Reply {
        let Some(sha) = self.git.commit(start).await else { return not_found() };
        let (skip, count) = page(query, 30);
        let (skip, count) = (format!("--skip={skip}"), format!("--max-count={count}"));
        let mut args = vec!["rev-list", &skip, &count, &sha];
        if let Some(path) = query.get("path") {
            args.extend(["--", path]);
        }
        let mut commits = Vec::new();
        for sha in self.list(&args).await {
            commits.extend(self.commit(&sha, false).await);
        }
        Reply::Json(200, Value::Array(commits))
    }

    /// Returns the names and commits of the refs under a prefix.
    async fn refs(&self, under: &str) -> Vec<(String, String)> {
        let lines = self
            .list(&["for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", under])
            .await;
        let split = |line: &String| {
            let mut parts = line.split(' ');
            let name = parts.next()?.to_owned();
            let own = parts.next()?;
            let peeled = parts.next().filter(|p| !p.is_empty());
            Some((name, peeled.unwrap_or(own).to_owned()))
        };
        lines.iter().filter_map(split).collect()
    }

    /// Lists the branches.
    pub async fn branches(&self) -> Reply {
        let branches = self.refs("refs/heads").await.into_iter().map(|(name, sha)| {
            let url = self.url(&format!("/commits/{sha}"));
            json!({"name": name, "commit": {"sha": sha, "url": url}, "protected": false})
        });
        Reply::Json(200, branches.collect())
    }

    /// Describes a branch.
    pub async fn branch(&self, name: &str) -> Reply {
        let Some(sha) = self.git.commit(&format!("heads/{name}")).await else {
            return error(404, "Branch not found");
        };
        let Some(commit) = self.commit(&sha, false).await else { return not_found() };
        let url = self.url(&format!("/branches/{name}"));
        Reply::Json(
            200,
            json!({
                "name": name, "commit": commit, "protected": false, "protection_url": format!("{url}/protection"),
                "_links": {"self": url, "html": self.html(&format!("/tree/{name}"))},
                "protection": {"enabled": false},
            }),
        )
    }

    /// Lists the tags.
    pub async fn tags(&self) -> Reply {
        let tags = self.refs("refs/tags").await.into_iter().map(|(name, sha)| {
            json!({
                "name": name,
                "commit": {"sha": sha, "url": self.url(&format!("/commits/{sha}"))},
                "zipball_url": self.url(&format!("/zipball/refs/tags/{name}")),
                "tarball_url": self.url(&format!("/tarball/refs/tags/{name}")),
                "node_id": "REF_1",
            })
        });
        Reply::Json(200, tags.collect())
    }

    /// Describes a ref, given as `heads/…` or `tags/…`.
    pub async fn reference(&self, name: &str) -> Reply {
        if !(name.starts_with("heads/") || name.starts_with("tags/"))
            || name.contains(['^', '~', ':', '@', ' ', '*'])
        {
            return not_found();
        }
        let full = format!("refs/{name}");
        let Some(sha) = self.git.text(&["rev-parse", "--verify", "--quiet", &full]).await else {
            return not_found();
        };
        let kind = self.git.text(&["cat-file", "-t", &sha]).await.unwrap_or_else(|| "commit".to_owned());
        let url = self.url(&format!("/git/{kind}s/{sha}"));
        Reply::Json(
            200,
            json!({
                "ref": full, "node_id": "REF_1", "url": self.url(&format!("/git/{full}")),
                "object": {"type": kind, "sha": sha, "url": url},
            }),
        )
    }

    /// Compares two commits, given as `BASE...HEAD`.
    pub async fn compare(&self, range: &str, query: &BTreeMap<String, String>) -> Reply {
        let Some((base, head)) = range.split_once("...") else { return not_found() };
        let (Some(from), Some(to)) = (self.git.commit(base).await, self.git.commit(head).await) else {
            return not_found();
        };
        let Some(fork_point) = self.git.text(&["merge-base", &from, &to]).await else {
            return error(404, &format!("No common ancestor between {base} and {head}."));
        };
        let counts = self.git.text(&["rev-list", "--left-right", "--count", &format!("{from}...{to}")]).await;
        let counts: Vec<i64> =
            counts.unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [behind, ahead] = counts.as_slice() else {
            return error(500, "the commits could not be counted");
        };
        let status = match (ahead, behind) {
            (0, 0) => "identical",
            (_, 0) => "ahead",
            (0, _) => "behind",
            _ => "diverged",
        };
        let (skip, count) = page(query, 250);
        let between = format!("{from}..{to}");
        let shas = self.list(&["rev-list", "--reverse", &between]).await;
        let mut commits = Vec::new();
        for sha in shas.iter().skip(skip).take(count) {
            commits.extend(self.commit(sha, false).await);
        }
        let files = self.files(&to, &["diff-tree", "-r", &fork_point, &to]).await;
        let (Some(base_commit), Some(point)) =
            (self.commit(&from, false).await, self.commit(&fork_point, false).await)
        else {
            return not_found();
        };
        let html = self.html(&format!("/compare/{range}"));
        Reply::Json(
            200,
            json!({
                "url": self.url(&format!("/compare/{range}")),
                "html_url": html,
                "permalink_url": html,
                "diff_url": format!("{html}.diff"),
                "patch_url": format!("{html}.patch"),
                "base_commit": base_commit,
                "merge_base_commit": point,
                "status": status,
                "ahead_by": ahead,
                "behind_by": behind,
                "total_commits": ahead,
                "commits": commits,
                "files": files,
            }),
        )
    }

    /// Describes a file with its content, or a folder; with `raw`, answers with the file's bytes.
    pub async fn contents(&self, path: &str, reference: &str, raw: bool) -> Reply {
        let Some(sha) = self.git.commit(reference).await else {
            return error(404, &format!("No commit found for the ref {reference}"));
        };
        let path = path.trim_matches('/');
        let spec = format!("{sha}:{path}");
        match self.git.text(&["cat-file", "-t", &spec]).await.as_deref() {
            Some("blob") => {
                let Some(bytes) = self.git.bytes(&["cat-file", "blob", &spec]).await else {
                    return not_found();
                };
                if raw {
                    return Reply::Bytes("application/vnd.github.raw; charset=utf-8", bytes);
                }
                let object = self.git.text(&["rev-parse", &spec]).await.unwrap_or_default();
                let mut entry = self.entry(path, reference, &object, "file", bytes.len() as u64);
                entry["encoding"] = Value::from("base64");
                entry["content"] = Value::from(base64_lines(&bytes));
                Reply::Json(200, entry)
            }
            Some("tree") => {
                let lines = self.git.text(&["ls-tree", "-z", "-l", &spec]).await.unwrap_or_default();
                let mut entries = Vec::new();
                for line in lines.split('\0').filter(|l| !l.is_empty()) {
                    let Some((head, name)) = line.split_once('\t') else { continue };
                    let fields: Vec<&str> = head.split_whitespace().collect();
                    let [_, kind, object, size] = fields.as_slice() else { continue };
                    let kind = if *kind == "tree" { "dir" } else { "file" };
                    let whole = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                    entries.push(self.entry(&whole, reference, object, kind, size.parse().unwrap_or(0)));
                }
                Reply::Json(200, Value::Array(entries))
            }
            _ => not_found(),
        }
    }

    fn entry(&self, path: &str, reference: &str, object: &str, kind: &str, size: u64) -> Value {
        let encoded = escape_path(path);
        let url = self.url(&format!("/contents/{encoded}?ref={reference}"));
        let html = self.html(&format!("/blob/{reference}/{encoded}"));
        let git = self.url(&format!("/git/blobs/{object}"));
        json!({
            "name": path.rsplit('/').next().unwrap_or(path), "path": path, "sha": object, "size": size, "url": url,
            "html_url": html, "git_url": git, "download_url": null, "type": kind,
            "_links": {"self": url, "git": git, "html": html},
        })
    }
}

/// Returns where a page starts and how many items it holds.
fn page(query: &BTreeMap<String, String>, default: usize) -> (usize, usize) {
    let number = |key: &str| query.get(key).and_then(|v| v.parse::<usize>().ok());
    let size = number("per_page").unwrap_or(default).clamp(1, default.max(100));
    (number("page").unwrap_or(1).saturating_sub(1) * size, size)
}

fn utc(text: &str) -> String {
    text.parse::<jiff::Timestamp>().map_or_else(|_| text.to_owned(), |t| t.to_string())
}

fn escape_path(path: &str) -> String {
    let part =
        |p: &str| form_urlencoded::byte_serialize(p.as_bytes()).collect::<String>().replace('+', "%20");
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Encodes bytes in lines of 60 characters, as GitHub does.
fn base64_lines(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut out = String::with_capacity(text.len() + text.len() / 60 + 1);
    for chunk in text.as_bytes().chunks(60) {
        out.push_str(&String::from_utf8_lossy(chunk));
        out.push('\n');
    }
    out
}
