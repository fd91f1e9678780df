//! The arguments that say what is to be deployed, of `drover deploy` and `drover plan`.
//!
//! May import `api`, the policy's words and the client's check of a group's name only.

use crate::{
    api::Submission,
    cli::client::group_name,
    rollout::policy::{Batches, Mode, Size},
};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};

/// What to submit. What is left out comes from the group's policy.
#[derive(Debug, Clone, clap::Args)]
pub struct SubmissionArgs {
    /// A full or abbreviated SHA, a branch or a tag.
    pub revision: String,
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(long, short, value_name = "APP/ENV", value_parser = group_name)]
    pub group: String,
    /// Instances at a time: a count, a percentage, or steps separated by commas ("1,10%,50%").
    #[arg(long, value_name = "BATCH", value_parser = batches)]
    pub batch: Option<Batches>,
    /// Wait for the whole batch, or start the next instance as one finishes.
    #[arg(long, value_parser = modes().try_map(|text| text.parse::<Mode>()))]
    pub mode: Option<Mode>,
    /// Healthy instances that must stay in service: a count or a percentage.
    #[arg(long, value_name = "X")]
    pub min_in_service: Option<Size>,
    /// Instances that may end failed: a count or a percentage.
    #[arg(long, value_name = "X")]
    pub max_failed: Option<Size>,
}

impl SubmissionArgs {
    /// The submission that they ask for.
    pub fn submission(&self) -> Submission {
        Submission {
            revision: self.revision.clone(),
            group: self.group.clone(),
            batch: self.batch.clone(),
            mode: self.mode,
            min_in_service: self.min_in_service,
            max_failed: self.max_failed,
        }
    }
}

/// Reads the steps of a batch size while arguments are read, so that a bad one is a usage error.
fn batches(text: &str) -> Result<Batches, String> {
    Batches::new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
}

/// How the instances of a batch may follow each other.
fn modes() -> PossibleValuesParser {
    PossibleValuesParser::new([
        PossibleValue::new("batch").help("A batch begins when the one before it is done"),
        PossibleValue::new("window").help("A batch's number of instances is in work at any time"),
    ])
}
