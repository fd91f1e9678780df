//! The log as a live stream: plain text, NDJSON or server-sent events.

use super::{Web, view::exit_code};
use crate::{
    logs::follow::{Row, Wanted},
    store::StoreError,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use warp::{Reply as _, reply::Response};

/// A quiet stream says that it is alive this often.
const ALIVE: Duration = Duration::from_secs(15);

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `instance event | text`
    Text,
    /// A JSON object a line.
    Ndjson,
    /// Server-sent events, with the row's number as id.
    Events,
}

impl Form {
    /// What the `Accept` header asks for.
    pub fn of(accept: Option<&str>) -> Form {
        match accept {
            Some(accept) if accept.contains("text/event-stream") => Form::Events,
            Some(accept)
                if accept.contains("application/x-ndjson") || accept.contains("application/json") =>
            {
                Form::Ndjson
            }
            _ => Form::Text,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; charset=utf-8",
            Form::Ndjson => "application/x-ndjson",
            Form::Events => "text/event-stream",
        }
    }

    fn rows(self, rows: &[Row]) -> String {
        let mut text = String::new();
        for row in rows {
            match self {
                Form::Text => {
                    let instance = row.instance.as_deref().unwrap_or("drover");
                    let event = row.event.as_deref().unwrap_or("-");
                    text.push_str(&format!("{instance} {event} | {}\n", row.text));
                }
                Form::Ndjson => {
                    text.push_str(&json(row));
                    text.push('\n');
                }
                Form::Events => text.push_str(&format!("id: {}\ndata: {}\n\n", row.seq, json(row))),
            }
        }
        text
    }

    fn end(self, state: &str, exit_code: Option<i32>) -> String {
        let end = json!({ "state": state, "exit_code": exit_code });
        match self {
            Form::Text => String::new(),
            Form::Ndjson => format!("{}\n", json!({ "end": end })),
            Form::Events => format!("event: end\ndata: {end}\n\n"),
        }
    }

    fn alive(self) -> &'static str {
        match self {
            Form::Text => "",
            Form::Ndjson => "{\"ping\":true}\n",
            Form::Events => ": ping\n\n",
        }
    }
}

fn json(row: &Row) -> String {
    // Strings and numbers only: serialising them can't fail.
    serde_json::to_string(row).unwrap_or_default()
}

/// The response.
pub fn respond(web: Web, deployment: i64, wanted: Wanted, form: Form) -> Response {
    let stop = web.stop.clone();
    let follow = wanted.follow;
    let rows = with_pings(web.logs.follow(deployment, wanted));
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let text = rows.map(move |item| match item {
        Some(Ok(rows)) => form.rows(&rows),
        // Without an `end` the reader knows that there is more, and comes back with the last number it has seen.
        Some(Err(error)) => {
            tracing::warn!("reading the log of deployment {deployment}: {error}");
            seen.store(true, Ordering::Relaxed);
            String::new()
        }
        None => form.alive().to_owned(),
    });
    let end = stream::once(async move {
        if broken.load(Ordering::Relaxed) {
            return String::new();
        }
        let row = web.store.deployment(deployment).await.ok().flatten();
        let end = row.filter(|row| !follow || exit_code(row).is_some());
        end.map(|row| form.end(&row.state, exit_code(&row))).unwrap_or_default()
    });
    let bytes = text
        .chain(end)
        .filter(|text| std::future::ready(!text.is_empty()))
        .map(|text| Ok::<_, Infallible>(Bytes::from(text)));
    // Ends with the daemon: the reader sees no `end` and comes back.
    let bytes = bytes.take_until(async move { stop.cancelled().await });
    let mut response = warp::reply::stream(from_task(bytes)).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(form.content_type()));
    headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
    // Proxies that buffer (nginx) are told not to.
    headers.insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

/// The same stream, read by a task of its own: a response body must be `Sync`, which queries are not. Ends with the
/// reader.
fn from_task<T: Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> + Send + Sync {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut items = Box::pin(items);
        while let Some(item) = items.next().await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// `None` whenever nothing has come for a while.
fn with_pings(
    rows: impl Stream<Item = Result<Vec<Row>, StoreError>> + Send + 'static,
) -> impl Stream<Item = Option<Result<Vec<Row>, StoreError>>> + Send {
    stream::unfold(Box::pin(rows), |mut rows| async move {
        match tokio::time::timeout(ALIVE, rows.next()).await {
            Ok(item) => item.map(|item| (Some(item), rows)),
            Err(_) => Some((None, rows)),
        }
    })
}
