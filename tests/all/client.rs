//! The command-line client as its user meets it: the binary against a scripted API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEPLOYMENT: &str = r#"{"id":7,"group":"sample/demo","revision":{"sha":"3f2a1b9000000000000000000000000000000000",
"requested":"main","repository":"acme/sample","message":"Version 2"},"state":"STATE","reason":null,"by":"api",
"created_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:02:10Z",
"exit_code":CODE,"explain":[],"counts":{"succeeded":1,"failed":1,"in_work":0,"pending":0,"total":2},"attempts":3,
"instances":[{"id":"i-1","zone":"a","state":"Succeeded","batch":1,"attempts":2,"event":null,"reason":null,
"explain":null,"since":"2026-01-01T00:00:00Z"},{"id":"i-2","zone":"b","state":"Failed","batch":1,"attempts":1,
"event":"ApplicationStart","reason":"exit code 1","explain":null,"since":"2026-01-01T00:00:00Z"}],"last_seq":3}"#;

fn deployment(state: &str, code: &str) -> String {
    DEPLOYMENT.replace("STATE", state).replace("CODE", code)
}

/// What a scripted API does with a request.
enum Answer {
    /// A status and a body.
    Whole(u16, String),
    /// The start of a stream, which then breaks.
    Cut(String),
    /// The start of a stream, which then stays open.
    Hang(String),
}

/// An API that answers each request, given as its first line, as its script says.
struct Api {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    /// Starts it; `script` gets the request line and how many such requests there were before.
    fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::<String>::new()));
        let (log, script) = (asked.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, script) = (log.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &log, script.as_ref()));
            }
        });
        Api { url, asked }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.args(args).env("DROVER_URL", &self.url).env("DROVER_TOKEN", "t").env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, script: &dyn Fn(&str, usize) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut length = 0;
    let mut token = false;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() <= 2 {
            break;
        }
        let header = header.to_ascii_lowercase();
        token |= header.trim_end() == "authorization: bearer t";
        if let Some(n) = header.strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let asked = format!("{line} {}", String::from_utf8(body).unwrap()).trim_end().to_owned();
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.iter().filter(|other| other.split(['?', ' ']).take(2).eq(asked.split(['?', ' ']).take(2))).count()
            - 1
    };
    let answer = if token { script(&asked, before) } else { Answer::Whole(401, "{}".to_owned()) };
    match answer {
        Answer::Whole(status, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
        Answer::Cut(body) => chunk(&mut stream, &body),
        Answer::Hang(body) => {
            chunk(&mut stream, &body);
            // Until the client leaves.
            let _ = reader.read(&mut [0]);
        }
    }
}

fn chunk(stream: &mut TcpStream, body: &str) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let _ = stream.write_all(format!("{head}{:x}\r\n{body}\r\n", body.len()).as_bytes());
}

fn row(seq: u64, instance: &str, text: &str) -> String {
    let row = serde_json::json!({"seq": seq, "at": "2026-01-01T00:00:00Z", "instance": instance,
        "event": "ApplicationStart", "attempt": 1, "source": "hook", "text": text});
    format!("{row}\n")
}

const PARTIAL: &str = "{\"end\":{\"state\":\"Partial\",\"exit_code\":4}}\n";

#[test]
fn a_follow_survives_a_broken_stream_and_ends_with_the_deployments_code() {
    let api = Api::start(|asked, before| match asked {
        _ if asked.starts_with("POST /api/v1/deployments ") => {
            Answer::Whole(201, deployment("Queued", "null"))
        }
        _ if asked.contains("/logs?") && before == 0 => {
            Answer::Cut(row(1, "i-1", "one") + &row(2, "i-2", "\x1b[2Jtwo"))
        }
        // A row that was seen already comes again, as it may after a daemon's crash.
        _ if asked.contains("/logs?") => {
            Answer::Whole(200, row(2, "i-2", "two") + &row(3, "i-2", "three") + PARTIAL)
        }
        _ => Answer::Whole(200, deployment("Partial", "4")),
    });
    let args = ["deploy", "main", "--group", "sample/demo", "-f", "--batch", "2", "--min-in-service", "3"];
    let output = api.run(&args);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "deployment 7: sample/demo 3f2a1b9 (main) “Version 2” Queued\n\
         i-1 ApplicationStart | one\ni-2 ApplicationStart | \x1b[2Jtwo\ni-2 ApplicationStart | three\n\n\
         i-2 Failed: how the output of ApplicationStart ended, attempt 1\n  \x1b[2Jtwo\n  three\n\
         all of it: drover logs 7 --instance i-2 --event ApplicationStart\n\n\
         deployment 7: Partial\n  revision   sample/demo 3f2a1b9 (main) “Version 2”\n  \
         instances  1 ok, 1 failed of 2\n    i-2 Failed in ApplicationStart: exit code 1\n    \
         i-1 succeeded after 2 attempts\n  attempts   3\n  duration   2 min 10 s\n"
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("waiting up to 9 min 59 s for it"), "{stderr}");
    let asked = api.asked.lock().unwrap();
    let body = r#"{"revision":"main","group":"sample/demo","batch":"2","min_in_service":"3"}"#;
    assert_eq!(asked[0], format!("POST /api/v1/deployments {body}"));
    assert_eq!(asked[2], "GET /api/v1/deployments/7/logs?after=2&follow=true");
}

#[test]
fn a_daemon_that_stays_away_leaves_the_end_unknown() {
    let api = Api::start(|_, before| match before {
        0 => Answer::Cut(row(1, "i-1", "one")),
        _ => Answer::Whole(503, String::new()),
    });
    let output = api.run(&["logs", "7", "-f", "--patience", "1s"]);
    assert_eq!(output.status.code(), Some(5), "neither a success nor a failure");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("how deployment 7 ends is not known: the daemon at"), "{said}");
    assert!(said.contains("re-attach with: drover logs 7 -f"), "{said}");
}

#[test]
fn a_stored_log_that_is_cut_is_read_on_and_never_taken_for_whole() {
    let api = Api::start(|_, before| match before {
        // A daemon that stops ends what it sends in order, but for the last row.
        0 => Answer::Whole(200, row(1, "i-1", "one")),
        _ => Answer::Whole(200, row(2, "i-1", "two") + PARTIAL),
    });
    let output = api.run(&["logs", "7"]);
    assert_eq!(output.status.code(), Some(0));
    let said = "i-1 ApplicationStart | one\ni-1 ApplicationStart | two\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), said);
    assert_eq!(api.asked.lock().unwrap()[1], "GET /api/v1/deployments/7/logs?after=1&follow=false");
}

#[test]
fn interrupting_a_follow_detaches() {
    let api = Api::start(|_, _| Answer::Hang(row(1, "i-1", "one")));
    let mut child = api.command(&["logs", "7", "-f"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "i-1 ApplicationStart | one\n");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "deploy a -f && deploy b -f goes no further");
    let said = "detached: the deployment goes on; re-attach with: drover logs 7 -f\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), said);
    assert!(api.asked.lock().unwrap().iter().all(|asked| asked.starts_with("GET ")));
}

#[test]
fn what_the_daemon_finds_fault_with_is_a_usage_error() {
    for status in [400, 404, 422, 409, 500] {
        let body = r#"{"error":{"code":"unknown-group","message":"there is no group `a/b`"}}"#;
        let api = Api::start(move |_, _| Answer::Whole(status, body.to_owned()));
        let output = api.run(&["deploy", "main", "--group", "a/b", "-f"]);
        assert_eq!(
            output.status.code(),
            Some(if matches!(status, 400 | 404 | 422) { 2 } else { 1 }),
            "{status}"
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: there is no group `a/b`\n");
        assert_eq!(api.run(&["status", "9"]).status.code(), output.status.code());
    }
    let api = Api::start(|_, _| Answer::Whole(500, String::new()));
    for args in [&["deploy", "main"][..], &["logs", "x"], &["status", "--url", "nowhere"]] {
        assert_eq!(api.run(args).status.code(), Some(2), "{args:?}");
    }
    assert!(api.asked.lock().unwrap().is_empty());
}

#[test]
fn stored_logs_and_json_come_as_they_are() {
    let rows = row(1, "i-1", "one") + &row(2, "i-1", "two");
    let stored = rows.clone();
    let api = Api::start(move |asked, _| match asked {
        _ if asked.contains("/logs?") => Answer::Whole(200, stored.clone() + PARTIAL),
        _ => Answer::Whole(200, "{\"deployments\":[]}".to_owned()),
    });
    let output = api.run(&["logs", "7", "--instance", "i-1", "--event", "ApplicationStart"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    let query = "GET /api/v1/deployments/7/logs?after=0&follow=false&instance=i-1&event=ApplicationStart";
    assert_eq!(api.asked.lock().unwrap()[0], query);
    let output = api.run(&["logs", "7", "-f", "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8(output.stdout).unwrap();
    let seqs: Vec<_> = said
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|row| row["seq"].as_u64().or(row["end"]["exit_code"].as_u64()).unwrap())
        .collect();
    assert_eq!(seqs, [1, 2, 4]);
    assert_eq!(String::from_utf8(api.run(&["status", "--json"]).stdout).unwrap(), "{\"deployments\":[]}\n");
}
