//! The page in a real browser: headless Chromium, driven by chromedriver. Leaves pictures in `target/screenshots`.

use crate::ground::{Play as _, Repository, TURN, policy, setup};
use drover::cli::demo::playground::Playground;
use fantoccini::{Client, ClientBuilder, Locator, wd::Capabilities};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// A browser and its driver; both end with the test.
struct Browser {
    driver: Child,
    page: Client,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start() -> Browser {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (Debian's chromium-driver)");
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,1000",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let mut wanted = Capabilities::new();
        wanted.insert("goog:chromeOptions".into(), json!({ "args": arguments }));
        let url = format!("http://127.0.0.1:{port}");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut builder = ClientBuilder::rustls().unwrap();
            match builder.capabilities(wanted.clone()).connect(&url).await {
                Ok(page) => return Browser { driver, page, _profile: profile },
                // Not listening yet.
                Err(error) => assert!(Instant::now() < deadline, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn text(&self, css: &str) -> String {
        match self.page.find(Locator::Css(css)).await {
            Ok(element) => element.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the text of an element holds what is wanted.
    async fn sees(&self, css: &str, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let text = self.text(css).await;
            if text.contains(wanted) {
                return text;
            }
            assert!(Instant::now() < deadline, "{css}: '{wanted}' is not in: {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn lines(&self) -> usize {
        self.page.find_all(Locator::Css("#log .line")).await.unwrap().len()
    }

    async fn type_into(&self, css: &str, text: &str) {
        let field = self.page.find(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn click(&self, css: &str) {
        self.page.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Selects the text of an element, and gives the keyboard to the first link or button in its row; see [`Browser::chosen`].
    async fn choose(&self, css: &str) -> Value {
        let select = "const cell = document.querySelector(arguments[0]);
            const range = document.createRange();
            cell.closest('tr').querySelector('a, button').focus();
            range.selectNodeContents(cell);
            getSelection().removeAllRanges();
            getSelection().addRange(range);";
        self.page.execute(select, vec![json!(css)]).await.unwrap();
        let chosen = self.chosen().await;
        assert!(chosen[0].as_str().is_some_and(|text| text.starts_with("i-")), "{chosen}");
        assert!(["A", "BUTTON"].contains(&chosen[1].as_str().unwrap()), "{chosen}");
        chosen
    }

    /// The selected text, and what the keyboard is in.
    async fn chosen(&self) -> Value {
        let look = "const focus = document.activeElement;
            return [getSelection().toString(), focus.tagName, focus.textContent];";
        self.page.execute(look, Vec::new()).await.unwrap()
    }

    /// Waits until an element says something else.
    async fn changes(&self, css: &str) {
        let (before, deadline) = (self.text(css).await, Instant::now() + Duration::from_secs(60));
        while self.text(css).await == before {
            assert!(Instant::now() < deadline, "{css} says still: {before}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn picture(&self, name: &str) {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let directory = target.join("screenshots");
        std::fs::create_dir_all(&directory).unwrap();
        let png = self.page.screenshot().await.unwrap();
        std::fs::write(directory.join(format!("{name}.png")), png).unwrap();
    }

    async fn end(mut self) {
        let _ = self.page.close().await;
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_deploys_watches_and_cancels() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    setup.policy = policy("batch = \"3\"");
    let world = Playground::start(setup).await.unwrap();
    let browser = Browser::start().await;

    browser.page.goto(&format!("{}/", world.url)).await.unwrap();
    browser.sees("h1", "Sign in").await;
    browser.type_into("#token", "not a token").await;
    browser.click("main button").await;
    browser.sees(".error", "this is not a token of this daemon").await;
    browser.picture("sign-in").await;
    browser.type_into("#token", &world.token).await;
    browser.click("main button").await;
    browser.sees("h1", "Deploy").await;

    // What GitHub does not know comes back with the reason and what was typed.
    browser.type_into("#revision", "0123456789").await;
    browser.click(".submit button").await;
    browser.sees(".error", "no commit 0123456789 in acme/sample").await;
    let kept = browser.page.find(Locator::Css("#revision")).await.unwrap();
    assert_eq!(kept.prop("value").await.unwrap().as_deref(), Some("0123456789"));
    browser.picture("refused").await;

    // A rehearsal first; its button deploys.
    browser.type_into("#revision", "main").await;
    browser.click(".submit button.second").await;
    browser.sees("h1", "Rehearsal").await;
    browser.sees("main", "6 of 6 instances would be deployed to, in 2 batches").await;
    browser.picture("rehearsal").await;
    browser.click("main form button").await;
    browser.sees("h1", "Deployment 1").await;
    browser.sees(".status", "in work").await;
    browser.sees(".status", "s left").await;
    // Lines appear without a reload.
    let before = browser.lines().await;
    browser.sees("#log", "ApplicationStart").await;
    assert!(browser.lines().await > before);
    browser.picture("rolling").await;
    browser.sees(".status", "Succeeded").await;
    browser.sees(".counts", "6 succeeded").await;
    assert_eq!(world.api("deployments/1").await["state"], "Succeeded");
    let shown = browser.lines().await;
    let stored = world.api("deployments/1").await["last_seq"].as_u64().unwrap();
    assert_eq!(shown as u64, stored, "every line is on the page");
    browser.picture("succeeded").await;

    browser.page.goto(&format!("{}/", world.url)).await.unwrap();
    browser.type_into("#revision", &first).await;
    browser.click(".submit button").await;
    browser.sees("h1", "Deployment 2").await;
    browser.sees(".status", "3 in work").await;
    // What somebody has selected, and where the keyboard is, outlast the page's refreshing itself.
    let chosen = browser.choose("#live tbody td").await;
    browser.changes("#live").await;
    assert_eq!(browser.chosen().await, chosen);
    browser.click("#cancel button[value='0']").await;
    browser.sees(".status", "Cancelled").await;
    browser.sees(".counts", "3 restored").await;
    browser.sees("#live", "back on its former release").await;
    browser.picture("cancelled").await;
    // One fails for good: paused, resumed, halted; then it is tried again from the list of the quarantined.
    let fault = json!({ "kind": "hook-exit", "match": { "instance": "random" }, "event": "AfterInstall", "exit": 3, "times": 2 });
    let unlucky = world.control("faults", &fault).await.unwrap()["instance"].clone();
    browser.page.goto(&format!("{}/", world.url)).await.unwrap();
    browser.type_into("#revision", &first).await;
    browser.click(".submit button").await;
    browser.sees("h1", "Deployment 3").await;
    browser.sees(".status", "3 in work").await;
    browser.click("#verbs button[data-verb='pause']").await;
    browser.sees(".status", "Paused").await;
    browser.picture("paused").await;
    browser.click("#verbs button[data-verb='resume']").await;
    browser.sees(".status", "Halted").await;
    browser.sees(".status", "waits for a person").await;
    browser.sees("#live td button", "Try again").await;
    browser.picture("halted").await;
    browser.page.goto(&format!("{}/groups", world.url)).await.unwrap();
    browser.sees("tbody", unlucky.as_str().unwrap()).await;
    browser.type_into("input[name='reason']", "the database is being moved").await;
    browser.click("form[action$='/lock'] button").await;
    browser.sees(".error", "locked by admin").await;
    browser.picture("groups").await;
    browser.click("form[action$='/unlock'] button").await;
    browser.sees("label", "Reason").await;
    browser.sees(".card", "admin: unlocked").await;
    // Terminate asks first.
    let terminate = browser.page.find(Locator::Css("button.danger[formaction$='/terminate']")).await.unwrap();
    assert!(!terminate.is_displayed().await.unwrap(), "it is behind a question");
    browser.click(".ask summary").await;
    assert!(terminate.is_displayed().await.unwrap());
    browser.picture("terminate").await;
    // The link leads to the instance's own last lines, with what its hook said.
    browser.click("tbody td a").await;
    browser.sees("#one", "failed with exit code 3").await;
    browser.sees("#log", "ended with exit code 3").await;
    browser.picture("instance").await;
    browser.page.goto(&format!("{}/groups", world.url)).await.unwrap();
    browser.click("tbody button").await;
    browser.sees("h1", "Deployment 3").await;
    browser.sees(".status", "Succeeded").await;
    browser.page.goto(&format!("{}/", world.url)).await.unwrap();
    browser.sees("#live", "Cancelled").await;
    browser.picture("deployments").await;
    browser.page.set_window_size(390, 844).await.unwrap();
    browser.page.goto(&format!("{}/deployments/1", world.url)).await.unwrap();
    browser.picture("phone").await;
    // The session ends under the page: it says so, and what to do.
    world.drover(&["token", "create", "second"]).await;
    assert_eq!(world.drover(&["token", "revoke", "admin"]).await.code, 0);
    browser.sees("#stale", "your session is over").await;
    browser.sees("#stale a", "Sign in").await;
    browser.picture("stale").await;

    browser.end().await;
    world.stop().await;
}
