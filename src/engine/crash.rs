//! Where a test makes the daemon die: `DROVER_CRASH_AT=<intent>:<before|after|lost|panic>`, in debug builds alone. Every
//! effect on the world has an intent, so that these are all the points there are.

/// When, around an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(debug_assertions), allow(dead_code, reason = "only a test asks for them"))]
pub(super) enum When {
    /// The intent is written, the call not made.
    Before,
    /// The call was made and answered, the answer not recorded.
    After,
    /// The call had its effect, its answer was taken for lost, and that was recorded.
    Lost,
    /// As before, but only the task panics.
    Panic,
}

#[cfg(debug_assertions)]
pub(super) use armed::{answered, point};
#[cfg(not(debug_assertions))]
pub(super) use unarmed::{answered, point};

#[cfg(debug_assertions)]
mod armed {
    use super::When;
    use crate::fleet::{FleetError, Kind};
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use std::sync::LazyLock;

    static AT: LazyLock<Option<(i64, When)>> = LazyLock::new(|| {
        let text = std::env::var("DROVER_CRASH_AT").ok()?;
        let (intent, when) = text.split_once(':')?;
        let when = match when {
            "before" => When::Before,
            "after" => When::After,
            "panic" => When::Panic,
            _ => When::Lost,
        };
        Some((intent.parse().ok()?, when))
    });

    /// Dies here, as `kill -9` would have it, if this is the point.
    pub(in super::super) fn point(intent: i64, when: When) {
        assert!(
            when != When::Before || *AT != Some((intent, When::Panic)),
            "a test wants a panic at intent {intent}"
        );
        if *AT == Some((intent, when)) {
            // Nothing runs after a SIGKILL to oneself; a failure to send it would only make the test fail.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    /// The answer to a call, or that it was lost.
    pub(in super::super) fn answered<T>(
        intent: i64,
        action: &'static str,
        answer: Result<T, FleetError>,
    ) -> Result<T, FleetError> {
        point(intent, When::After);
        if *AT != Some((intent, When::Lost)) {
            return answer;
        }
        Err(FleetError {
            action,
            kind: Kind::Unknown,
            code: String::new(),
            message: "the answer was lost, as a test wants it".into(),
            request_id: None,
        })
    }
}

#[cfg(not(debug_assertions))]
mod unarmed {
    use super::When;
    use crate::fleet::FleetError;

    pub(in super::super) fn point(_: i64, _: When) {}

    pub(in super::super) fn answered<T>(
        _: i64,
        _: &'static str,
        answer: Result<T, FleetError>,
    ) -> Result<T, FleetError> {
        answer
    }
}
