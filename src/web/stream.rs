//! The log as a live stream: plain text, NDJSON or server-sent events.

use super::{access::Caller, context::Web, limits::READER_TIMEOUT, view::exit_code};
use crate::{
    api::{LogEnd, LogLine, LogRow},
    logs::{clean::clean, follow::Wanted},
    store::StoreError,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
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

/// What a reader gets of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// As the hook wrote it.
    Raw,
    /// Without what a terminal would obey: escape sequences, other control characters, overwritten states.
    Clean,
}

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

    fn rows(self, mut rows: Vec<LogLine>, kind: Text) -> String {
        let mut text = String::new();
        for row in &mut rows {
            if kind == Text::Clean {
                row.text = clean(&row.text, false);
            }
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
        let end = LogEnd { state: state.to_owned(), exit_code };
        match self {
            Form::Text => String::new(),
            Form::Events => format!("event: end\ndata: {}\n\n", json(&end)),
            Form::Ndjson => format!("{}\n", json(&LogRow::End { end })),
        }
    }

    fn alive(self) -> String {
        match self {
            Form::Text => String::new(),
            Form::Ndjson => format!("{}\n", json(&LogRow::Ping { ping: true })),
            Form::Events => ": ping\n\n".to_owned(),
        }
    }
}

/// JSON escapes control characters below U+0020; those from U+007F to U+009F, which terminals obey too, are escaped as well.
fn json(row: &impl Serialize) -> String {
    // Strings and numbers only: serialising them can't fail.
    let text = serde_json::to_string(row).unwrap_or_default();
    let obeyed = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
    if !text.contains(obeyed) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len() + 6), |mut out, c| {
        if obeyed(c) {
            out.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            out.push(c);
        }
        out
    })
}

/// The response.
pub fn respond(
    web: Web,
    caller: Caller,
    deployment: i64,
    wanted: Wanted,
    (form, kind): (Form, Text),
) -> Response {
    let (stop, gate) = (web.stop.clone(), web.clone());
    let follow = wanted.follow;
    let rows = with_pings(web.logs.follow(deployment, wanted));
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let text = rows.map(move |item| match item {
        Some(Ok(rows)) => form.rows(rows, kind),
        // Without an `end` the reader knows that there is more, and comes back with the last number it has seen.
        Some(Err(error)) => {
            tracing::warn!("reading the log of deployment {deployment}: {error}");
            seen.store(true, Ordering::Relaxed);
            String::new()
        }
        None => form.alive(),
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
    // Ends with the daemon, or with the caller's token: the reader sees no `end` and comes back, to be let in or not.
    let bytes = bytes.take_until(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = gate.shut_out(&caller) => {}
        }
    });
    let mut response = warp::reply::stream(from_task(bytes)).into_response();
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(form.content_type()));
    headers.insert("cache-control", http::HeaderValue::from_static("no-store"));
    // Proxies that buffer (nginx) are told not to.
    headers.insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

/// The same stream, read by a task of its own: a response body must be `Sync`, which queries are not. Ends with the
/// reader, or when it takes nothing any more.
fn from_task<T: Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> + Send + Sync {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut items = Box::pin(items);
        while let Some(item) = items.next().await {
            if !matches!(tokio::time::timeout(READER_TIMEOUT, sender.send(item)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// `None` whenever nothing has come for a while.
fn with_pings(
    rows: impl Stream<Item = Result<Vec<LogLine>, StoreError>> + Send + 'static,
) -> impl Stream<Item = Option<Result<Vec<LogLine>, StoreError>>> + Send {
    stream::unfold(Box::pin(rows), |mut rows| async move {
        match tokio::time::timeout(ALIVE, rows.next()).await {
            Ok(item) => item.map(|item| (Some(item), rows)),
            Err(_) => Some((None, rows)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let row = |text: &str| LogLine {
            seq: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            instance: Some("i-1".into()),
            event: None,
            attempt: None,
            source: "hook".into(),
            text: text.into(),
        };
        let bad = "a\u{1b}]52;c;AA\u{7}b\u{9b}2Jc\u{7f}\td";
        assert_eq!(Form::Text.rows(vec![row(bad)], Text::Clean), "i-1 - | abc\td\n");
        assert_eq!(Form::Text.rows(vec![row(bad)], Text::Raw), format!("i-1 - | {bad}\n"));
        let json = Form::Ndjson.rows(vec![row(bad)], Text::Raw);
        assert!(json.trim_end().chars().all(|c| !c.is_control()), "{json:?}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["text"], bad, "and nothing is lost");
    }
}
