//! The door: every route of the table with no token, a wrong one and a right one; forms from elsewhere; sessions after
//! their token was revoked; wrong tokens slowed; TLS.

use crate::ground::{DROVER, Play as _, Repository, TURN, TURNS, policy, small};
use drover::{
    api::{Body, ErrorAnswer, ROUTES, Role},
    cli::demo::playground::{GROUP, Playground},
};
use http::{Method, StatusCode, header};
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A daemon with nothing behind it; it ends with the test.
pub struct Bare {
    child: Child,
    url: String,
    token: String,
    http: Client,
}

impl Bare {
    pub fn start(directory: &Path, server: &str) -> Bare {
        let data = directory.join("data");
        let config = directory.join("drover.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndata = {data:?}\n{server}\n[aws]\nregion = \"eu-west-1\"\nendpoint = \"http://127.0.0.1:9\"\n\
             [github]\napi = \"http://127.0.0.1:9\"\npoll_branches = \"0s\"\n[applications.a]\nrepository = \"o/r\"\n\
             [applications.a.groups.b]\nauto_scaling_groups = [\"x\"]\n"
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(DROVER)
            .args(["serve", "--until-stdin-closes", "--config"])
            .arg(&config)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("DROVER_WEBHOOK_SECRET", "s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let token = fs::read_to_string(data.join("admin-token")).unwrap().trim().to_owned();
        let url = ready["ready"]["url"].as_str().unwrap().to_owned();
        let http = Client::builder().redirect(Policy::none()).build().unwrap();
        Bare { child, url, token, http }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.url)).timeout(Duration::from_secs(30))
    }

    /// Signs in as a browser does; the session's cookie.
    async fn sign_in(&self, token: &str) -> Result<String, Response> {
        let page = self.request("GET", "/sign-in").send().await.unwrap();
        let visit = cookie(&page);
        let csrf = csrf_token(&page.text().await.unwrap());
        let form = [("csrf_token", csrf.as_str()), ("token", token), ("next", "//evil.example/")];
        let answer = self
            .request("POST", "/sign-in")
            .header("origin", &self.url)
            .header("cookie", visit)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish())
            .send()
            .await
            .unwrap();
        if answer.status() != StatusCode::SEE_OTHER {
            return Err(answer);
        }
        assert_eq!(answer.headers()["location"], "/", "nobody is sent elsewhere");
        let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        Ok(cookie(&answer))
    }

    /// Runs a client subcommand to its end: its exit code, what it printed, and its errors.
    fn drover(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(DROVER)
            .args(arguments)
            .env("DROVER_URL", &self.url)
            .env("DROVER_TOKEN", &self.token)
            .output()
            .unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), stdout, stderr)
    }

    async fn page(&self, path: &str, cookie: &str) -> (StatusCode, String) {
        let answer = self.request("GET", path).header("cookie", cookie).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn submit(&self, cookie: &str, origin: &str, csrf: &str) -> (StatusCode, String) {
        let form = [("csrf_token", csrf), ("group", "a/b"), ("revision", "<script>alert(1)?</script>")];
        let answer = self
            .request("POST", "/deployments")
            .header("cookie", cookie)
            .header("origin", origin)
            .body(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish())
            .send()
            .await
            .unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn cookie(answer: &Response) -> String {
    let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

fn csrf_token(page: &str) -> String {
    let at = page.find("name=\"csrf_token\" value=\"").unwrap() + 25;
    page[at..].split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_opens_to_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    let session = daemon.sign_in(&daemon.token).await.unwrap();
    for (number, route) in ROUTES.iter().enumerate() {
        let path = route.path.replace("{}", "1");
        let path = if route.role == Role::Host { path + "?offset=0&size=0&sha256=0" } else { path };
        let what = format!("{} {path}", route.method);
        let ask = |token: Option<&str>, cookie: &str| {
            let mut request = daemon.request(route.method, &path).header("cookie", cookie);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            async { request.send().await.unwrap() }
        };
        let nothing = ask(None, "").await;
        // From an address of its own: each wrong token of one address makes the next wait longer.
        let address = std::net::Ipv4Addr::new(127, 0, 9, u8::try_from(number).unwrap());
        let elsewhere =
            Client::builder().redirect(Policy::none()).local_address(Some(address.into())).build().unwrap();
        let stranger = elsewhere.request(route.method.parse().unwrap(), format!("{}{path}", daemon.url));
        let wrong =
            stranger.header("cookie", "drover_session=wrong").bearer_auth("wrong").send().await.unwrap();
        let right = ask(Some(&daemon.token), &session).await;
        let csp = nothing.headers().get("content-security-policy").unwrap().to_str().unwrap();
        assert!(
            csp.starts_with("default-src 'none'") && nothing.headers()["x-content-type-options"] == "nosniff"
        );
        let statuses = [&nothing, &wrong, &right].map(|answer| answer.status().as_u16());
        match route.role {
            // Whoever asks. The form without its token is refused as a form, not as a stranger.
            Role::Public if path == "/sign-in" && route.method == "POST" => {
                assert_eq!(statuses, [403; 3], "{what}")
            }
            Role::Public => {
                assert!(statuses.iter().all(|status| *status != 401 && *status != 403), "{what} {statuses:?}")
            }
            Role::Api => {
                assert_eq!(statuses[..2], [401, 401], "{what}");
                assert!(![401, 403, 405].contains(&statuses[2]), "{what} {statuses:?}");
                let (status, text) = (right.status(), right.text().await.unwrap());
                let (Body::Json(shape) | Body::Rows(shape)) = route.answer else { panic!("{what}") };
                if status.is_success() {
                    let whole: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!((shape.rewrite)(&text).unwrap(), whole, "{what}: {}", (shape.name)());
                } else {
                    let refused = serde_json::from_str::<ErrorAnswer>(&text).unwrap().error;
                    assert!(!refused.code.is_empty() && !refused.message.is_empty(), "{what}: {text}");
                }
            }
            Role::Session => {
                assert_eq!(statuses[..2], [303, 303], "{what}");
                assert!(nothing.headers()["location"].to_str().unwrap().starts_with("/sign-in"), "{what}");
                // A form needs its token as well; what is no form is answered.
                let wanted = if route.method == "POST" { 403 } else { 200 };
                let seen = if statuses[2] == 404 { wanted } else { statuses[2] };
                assert_eq!(seen, wanted, "{what}");
                let by_bearer = ask(Some(&daemon.token), "").await;
                assert_eq!(by_bearer.status(), 303, "{what}: the page wants a session");
            }
            // The API's token opens none of these; their own are tried by whole rollouts.
            Role::Host | Role::Signed => {
                let refused = |status: &u16| [400, 401].contains(status);
                assert!(statuses.iter().all(refused), "{what} {statuses:?}");
            }
        }
    }
    for (method, path, status) in
        [("GET", "/nowhere", 404), ("GET", "/api/v1/secrets", 404), ("DELETE", "/api/v1/groups", 405)]
    {
        assert_eq!(daemon.request(method, path).send().await.unwrap().status(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_from_elsewhere_or_without_its_token_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    let session = daemon.sign_in(&daemon.token).await.unwrap();
    let (_, page) = daemon.page("/", &session).await;
    let good = csrf_token(&page);
    let other = daemon.sign_in(&daemon.token).await.unwrap();
    let others = csrf_token(&daemon.page("/", &other).await.1);
    for (origin, given) in [
        ("http://evil.example", good.as_str()),
        ("null", &good),
        (&daemon.url, ""),
        (&daemon.url, "0000"),
        (&daemon.url, &others),
    ] {
        let (status, text) = daemon.submit(&session, origin, given).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{origin} {given}: {text}");
    }
    // Its own form gets through, to be refused for what it says, in the API's words, with its values kept and harmless.
    let (status, text) = daemon.submit(&session, &daemon.url, &good).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.contains("is no revision: give a full or abbreviated SHA"), "{text}");
    assert!(text.contains("&#60;script&#62;") && !text.contains("<script>alert"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_with_signing_out() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    let (code, token, words) = daemon.drover(&["token", "create", "ada"]);
    assert_eq!((code, words.as_str()), (0, ""), "{token}");
    let again = daemon.drover(&["token", "create", "ada"]);
    assert!(again.0 != 0 && again.2.contains("there is a token 'ada' already"), "{again:?}");
    let session = daemon.sign_in(token.trim()).await.unwrap();
    let (status, page) = daemon.page("/", &session).await;
    assert!(status == 200 && page.contains("<b>ada</b>"), "{page}");
    assert!(daemon.drover(&["token", "list"]).1.contains("ada"));
    assert_eq!(daemon.drover(&["token", "revoke", "ada"]).0, 0);
    assert_eq!(daemon.page("/", &session).await.0, StatusCode::SEE_OTHER, "revoked");
    assert!(daemon.sign_in(token.trim()).await.is_err());
    let last = daemon.drover(&["token", "revoke", "admin"]);
    assert!(last.0 != 0 && last.2.contains("the last token"), "{last:?}");

    let session = daemon.sign_in(&daemon.token).await.unwrap();
    let csrf = csrf_token(&daemon.page("/", &session).await.1);
    let out =
        daemon.request("POST", "/sign-out").header("cookie", &session).body(format!("csrf_token={csrf}"));
    assert_eq!(out.send().await.unwrap().headers()["location"], "/sign-in");
    assert_eq!(daemon.page("/", &session).await.0, StatusCode::SEE_OTHER, "signed out");
}

/// A stream that is open when its token is revoked, or its session signs out, is cut without an `end`.
#[tokio::test(flavor = "multi_thread")]
async fn open_streams_end_with_their_token() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let next = repository.commit("2");
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    assert_eq!(world.drover(&["lock", GROUP, "--reason", "nothing is to move"]).await.code, 0);
    let id = world.submit(&next).await;
    let made = world.drover(&["token", "create", "ada"]).await;
    let stream = reqwest::Client::new()
        .get(format!("{}/api/v1/deployments/{id}/logs", world.url))
        .bearer_auth(made.stdout.trim())
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(world.drover(&["token", "revoke", "ada"]).await.code, 0);
    let rest = tokio::time::timeout(Duration::from_secs(20), stream.text()).await.expect("it is cut");
    let rest = rest.unwrap();
    assert!(rest.contains("submitted") && !rest.contains("\"end\""), "{rest}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_slowed_and_a_right_one_never_waits() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    let begun = Instant::now();
    // All at once: the answers come one after the other, and what is too much is refused.
    let tries = (0..12).map(|_| daemon.sign_in("wrong"));
    let racing = futures_util::future::join_all(tries);
    let right = async {
        let session = daemon.sign_in(&daemon.token).await;
        (session.is_ok(), begun.elapsed())
    };
    let (refused, (signed_in, after)) = tokio::join!(racing, right);
    assert!(signed_in);
    let statuses: Vec<u16> =
        refused.into_iter().map(|answer| answer.unwrap_err().status().as_u16()).collect();
    assert!(statuses.contains(&429) && statuses.contains(&401), "{statuses:?}");
    assert!(begun.elapsed() > Duration::from_secs(8), "the wrong ones waited: {:?}", begun.elapsed());
    assert!(after < begun.elapsed() / 2, "the right one did not: {after:?}");
}

/// Memory in use, in MB.
fn megabytes(daemon: &Bare) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// 500 connections that announce 8 MB, send 4 MB and stop: half of them without a signature, half with one that is none.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_fill_no_memory_and_are_cut() {
    // 500 of them fill the machine.
    let _turns = TURN.acquire_many(TURNS).await;
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    let address = daemon.url.trim_start_matches("http://").to_owned();
    let before = megabytes(&daemon);
    let begun = Instant::now();
    let strangers: Vec<_> = (0..500)
        .map(|number| {
            let address = address.clone();
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
                let signature = match number % 2 {
                    0 => String::new(),
                    _ => format!("x-hub-signature-256: sha256={}\r\n", "0".repeat(64)),
                };
                let head = format!(
                    "POST /webhooks/github HTTP/1.1\r\nhost: {address}\r\nx-github-event: push\r\n{signature}content-length: 8000000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                // As far as it is taken.
                let piece = vec![b'x'; 64 * 1024];
                let (mut reader, mut writer) = stream.split();
                let sent = async {
                    for _ in 0..64 {
                        if writer.write_all(&piece).await.is_err() {
                            break;
                        }
                    }
                    std::future::pending::<()>().await
                };
                // It ends when the daemon ends it.
                let cut = async { while matches!(reader.read(&mut [0; 1024]).await, Ok(count) if count > 0) {} };
                tokio::select! { () = sent => {}, () = cut => {} }
            })
        })
        .collect();
    let mut most = before;
    while strangers.iter().any(|stranger| !stranger.is_finished()) {
        most = most.max(megabytes(&daemon));
        assert!(begun.elapsed() < Duration::from_secs(30), "some are still connected");
        // The page goes on meanwhile.
        let page = daemon.request("GET", "/sign-in").timeout(Duration::from_secs(5)).send().await.unwrap();
        assert_eq!(page.status(), 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{before} MB before, {most} MB at the most, all cut after {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    assert!(most < before + 300, "{before} MB before, {most} MB then");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_keeps_is_its_users_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir_all(data.join("bundles")).unwrap();
    fs::write(data.join("bundles/old.tar.gz"), "").unwrap();
    for (path, mode) in [("", 0o755), ("bundles", 0o755), ("bundles/old.tar.gz", 0o644)] {
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let daemon = Bare::start(directory.path(), "");
    let mut folders = vec![data.clone()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "{folder:?}");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
                files += 1;
            }
        }
    }
    assert!(files >= 3, "the database, the token, the bundle");
    drop(daemon);
}

/// Whatever a person can get wrong has words, and as a page where a browser asks.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_words() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Bare::start(directory.path(), "");
    for name in ["zoë", "..", "-x", "a/b", "a b", ""] {
        let (code, _, words) = daemon.drover(&["token", "create", "--", name]);
        assert!(code == 2 && words.contains("is no name for a token"), "{name}: {code} {words}");
    }
    assert_eq!(daemon.drover(&["token", "create", "ci.eu_1-a"]).0, 0);
    let (code, _, words) = daemon.drover(&["token", "revoke", "zoë"]);
    assert!(code == 2 && words.contains("there is no token 'zoë'"), "{words}");
    assert_eq!(daemon.drover(&["token", "revoke", "ci.eu_1-a"]).0, 0);
    for arguments in
        [&["lock", "eval", "--reason", "x"] as &[&str], &["unlock", "eval"], &["group", "restore", "eval"]]
    {
        let (code, _, words) = daemon.drover(arguments);
        assert!(code == 2 && words.contains("APPLICATION/ENVIRONMENT"), "{arguments:?}: {code} {words}");
    }
    for arguments in [&["status", "99"] as &[&str], &["logs", "99"], &["cancel", "99"], &["pause", "99"]] {
        let (code, _, words) = daemon.drover(arguments);
        assert!(code == 2 && words.contains("there is no deployment 99"), "{arguments:?}: {code} {words}");
    }
    let ask = async |path: &str, accept: &str| {
        let answer = daemon.request("GET", path).bearer_auth(&daemon.token).header("accept", accept);
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = ask("/api/v1/deployments?limit=many", "*/*").await;
    assert!(status == 400 && text.contains("take a whole number") && !text.contains("Rejection"), "{text}");
    let (status, text) = ask("/nowhere", "text/html,*/*").await;
    assert!(status == 404 && text.contains("<h1>That did not work</h1>"), "{text}");
    let (status, text) = ask("/api/v1/nowhere", "text/html").await;
    assert!(status == 404 && text.starts_with("{\"error\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_by_its_own_accept_loop() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let daemon =
        Bare::start(directory.path(), &format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}"));
    let port = daemon.url.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}/sign-in");
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let http = Client::builder().tls_certs_only([root]).build().unwrap();
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()[header::SET_COOKIE].to_str().unwrap().contains("Secure"));
    assert!(answer.headers().contains_key("strict-transport-security"));
    assert!(Client::new().get(&url).send().await.is_err(), "a certificate that nobody knows");
}
