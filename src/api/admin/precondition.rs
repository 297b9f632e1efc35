//! Preconditions on the number of a policy: `If-Match`, and the `ETag` that it speaks of.

use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue};

use super::policy::RoutingDocument;
use crate::api::negotiate::{Tags, tags};
use crate::api::problem::{Problem, Result};
use crate::store::routed::policy::InForce;

/// What the policy must be for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// Whatever it is: the header is missing.
    None,
    /// Whatever it is, and the caller says so.
    Any,
    /// One of these.
    Generations(Vec<u64>),
}

impl Precondition {
    /// Reads `If-Match`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        match tags(headers, &IF_MATCH)? {
            None => Ok(Self::None),
            Some(Tags::Any) => Ok(Self::Any),
            // Nobody hands out another tag: it is one of no policy.
            Some(Tags::List(list)) => Ok(Self::Generations(
                list.iter().filter(|tag| !tag.weak).filter_map(|tag| tag.opaque.parse().ok()).collect(),
            )),
        }
    }

    /// Refuses unless it holds for the policy in force.
    pub(super) fn check(&self, current: &InForce) -> Result<()> {
        let holds = match self {
            Self::None | Self::Any => true,
            Self::Generations(generations) => generations.contains(&current.generation),
        };
        if holds {
            return Ok(());
        }
        let detail = format!("the policy in force is number {}", current.generation);
        let state = serde_json::to_value(RoutingDocument::of(current)).unwrap_or_default();
        Err(Problem::new("precondition_failed", detail)
            .with("current", state)
            .header(ETAG, &format!("\"{}\"", current.generation)))
    }

    /// Refuses a change of everything by somebody who has not seen what there is.
    pub(super) fn required(self) -> Result<Self> {
        if self == Self::None {
            let detail = "send `If-Match` with the ETag of the policy that this is based on, or `*`";
            return Err(Problem::new("precondition_required", detail).with("field", "if-match"));
        }
        Ok(self)
    }
}

/// The `ETag` of a policy.
pub(super) fn etag(generation: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{generation}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}
