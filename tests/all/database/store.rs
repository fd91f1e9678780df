//! The store's own rules, on a file and on a server.

use super::{opened, server::Postgres};
use drover::store::{
    AttemptRow, ChunkFilter, Claimed, Database, DeliveryRow, DeploymentRow, NewChunk, Store, StoreError,
};
use sha2::Digest as _;

/// Each of these runs on a file, and all of them on one server, each in a database of its own.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_a_file {
            $(#[tokio::test]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(drover::store::Database::File(directory.path().join("drover.db"))).await;
            })*
        }

        #[tokio::test]
        async fn on_a_server() {
            let server = Postgres::start();
            $(
                println!("{}", stringify!($name));
                $name(Database::server(&server.create(stringify!($name))).unwrap()).await;
            )*
        }
    };
}

on_both!(
    lines_are_numbered_without_holes_and_found_by_number,
    a_later_daemon_has_a_higher_epoch_and_a_second_one_must_wait,
    a_stale_daemon_can_not_write,
    attempt_numbers_only_rise,
    any_text_is_taken,
    a_delivery_is_taken_once,
    a_newer_database_is_refused,
    what_is_watched_reads_no_large_table_from_end_to_end,
    what_is_over_for_long_goes_in_small_steps,
    launches_are_known_at_any_number_and_those_that_left_are_no_failures,
);

/// Findings 8 and 32 of the review of the engine.
async fn launches_are_known_at_any_number_and_those_that_left_are_no_failures(database: Database) {
    let store = opened(&database).await.unwrap();
    let mut tx = store.write().await.unwrap();
    for number in 0..700_i64 {
        let launch = DeploymentRow {
            group_name: "a/b".into(),
            state: "Preparing".into(),
            policy: "{}".into(),
            only_instance: Some(format!("i-{number:04}")),
            launch: 1,
            created_at: 1000 + number,
            ..Default::default()
        };
        let id = tx.insert_deployment(&launch).await.unwrap();
        // Most left, or their agents never came up: that says nothing about the revision.
        let state = if number % 100 == 0 { "Failed" } else { "Cancelled" };
        if number % 100 == 0 {
            let begun = DeploymentRow { id, total_at_start: 1, policy: "{}".into(), ..Default::default() };
            tx.set_prepared(&begun).await.unwrap();
        }
        tx.set_state(id, state, None, 5000, true).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(store.launches("a/b", 0).await.unwrap().len(), 700, "all are known, none is begun twice");
    assert_eq!(store.launches("a/b", 1600).await.unwrap().len(), 100);
    let ran = store.launches_that_ran("a/b", 5).await.unwrap();
    assert!(ran.len() == 5 && ran.iter().all(|row| row.state == "Failed"), "{ran:?}");
}

async fn what_is_watched_reads_no_large_table_from_end_to_end(database: Database) {
    let store = opened(&database).await.unwrap();
    deployment(&store).await;
    assert_eq!(store.full_table_scans().await.unwrap(), Vec::<String>::new());
}

async fn what_is_over_for_long_goes_in_small_steps(database: Database) {
    let store = opened(&database).await.unwrap();
    let mut ids = Vec::new();
    for state in ["Succeeded", "Failed", "Succeeded", "Rolling"] {
        let id = deployment(&store).await;
        let mut tx = store.write().await.unwrap();
        for at in 0..250 {
            let chunk = NewChunk {
                instance: Some("i-1"),
                event: None,
                attempt: None,
                source: "hook",
                payload: b"line\n",
                at,
            };
            tx.append_log(id, &chunk).await.unwrap();
        }
        let number = tx.next_attempt(1).await.unwrap();
        tx.insert_attempts(&[attempt_of(number, id, &format!("d-{id}"), 1)]).await.unwrap();
        tx.set_state(id, state, None, id, state != "Rolling").await.unwrap();
        tx.commit().await.unwrap();
        ids.push(id);
    }
    let [older, failed, good, rolling] = ids[..] else { panic!("four") };
    assert_eq!(store.log_bytes().await.unwrap(), 4 * 250 * 5);
    // Neither what runs nor the group's last good one.
    let prunable: Vec<i64> = store.prunable().await.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(prunable, [older, failed]);
    let mut steps = 0;
    loop {
        let mut tx = store.write().await.unwrap();
        let more = tx.prune_lines(older).await.unwrap();
        if !more {
            tx.prune_rest(older, 9).await.unwrap();
        }
        tx.commit().await.unwrap();
        if !more {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 2, "a step of 200 chunks and one of the rest");
    assert!(store.attempts(older).await.unwrap().is_empty());
    assert!(store.chunks_after(older, &ChunkFilter::default(), 0, 9).await.unwrap().is_empty());
    assert_eq!(store.deployment(older).await.unwrap().unwrap().pruned_at, Some(9));
    assert_eq!(store.chunks_after(good, &ChunkFilter::of_instance("i-1"), 248, 9).await.unwrap().len(), 2);
    assert_eq!(
        store.chunks_before(rolling, &ChunkFilter::of_instance("i-1"), i64::MAX, 3).await.unwrap()[0]
            .first_seq,
        250
    );
    assert!(
        store.chunks_before(rolling, &ChunkFilter::of_instance("i-2"), i64::MAX, 3).await.unwrap().is_empty()
    );
    assert_eq!(
        (store.attempts(good).await.unwrap().len(), store.log_bytes().await.unwrap()),
        (1, 3 * 250 * 5)
    );
}

/// After an error of the store it isn't known what is stored: what was received is forgotten, and the host is asked for its log
/// from the beginning, rather than having the same lines stored twice.
#[tokio::test]
async fn a_log_is_asked_for_anew_after_any_error_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::File(directory.path().join("drover.db"));
    let store = std::sync::Arc::new(opened(&database).await.unwrap());
    let id = deployment(&store).await;
    let mut tx = store.write().await.unwrap();
    tx.insert_attempts(&[attempt_of(7, id, "d", 1)]).await.unwrap();
    tx.commit().await.unwrap();
    let logs = drover::logs::Logs::new(std::sync::Arc::clone(&store), 1 << 20);
    let ingest = logs.receive(7, "nonce").await.unwrap();
    logs.take(&mut *ingest.lock().await, 0, b"one\ntwo\n").await.unwrap();
    assert_eq!(ingest.lock().await.wanted(), 8);
    // Another daemon has taken over: every write of this one is refused.
    behind(&database, "UPDATE meta SET value = '99' WHERE name = 'epoch'").await;
    let refused = logs.flush(&mut *ingest.lock().await).await;
    assert!(refused.is_err(), "{refused:?}");
    let anew = logs.receive(7, "nonce").await.unwrap();
    assert_eq!(anew.lock().await.wanted(), 0, "from the beginning");
}

/// A host that stops at its limit says so beyond it: that is kept, and the log is complete all the same. What comes beyond even
/// that is counted.
#[tokio::test]
async fn a_log_over_its_budget_is_complete_and_says_what_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&Database::File(directory.path().join("drover.db"))).await.unwrap();
    let store = std::sync::Arc::new(store);
    let id = deployment(&store).await;
    let logs = drover::logs::Logs::new(std::sync::Arc::clone(&store), 100);
    let margin = 1024 * 1024;
    for (attempt, size, says) in
        [(1, 101, None), (2, 100 + margin, None), (3, 300 + margin, Some("of attempt 3, 200 bytes of log"))]
    {
        let mut tx = store.write().await.unwrap();
        tx.insert_attempts(&[attempt_of(attempt, id, "d", 1)]).await.unwrap();
        tx.commit().await.unwrap();
        let before = store.deployment(id).await.unwrap().unwrap().last_seq;
        let text = "line\n".repeat(size / 5) + &"x".repeat(size % 5);
        let ingest = logs.receive(attempt, "nonce").await.unwrap();
        let mut ingest = ingest.lock().await;
        logs.take(&mut ingest, 0, text.as_bytes()).await.unwrap();
        let sum = hex::encode(sha2::Sha256::digest(&text));
        let ended = logs.complete(&mut ingest, size as u64, &sum, |_| Some("{}".into())).await;
        assert!(ended.unwrap(), "{size}");
        assert!(store.attempt(attempt).await.unwrap().unwrap().log_complete != 0, "{size}");
        let chunks = store.chunks_after(id, &ChunkFilter::default(), before, i64::MAX).await.unwrap();
        let said: Vec<_> = chunks.iter().filter(|chunk| chunk.source == "drover").collect();
        let said: String = said.iter().map(|chunk| String::from_utf8_lossy(&chunk.payload)).collect();
        match says {
            None => assert_eq!(said, "", "{size}"),
            Some(says) => assert!(said.contains("is longer than") && said.contains(says), "{said}"),
        }
    }
}

/// A copy that is made while lines are being written is one moment of them.
#[tokio::test]
async fn a_copy_made_meanwhile_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::File(directory.path().join("drover.db"));
    let store = std::sync::Arc::new(opened(&database).await.unwrap());
    let id = deployment(&store).await;
    let writing = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            for at in 0.. {
                let mut tx = store.write().await.unwrap();
                let chunk = NewChunk {
                    instance: None,
                    event: None,
                    attempt: None,
                    source: "hook",
                    payload: b"a\nb\n",
                    at,
                };
                tx.append_log(id, &chunk).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    };
    while store.deployment(id).await.unwrap().unwrap().last_seq < 100 {
        tokio::task::yield_now().await;
    }
    let copy = directory.path().join("copy.db");
    database.back_up(&copy).await.unwrap();
    writing.abort();
    let taken = database.back_up(&copy).await.unwrap_err().to_string();
    assert!(taken.contains("copy.db: File exists"), "{taken}");
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{names:?}");
    let copy = opened(&Database::File(copy)).await.unwrap();
    let last = copy.deployment(id).await.unwrap().unwrap().last_seq;
    let chunks = copy.chunks_after(id, &ChunkFilter::default(), 0, i64::MAX).await.unwrap();
    assert!(last >= 100 && chunks.iter().map(|chunk| chunk.lines).sum::<i64>() == last, "{last}");
}

async fn deployment(store: &Store) -> i64 {
    let mut tx = store.write().await.unwrap();
    let row = DeploymentRow {
        group_name: "a/b".into(),
        state: "Queued".into(),
        policy: "{}".into(),
        message: "a\0b".into(),
        ..Default::default()
    };
    let id = tx.insert_deployment(&row).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn lines_are_numbered_without_holes_and_found_by_number(database: Database) {
    let store = opened(&database).await.unwrap();
    let id = deployment(&store).await;
    for payload in [&b"one\nt\0\xffo\n"[..], b"three\n", b"", b"four\nfive\n"] {
        let mut tx = store.write().await.unwrap();
        let chunk = NewChunk { instance: None, event: None, attempt: None, source: "hook", payload, at: 1 };
        tx.append_log(id, &chunk).await.unwrap();
        tx.commit().await.unwrap();
    }
    let chunks = store.chunks_after(id, &ChunkFilter::default(), 0, 10).await.unwrap();
    assert_eq!(chunks[0].payload, b"one\nt\0\xffo\n");
    let firsts = |seq| {
        let store = &store;
        async move {
            store
                .chunks_after(id, &ChunkFilter::default(), seq, 10)
                .await
                .unwrap()
                .iter()
                .map(|c| c.first_seq)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(firsts(0).await, [1, 3, 4]);
    assert_eq!(firsts(1).await, [1, 3, 4]);
    assert_eq!(firsts(2).await, [3, 4]);
    assert_eq!(firsts(4).await, [4]);
    assert!(firsts(5).await.is_empty());
}

async fn a_later_daemon_has_a_higher_epoch_and_a_second_one_must_wait(database: Database) {
    let store = opened(&database).await.unwrap();
    match database.claim().await {
        Err(refused) => {
            assert!(refused.to_string().contains("in use by another drover daemon"), "{refused}");
        }
        Ok(Claimed::Theirs(who)) => {
            let process = format!("127.0.0.1 (process {}) is active", std::process::id());
            assert!(who.contains(&process), "{who}");
        }
        Ok(Claimed::Ours(_)) => panic!("two claims"),
    }
    let first = store.epoch();
    store.close().await;
    drop(store);
    // A server needs a moment to see that a session has ended.
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let claim = loop {
        match database.claim().await.unwrap() {
            Claimed::Ours(claim) => break claim,
            Claimed::Theirs(who) => assert!(tokio::time::Instant::now() < limit, "{who}"),
        }
    };
    assert!(Store::open(database, claim).await.unwrap().epoch() > first);
}

/// Runs a statement behind the store's back.
async fn behind(database: &Database, statement: &'static str) {
    let url = match database {
        Database::File(path) => format!("sqlite://{}", path.display()),
        Database::Server(server) => server.url().to_owned(),
    };
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn a_stale_daemon_can_not_write(database: Database) {
    let store = opened(&database).await.unwrap();
    behind(&database, "UPDATE meta SET value = '99' WHERE name = 'epoch'").await;
    assert!(matches!(store.write().await, Err(StoreError::Stale { .. })));
}

async fn attempt_numbers_only_rise(database: Database) {
    let store = opened(&database).await.unwrap();
    let id = deployment(&store).await;
    let mut tx = store.write().await.unwrap();
    let first = tx.next_attempt(1000).await.unwrap();
    tx.insert_attempts(&[attempt_of(first, id, "d", 0)]).await.unwrap();
    assert_eq!(
        (first, tx.next_attempt(10).await.unwrap(), tx.next_attempt(2000).await.unwrap()),
        (1000, 1001, 2000)
    );
    assert!(tx.set_outcome(first, "1", 1).await.unwrap());
    assert!(!tx.set_outcome(first, "2", 2).await.unwrap(), "the first word stands");
}

async fn any_text_is_taken(database: Database) {
    let store = opened(&database).await.unwrap();
    let id = deployment(&store).await;
    let mut tx = store.write().await.unwrap();
    tx.set_state(id, "Failed", Some("said \0 and 'grün'; DROP TABLE"), 1, true).await.unwrap();
    tx.commit().await.unwrap();
    let row = store.deployment(id).await.unwrap().unwrap();
    assert_eq!(row.reason.as_deref(), Some("said \u{fffd} and 'grün'; DROP TABLE"));
    assert_eq!(row.message, "a\u{fffd}b");
    assert!(store.deployments(Some("no\0ne"), 5).await.unwrap().is_empty());
    let intent = store.record_intent(id, "EnterStandby", "key", "{}", 1).await.unwrap();
    store.finish_intent(intent, Some("no\0"), 2).await.unwrap();
    assert_eq!(store.intents(id, 10).await.unwrap()[0].error.as_deref(), Some("no\u{fffd}"));
}

async fn a_delivery_is_taken_once(database: Database) {
    let store = opened(&database).await.unwrap();
    let row =
        DeliveryRow { id: "1".into(), digest: "d".into(), state: "received".into(), ..Default::default() };
    for (id, digest, taken) in [("1", "d", true), ("1", "e", false), ("2", "d", false), ("2", "e", true)] {
        let row = DeliveryRow { id: id.into(), digest: digest.into(), ..row.clone() };
        let mut tx = store.write().await.unwrap();
        assert_eq!(tx.insert_delivery(&row).await.unwrap(), taken, "{id} {digest}");
        tx.commit().await.unwrap();
    }
    assert_eq!(store.open_deliveries().await.unwrap().len(), 2);
}

async fn a_newer_database_is_refused(database: Database) {
    let store = opened(&database).await.unwrap();
    store.close().await;
    drop(store);
    let table = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 9999, 'of tomorrow', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    behind(&database, table).await;
    let claim = loop {
        if let Claimed::Ours(claim) = database.claim().await.unwrap() {
            break claim;
        }
    };
    let refused = Store::open(database, claim).await.err().unwrap().to_string();
    assert!(refused.contains("made by a newer version of drover"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn what_can_not_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = opened(&Database::File(directory.path().join("missing/drover.db"))).await.err().unwrap();
    assert!(error.to_string().contains("missing/drover.db can't be opened"), "{error}");
    let nobody = Database::server("postgres://drover:secret@127.0.0.1:1/drover").unwrap();
    let error = opened(&nobody).await.err().unwrap().to_string();
    assert!(error.contains("drover at 127.0.0.1:1 can't be reached"), "{error}");
    assert!(error.contains("check that the server runs") && !error.contains("secret"), "{error}");
    let error = Database::server("mysql://x:secret@y/z").unwrap_err();
    assert!(error.contains("postgres://USER@HOST/NAME") && !error.contains("secret"), "{error}");
}

fn attempt_of(number: i64, deployment: i64, dispatch: &str, created_at: i64) -> AttemptRow {
    AttemptRow {
        number,
        deployment,
        instance: "i-1".into(),
        dispatch: dispatch.into(),
        first_event: "ApplicationStop".into(),
        outcome: None,
        log_bytes: 0,
        log_complete: 0,
        created_at,
        ended_at: None,
    }
}
