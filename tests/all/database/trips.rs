//! How often the database is asked, counted on the way to it.

use super::{opened, server::Postgres};
use drover::{
    logs::note_chunk,
    store::{AttemptRow, Database, DeploymentRow, InstanceWrite, QuarantineWrite, Store},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The way to a server, on which round trips are counted: whenever the client speaks after the server has spoken.
struct Way {
    port: u16,
    trips: Arc<AtomicU64>,
}

impl Way {
    async fn to(port: u16) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Way { port: listener.local_addr().unwrap().port(), trips: Arc::default() };
        let trips = Arc::clone(&way.trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let answered = Arc::new(AtomicBool::new(true));
                let (asked, trips) = (Arc::clone(&answered), Arc::clone(&trips));
                tokio::spawn(carry(from_client, to_server, move || {
                    trips.fetch_add(u64::from(asked.swap(false, Ordering::SeqCst)), Ordering::SeqCst);
                }));
                tokio::spawn(carry(from_server, to_client, move || answered.store(true, Ordering::SeqCst)));
            }
        });
        way
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, note: impl Fn() + Send) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        note();
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// What a tick writes of so many instances; the round trips that it took.
async fn write_tick(store: &Store, way: &Way, deployment: i64, instances: i64) -> u64 {
    let before = way.trips.load(Ordering::SeqCst);
    let ids: Vec<String> = (0..instances).map(|number| format!("i-{instances}-{number}")).collect();
    let mut tx = store.write().await.unwrap();
    let records = ids.iter().map(|id| InstanceWrite {
        instance: id.clone(),
        state: "Deploying".into(),
        record: "{}".into(),
    });
    tx.put_instances(deployment, &records.collect::<Vec<_>>()).await.unwrap();
    let borrowed: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(tx.records_of(deployment, &borrowed).await.unwrap().len(), ids.len());
    let goods: Vec<_> = ids.iter().map(|id| (id.clone(), "abc".to_owned())).collect();
    tx.set_good_revisions("a/b", &goods, 1).await.unwrap();
    tx.set_dirty("a/b", &ids).await.unwrap();
    tx.end_quarantines(&ids).await.unwrap();
    let quarantines = ids.iter().map(|id| QuarantineWrite {
        auto_scaling_group: "asg".into(),
        instance: id.clone(),
        reason: "it failed".into(),
    });
    tx.put_quarantines(deployment, &quarantines.collect::<Vec<_>>(), 1).await.unwrap();
    let first = tx.next_attempt(1).await.unwrap();
    let attempts = ids.iter().zip(first..).map(|(id, number)| AttemptRow {
        number,
        deployment,
        instance: id.clone(),
        dispatch: format!("d-{instances}"),
        first_event: "ApplicationStop".into(),
        outcome: None,
        log_bytes: 0,
        log_complete: 0,
        created_at: 1,
        ended_at: None,
    });
    tx.insert_attempts(&attempts.collect::<Vec<_>>()).await.unwrap();
    let notes: Vec<_> = ids.iter().map(|id| note_chunk(Some(id), b"Deploying: batch 1\n")).collect();
    let last = tx.append_logs(deployment, &notes).await.unwrap();
    tx.commit().await.unwrap();
    assert!(last >= instances);
    way.trips.load(Ordering::SeqCst) - before
}

#[tokio::test]
async fn a_tick_of_five_hundred_instances_takes_no_more_round_trips_than_one_of_five() {
    let server = Postgres::start();
    let url = server.create("trips");
    let port = server.port();
    let way = Way::to(port).await;
    let url = url.replace(&format!(":{port}/"), &format!(":{}/", way.port));
    let store = opened(&Database::server(&url).unwrap()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let row = DeploymentRow { group_name: "a/b".into(), policy: "{}".into(), ..Default::default() };
    let id = tx.insert_deployment(&row).await.unwrap();
    tx.commit().await.unwrap();
    // The first one also prepares the statements whose text is always the same.
    write_tick(&store, &way, id, 3).await;
    let (few, many) = (write_tick(&store, &way, id, 5).await, write_tick(&store, &way, id, 500).await);
    println!("round trips of a tick's writes: {few} for 5 instances, {many} for 500");
    // A connection that is used for the first time prepares its statements.
    assert!(many <= few + 4, "{many} round trips for 500 instances, {few} for 5");
    let stored = store.good_revisions("a/b").await.unwrap();
    assert_eq!(stored.len(), 508);
    assert_eq!(store.quarantines().await.unwrap().len(), 508);
    assert_eq!(store.attempts(id).await.unwrap().len(), 508);
    store.close().await;
}
