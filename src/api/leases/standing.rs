//! What asking for a page, or for its lease, comes to.

use std::time::Duration;

use super::granted::Granted;
use crate::api::lookup::{Found, Missed};
use crate::api::problem::Problem;
use crate::domain::lease::Lease;
use crate::domain::{MissReason, Version};
use crate::store::Via;

/// What a look-up came to.
pub(super) type Looked = std::result::Result<Found, Missed>;

/// What a caller gets.
#[derive(Debug)]
pub(super) struct Turnout {
    /// The page, or why there is none.
    pub(super) looked: Looked,
    /// How its lease stands.
    pub(super) standing: Standing,
    /// How long others were waited for.
    pub(super) waited: Duration,
}

/// How the lease of a page stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// The page is fresh: nobody needs a lease.
    Fresh,
    /// It is the caller's.
    Won(Granted),
    /// It is another's.
    Held(Lease),
    /// The page has just been tried, and what was stored is no answer: to try again at once would come to the same. With
    /// the seconds for which the failed result is fresh, where it is one.
    Failed(Option<u64>),
    /// That cannot be seen just now, and a stale page is there to go on with.
    Unknown(Problem),
}

impl Standing {
    /// That of a page which was tried, given what is there since.
    pub(super) fn tried(looked: &Looked) -> Self {
        let failed = looked.as_ref().err().and_then(|missed| missed.failed);
        Self::Failed(failed.map(|failed| failed.freshness.ttl.unsigned_abs()))
    }

    /// What metrics call it.
    pub(super) fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Fresh => "fresh",
            Self::Won(_) => "won",
            Self::Held(_) => "held",
            Self::Failed(_) => "failed",
            Self::Unknown(_) => return None,
        })
    }
}

/// Whether an answer is more than what is shown meanwhile. A copy that nobody could confirm is not: it decides about no
/// lease.
pub(super) fn is_fresh(looked: &Looked) -> bool {
    looked.as_ref().is_ok_and(|found| !found.freshness.is_stale() && !is_unconfirmed(found))
}

/// Whether it is a copy of what could not be asked for.
pub(super) fn is_unconfirmed(found: &Found) -> bool {
    found.hit.via == Via::Outage
}

/// Whether it cannot be told what there is.
pub(super) fn is_unknown(looked: &Looked) -> bool {
    looked.as_ref().is_err_and(|missed| missed.reason == MissReason::Unknown)
}

/// What a write under a lease has to come after: what is stored, and deletions that are remembered.
pub(super) fn floor_of(looked: &Looked) -> Option<Version> {
    version_of(looked).max(looked.as_ref().err().and_then(|missed| missed.deleted))
}

/// The version of what is stored, whether it is an answer or not.
pub(super) fn version_of(looked: &Looked) -> Option<Version> {
    match looked {
        Ok(found) => Some(found.hit.entry.meta.version),
        Err(missed) => missed.version,
    }
}
