//! Spans of time in words.

use jiff::SignedDuration;

/// Describes a span of time to the second: `4 s`, `2 min 10 s`, `1 h 5 min`, `1 d 1 h`.
pub fn words(span: SignedDuration) -> String {
    match span.as_secs().max(0) {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 if s % 60 == 0 => format!("{} min", s / 60),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s @ 3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}
