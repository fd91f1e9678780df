//! What a person may ask of a deployment, and when it is allowed: the same rules for command line, API and page.

use super::state::DeploymentState as D;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a person may ask of a deployment, other than to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start nothing new; what is in work finishes, the group is put in order.
    Pause,
    /// Go on after a pause or a halt; failures until now no longer count.
    Resume,
    /// Go on past `approve_after`.
    Approve,
    /// Try the failed instances again, and go on.
    Retry,
    /// Bring what was changed back to the last good revision.
    Rollback,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Verb; 5] = [Verb::Pause, Verb::Resume, Verb::Approve, Verb::Retry, Verb::Rollback];

    /// Returns the word for it in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Approve => "approve",
            Verb::Retry => "retry",
            Verb::Rollback => "rollback",
        }
    }

    /// Returns the text of its button.
    pub fn words(self) -> &'static str {
        match self {
            Verb::Pause => "Pause",
            Verb::Resume => "Resume",
            Verb::Approve => "Approve the rest",
            Verb::Retry => "Try failed again",
            Verb::Rollback => "Roll back",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Verb::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| format!("'{text}' is no verb"))
    }
}

/// The decision on a verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The verb is applied to this deployment.
    Do,
    /// The deployment is in that state already.
    Already,
    /// A new deployment carries it out.
    NewDeployment,
    /// The verb is refused; holds why.
    Refused(String),
}

/// The state of a deployment on which the decision on a verb depends.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The deployment's state.
    pub state: D,
    /// Whether a person has cancelled it already.
    pub cancelled: bool,
    /// The instance that it is for, if it is for one alone.
    pub only: Option<&'a str>,
    /// Whether it is for the launch of that instance.
    pub launch: bool,
    /// A later deployment that got to the group's instances, if there is one.
    pub later: Option<i64>,
}

impl Standing<'_> {
    /// Describes a deployment to a whole group with none after it.
    pub fn newest(state: D, cancelled: bool) -> Standing<'static> {
        Standing { state, cancelled, only: None, launch: false, later: None }
    }
}

/// Decides whether a verb may be applied to a deployment in its present state.
pub fn rule(verb: Verb, standing: Standing<'_>) -> Ruling {
    let refused = |words: &str| Ruling::Refused(words.to_owned());
    let Standing { state, cancelled, only, launch, later } = standing;
    if launch {
        return refused(
            "it is for an instance that launches: it can be cancelled, and Auto Scaling launches another",
        );
    }
    if let (Verb::Rollback, Some(only)) = (verb, only) {
        return Ruling::Refused(format!("it is for {only} alone: roll back a deployment to the group"));
    }
    let in_new_deployment = || {
        let instead = if verb == Verb::Rollback { "roll that one back" } else { "retry that one" };
        later.map_or(Ruling::NewDeployment, |later| {
            Ruling::Refused(format!(
                "deployment {later} came after it: {instead}, or deploy the revision that you want"
            ))
        })
    };
    match (verb, state) {
        (Verb::Pause, D::Paused | D::Halted) | (Verb::Resume, D::Rolling) => Ruling::Already,
        (Verb::Rollback | Verb::Retry, D::Failed | D::Partial | D::Cancelled) => in_new_deployment(),
        (Verb::Rollback, D::Succeeded) => in_new_deployment(),
        (Verb::Retry, D::Succeeded) => {
            refused("every instance has the revision: nothing is left to try again")
        }
        (_, state) if state.is_final() => refused("it has ended"),
        (_, D::Queued | D::Preparing) => refused("it has not begun to roll: wait for it, or cancel it"),
        (Verb::Rollback, _) => Ruling::NewDeployment,
        _ if cancelled => refused("it is being cancelled"),
        (Verb::Approve, D::Halted) => refused("it is halted: resume it first"),
        (Verb::Pause, _) | (Verb::Resume, _) | (Verb::Approve, _) | (Verb::Retry, _) => Ruling::Do,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_an_answer_in_every_state() {
        use Ruling::*;
        let rule = |verb, state, cancelled| super::rule(verb, Standing::newest(state, cancelled));
        let refused = |verb, state| matches!(rule(verb, state, false), Refused(_));
        for verb in Verb::ALL {
            assert_eq!(verb.name().parse(), Ok(verb));
            assert!(refused(verb, D::Queued) && refused(verb, D::Superseded), "{verb}");
        }
        assert_eq!(rule(Verb::Pause, D::Rolling, false), Do);
        assert_eq!(rule(Verb::Pause, D::Paused, false), Already);
        assert_eq!(rule(Verb::Resume, D::Halted, false), Do);
        assert_eq!(rule(Verb::Resume, D::Rolling, false), Already);
        assert!(refused(Verb::Approve, D::Halted));
        assert!(matches!(rule(Verb::Resume, D::Halted, true), Refused(_)));
        assert_eq!(rule(Verb::Retry, D::Partial, false), NewDeployment);
        assert!(refused(Verb::Retry, D::Succeeded));
        assert_eq!(rule(Verb::Rollback, D::Rolling, true), NewDeployment);
        assert_eq!(rule(Verb::Rollback, D::Succeeded, false), NewDeployment);
        let says = |verb, standing| match super::rule(verb, standing) {
            Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let ended = Standing::newest(D::Failed, false);
        assert!(says(Verb::Retry, Standing { later: Some(9), ..ended }).contains("deployment 9 came after"));
        assert!(says(Verb::Rollback, Standing { only: Some("i-1"), ..ended }).contains("for i-1 alone"));
        assert!(says(Verb::Retry, Standing { launch: true, ..ended }).contains("launches"));
    }
}
