//! Why a session cannot be created or changed, by condition.

use super::lifecycle::Status;

/// Why a session cannot be created or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not 1 to 128 of the accepted characters.
    #[error("session id must be 1 to 128 characters of A-Z, a-z, 0-9, `_`, `-`, `.` and `:`")]
    InvalidId,
    /// A field that must be there is not.
    #[error("`{field}` is missing")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A field has the wrong type or a value out of bounds.
    #[error("`{field}` must be {expected}")]
    InvalidField {
        /// Its name, with a dot before a member's.
        field: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// A field that only the service sets, or that never changes once it is set.
    #[error("`{field}` cannot be changed")]
    Immutable {
        /// Its name.
        field: String,
    },
    /// The status cannot follow the current one.
    #[error("a session that is {from} cannot become {to}; allowed: {}", join(allowed))]
    IllegalTransition {
        /// The current status.
        from: Status,
        /// The one asked for.
        to: Status,
        /// Those that can follow; empty when the current one is terminal.
        allowed: Vec<Status>,
    },
    /// The status is not the one that the caller made the change depend on.
    #[error("the session is {current}, not {expected} as the request expects")]
    StatusMismatch {
        /// What the caller expected.
        expected: Status,
        /// What it is.
        current: Status,
    },
    /// The body is JSON, but no object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// The session, or one event, would be too large.
    #[error("more than the {limit} bytes of JSON that are accepted")]
    TooLarge {
        /// The bound in bytes.
        limit: usize,
    },
}

impl SessionError {
    /// [`SessionError::InvalidField`].
    pub(super) fn invalid(field: impl Into<String>, expected: &'static str) -> Self {
        Self::InvalidField { field: field.into(), expected }
    }

    /// [`SessionError::Immutable`].
    pub(super) fn immutable(field: impl Into<String>) -> Self {
        Self::Immutable { field: field.into() }
    }
}

fn join(statuses: &[Status]) -> String {
    if statuses.is_empty() {
        return "none, it has ended".to_owned();
    }
    statuses.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_transitions_that_are_allowed() {
        let error = |from, allowed| SessionError::IllegalTransition { from, to: Status::Creating, allowed };
        assert_eq!(
            error(Status::Terminating, vec![Status::Stopped, Status::Failed]).to_string(),
            "a session that is TERMINATING cannot become CREATING; allowed: STOPPED, FAILED"
        );
        assert!(error(Status::Failed, vec![]).to_string().ends_with("allowed: none, it has ended"));
    }
}
