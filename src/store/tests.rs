use super::*;

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("drover.db")).await.unwrap();
    (dir, store)
}

async fn deployment(store: &Store) -> i64 {
    let mut tx = store.write().await.unwrap();
    let row = DeploymentRow {
        group_name: "a/b".into(),
        state: "Queued".into(),
        policy: "{}".into(),
        ..Default::default()
    };
    let id = tx.insert_deployment(&row).await.unwrap();
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn lines_are_numbered_without_holes_and_found_by_number() {
    let (_dir, store) = store().await;
    let id = deployment(&store).await;
    for payload in [&b"one\ntwo\n"[..], b"three\n", b"", b"four\nfive\n"] {
        let mut tx = store.write().await.unwrap();
        let chunk = NewChunk { instance: None, event: None, attempt: None, source: "hook", payload, at: 1 };
        tx.append_log(id, &chunk).await.unwrap();
        tx.commit().await.unwrap();
    }
    let firsts = |seq| {
        let store = &store;
        async move {
            store.chunks_after(id, seq, 10).await.unwrap().iter().map(|c| c.first_seq).collect::<Vec<_>>()
        }
    };
    assert_eq!(firsts(0).await, [1, 3, 4]);
    assert_eq!(firsts(1).await, [1, 3, 4]);
    assert_eq!(firsts(2).await, [3, 4]);
    assert_eq!(firsts(4).await, [4]);
    assert!(firsts(5).await.is_empty());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_a_later_one_has_a_higher_epoch() {
    let (dir, store) = store().await;
    let path = dir.path().join("drover.db");
    let refused = Store::open(&path).await.err().unwrap();
    assert!(refused.to_string().contains("in use by another drover daemon"), "{refused}");
    let first = store.epoch();
    store.close().await;
    drop(store);
    assert!(Store::open(&path).await.unwrap().epoch() > first);
}

#[tokio::test]
async fn a_stale_daemon_can_not_write() {
    let (_dir, store) = store().await;
    sqlx::query("UPDATE meta SET value = '99' WHERE name = 'epoch'").execute(&store.pool).await.unwrap();
    assert!(matches!(store.write().await, Err(StoreError::Stale { .. })));
}

#[tokio::test]
async fn a_file_that_can_not_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("missing/drover.db")).await.err().unwrap();
    assert!(error.to_string().contains("missing/drover.db can't be opened"), "{error}");
}

#[tokio::test]
async fn attempt_numbers_only_rise() {
    let (_dir, store) = store().await;
    let id = deployment(&store).await;
    let mut tx = store.write().await.unwrap();
    let first = tx.next_attempt(1000).await.unwrap();
    tx.insert_attempt(first, id, "i-1", "d", "ApplicationStop", 0).await.unwrap();
    assert_eq!(
        (first, tx.next_attempt(10).await.unwrap(), tx.next_attempt(2000).await.unwrap()),
        (1000, 1001, 2000)
    );
    assert!(tx.set_outcome(first, "1").await.unwrap());
    assert!(!tx.set_outcome(first, "2").await.unwrap(), "the first word stands");
}
