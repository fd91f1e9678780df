//! One deployment under way, as one value: what is known of it, and the ticks that bring it on.
//!
//! A tick observes the fleet, has a plan made, records it and performs its effects; a file each. What the store has of the
//! deployment is loaded once and kept in step by writing through. Where a person's verb has changed it (the row's
//! `version` tells), or a tick has failed, it is loaded anew: so a start is an ordinary tick.

mod act;
mod changes;
mod commands;
mod dispatch;
mod join;
mod listing;
mod load;
mod looks;
mod lost_agents;
mod members;
mod observe;
mod prepare;
mod refusals;
mod release;
mod sight;
mod silences;
mod tick;
mod unsure;
mod value;

pub(super) use looks::Missed;
pub(super) use value::Deployment;
