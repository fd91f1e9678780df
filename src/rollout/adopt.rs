//! What to do about a dispatch that may or may not have been sent, because the daemon died or the answer was lost.

use jiff::{SignedDuration, Timestamp};

/// How long ListCommands is asked for the dispatch: it promises no consistency.
pub const LOOK_FOR: SignedDuration = SignedDuration::from_secs(30);

/// A dispatch of which it isn't known whether it was sent.
#[derive(Clone, Debug)]
pub struct UnconfirmedDispatch<'a> {
    /// Its id, which is the command's Comment.
    pub id: &'a str,
    /// When the search for it began.
    pub since: Timestamp,
}

/// What to do about the dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// Adopt it: it was sent as the command with this id.
    Found(String),
    /// Look for it again later.
    LookAgain,
    /// Send the same again; the host refuses it if it has it already. That it wasn't found proves nothing.
    SendAgain,
}

/// Decides what to do about a dispatch, given all `(comment, command id)` pairs that ListCommands shows.
pub fn adopt(unsure: &UnconfirmedDispatch, listed: &[(String, String)], now: Timestamp) -> Adopt {
    match listed.iter().find(|(comment, _)| comment == unsure.id) {
        Some((_, command)) => Adopt::Found(command.clone()),
        None if now.duration_since(unsure.since) < LOOK_FOR => Adopt::LookAgain,
        None => Adopt::SendAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_is_adopted_and_not_found_is_sent_again_only_after_a_while() {
        let since = Timestamp::UNIX_EPOCH;
        let unsure = UnconfirmedDispatch { id: "d1", since };
        let listed = [("d0".to_owned(), "c0".to_owned()), ("d1".to_owned(), "c1".to_owned())];
        assert_eq!(adopt(&unsure, &listed, since), Adopt::Found("c1".into()));
        assert_eq!(adopt(&unsure, &listed[..1], since + SignedDuration::from_secs(29)), Adopt::LookAgain);
        assert_eq!(adopt(&unsure, &listed[..1], since + LOOK_FOR), Adopt::SendAgain);
    }
}
