//! CloudWatch Logs: the calls that make groups and streams, write events and read them back.
//!
//! A page has at most 10,000 events or 1 MB. The forward token of the last page is the token that was given.

mod log_groups;
mod upload;

use serde_json::{Value, json};

use super::account::{ACCOUNT, REGION};
use super::state::State;
use super::wire::{Answer, ApiError, Params};

pub use log_groups::LogGroups;
pub use upload::Uploaded;

use log_groups::{Event, Group, Stream};

/// The most events in one page of GetLogEvents.
const PAGE_EVENTS: usize = 10_000;
/// The most bytes in one page of GetLogEvents.
const PAGE_BYTES: usize = 1 << 20;
/// The longest message of an event, bytes.
const LARGEST_EVENT: usize = 256 * 1024;
/// Retention times that CloudWatch accepts, days.
const RETENTIONS: &[i64] = &[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
];

/// Makes the error that there is no such group or stream.
fn not_found(what: &str) -> ApiError {
    ApiError::refused("ResourceNotFoundException", format!("The specified log {what} does not exist."))
}

impl State {
    /// Answers a call of the CloudWatch Logs API.
    pub fn cloudwatch_logs(&mut self, action: &str, params: &Value) -> Answer {
        let p = Params::new(params, "InvalidParameterException");
        match action {
            "CreateLogGroup" => self.create_log_group(p),
            "PutRetentionPolicy" => self.put_retention_policy(p),
            "DescribeLogGroups" => self.describe_log_groups(p),
            "CreateLogStream" => self.create_log_stream(p),
            "DescribeLogStreams" => self.describe_log_streams(p),
            "PutLogEvents" => self.put_log_events(p),
            "GetLogEvents" => self.get_log_events(p),
            _ => Err(ApiError::refused("UnknownOperationException", "")),
        }
    }

    fn log_group(&mut self, p: Params<'_>) -> Result<&mut Group, ApiError> {
        let name = p.need("logGroupName")?;
        self.logs.groups.get_mut(name).ok_or_else(|| not_found("group"))
    }

    fn create_log_group(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("logGroupName")?;
        let sound = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
        if name.len() > 512 || !name.chars().all(sound) {
            return Err(p.error(format!("Value '{name}' at 'logGroupName' failed to satisfy constraint")));
        }
        if self.logs.groups.contains_key(name) {
            let words = "The specified log group already exists";
            return Err(ApiError::refused("ResourceAlreadyExistsException", words));
        }
        let created = self.clock.unix_ms();
        self.logs.groups.insert(name.to_owned(), Group { created, ..Group::default() });
        Ok(json!({}))
    }

    fn put_retention_policy(&mut self, p: Params<'_>) -> Answer {
        let days = p.int("retentionInDays")?.unwrap_or_default();
        if !RETENTIONS.contains(&days) {
            return Err(p.error(format!("Value '{days}' at 'retentionInDays' failed to satisfy constraint")));
        }
        self.log_group(p)?.retention = Some(days);
        Ok(json!({}))
    }

    fn describe_log_groups(&mut self, p: Params<'_>) -> Answer {
        let prefix = p.str("logGroupNamePrefix").unwrap_or_default();
        let groups: Vec<Value> = self
            .logs
            .groups
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, group)| {
                let mut shown = json!({
                    "logGroupName": name, "creationTime": group.created, "storedBytes": 0, "metricFilterCount": 0,
                    "arn": format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"),
                });
                if let Some(days) = group.retention {
                    shown["retentionInDays"] = json!(days);
                }
                shown
            })
            .collect();
        Ok(json!({ "logGroups": groups }))
    }

    fn create_log_stream(&mut self, p: Params<'_>) -> Answer {
        let created = self.clock.unix_ms();
        let name = p.need("logStreamName")?;
        let group = self.log_group(p)?;
        if group.streams.contains_key(name) {
            let words = "The specified log stream already exists";
            return Err(ApiError::refused("ResourceAlreadyExistsException", words));
        }
        group.streams.insert(name.to_owned(), Stream { created, events: Vec::new() });
        Ok(json!({}))
    }

    fn describe_log_streams(&mut self, p: Params<'_>) -> Answer {
        let prefix = p.str("logStreamNamePrefix").unwrap_or_default();
        let streams: Vec<Value> = self
            .log_group(p)?
            .streams
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, stream)| {
                let mut shown =
                    json!({ "logStreamName": name, "creationTime": stream.created, "storedBytes": 0 });
                if let (Some(first), Some(last)) = (stream.events.first(), stream.events.last()) {
                    shown["firstEventTimestamp"] = json!(first.timestamp);
                    shown["lastEventTimestamp"] = json!(last.timestamp);
                    shown["lastIngestionTime"] = json!(last.ingested);
                }
                shown
            })
            .collect();
        Ok(json!({ "logStreams": streams }))
    }

    fn put_log_events(&mut self, p: Params<'_>) -> Answer {
        let now = self.clock.unix_ms();
        let name = p.need("logStreamName")?;
        let mut events = Vec::new();
        for event in p.objects("logEvents") {
            let message = event.need("message")?.to_owned();
            if message.len() > LARGEST_EVENT {
                return Err(p.error(format!(
                    "Log event too large: {} bytes exceeds limit of {LARGEST_EVENT}",
                    message.len()
                )));
            }
            let timestamp = event.int("timestamp")?.unwrap_or(now);
            events.push(Event { timestamp, message, ingested: now });
        }
        let stream = self.log_group(p)?.streams.get_mut(name).ok_or_else(|| not_found("stream"))?;
        stream.events.append(&mut events);
        Ok(json!({ "nextSequenceToken": stream.events.len().to_string() }))
    }

    fn get_log_events(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("logStreamName")?;
        let limit = p.int("limit")?.map_or(PAGE_EVENTS, |n| usize::try_from(n).unwrap_or(1));
        let token = p.str("nextToken").map(str::to_owned);
        let from_head = p.bool("startFromHead").unwrap_or_default();
        let bad = p.error("The specified nextToken is invalid.");
        let stream = self.log_group(p)?.streams.get(name).ok_or_else(|| not_found("stream"))?;
        let all = &stream.events;
        let start = match &token {
            Some(token) => token
                .strip_prefix("f/")
                .and_then(|text| text.parse::<usize>().ok())
                .filter(|at| *at <= all.len())
                .ok_or(bad)?,
            None if from_head => 0,
            None => all.len().saturating_sub(limit),
        };
        let mut bytes = 0;
        let page: Vec<Value> = all[start..]
            .iter()
            .take(limit.min(PAGE_EVENTS))
            .take_while(|event| {
                bytes += event.message.len();
                bytes <= PAGE_BYTES
            })
            .map(|event| json!({ "timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingested }))
            .collect();
        let next = start + page.len();
        Ok(json!({
            "events": page, "nextForwardToken": format!("f/{next}"), "nextBackwardToken": format!("b/{start}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut State, action: &str, params: Value) -> Answer {
        state.cloudwatch_logs(action, &params)
    }

    #[test]
    fn a_stream_is_read_page_by_page_and_its_last_token_stays() {
        let mut state = State::new(1.0, 1);
        let stream = json!({ "logGroupName": "g", "logStreamName": "s" });
        assert_eq!(
            ask(&mut state, "GetLogEvents", stream.clone()).unwrap_err().code,
            "ResourceNotFoundException"
        );
        ask(&mut state, "CreateLogGroup", stream.clone()).unwrap();
        assert_eq!(
            ask(&mut state, "CreateLogGroup", stream.clone()).unwrap_err().code,
            "ResourceAlreadyExistsException"
        );
        ask(&mut state, "CreateLogStream", stream.clone()).unwrap();
        let mut put = stream.clone();
        put["logEvents"] =
            (0..3).map(|n| json!({ "timestamp": n, "message": "x".repeat(250_000) })).collect();
        ask(&mut state, "PutLogEvents", put.clone()).unwrap();
        ask(&mut state, "PutLogEvents", put).unwrap();
        let mut get = stream;
        get["startFromHead"] = json!(true);
        let mut sizes = Vec::new();
        for _ in 0..4 {
            let page = ask(&mut state, "GetLogEvents", get.clone()).unwrap();
            sizes.push(page["events"].as_array().unwrap().len());
            get["nextToken"] = page["nextForwardToken"].clone();
        }
        assert_eq!(sizes, [4, 2, 0, 0]);
        assert_eq!(get["nextToken"], "f/6");
    }
}
