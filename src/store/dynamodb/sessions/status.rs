//! Where a session is in its life, as Wallcrawler's tables say it in one attribute or two.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::session::Status;

/// The word that Wallcrawler's SDK has for a status.
pub(super) const fn sdk_word(status: Status) -> &'static str {
    match status {
        Status::Stopped => "COMPLETED",
        Status::Failed => "ERROR",
        Status::TimedOut => "TIMED_OUT",
        _ => "RUNNING",
    }
}

/// The status that an attribute names, in its own words or the SDK's.
pub(super) fn lifecycle(attribute: &AttributeValue) -> Option<Status> {
    let word = attribute.as_s().ok()?.to_ascii_uppercase();
    Status::parse(&word).or(match word.as_str() {
        "PENDING" => Some(Status::Creating),
        "RUNNING" => Some(Status::Active),
        "COMPLETED" => Some(Status::Stopped),
        "ERROR" => Some(Status::Failed),
        _ => None,
    })
}

/// The status that two attributes name together.
///
/// Not every program of Wallcrawler sets both: one that ends a session sets `status` alone. So the end is believed
/// to whoever reports it.
pub(super) fn agreed(internal: Option<&AttributeValue>, public: Option<&AttributeValue>) -> Option<Status> {
    match (internal.and_then(lifecycle), public.and_then(lifecycle)) {
        (Some(internal), Some(public)) if public.is_terminal() && !internal.is_terminal() => Some(public),
        (Some(internal), _) => Some(internal),
        (None, public) => public,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::item::text;
    use super::*;

    #[test]
    fn words_of_the_sdk_are_understood() {
        for status in Status::ALL {
            let read = lifecycle(&text(sdk_word(status)));
            assert_eq!(read, Some(if status.is_terminal() { status } else { Status::Active }));
            assert_eq!(lifecycle(&text(status.as_str())), Some(status));
        }
        assert_eq!(lifecycle(&text("active")), Some(Status::Active));
        assert_eq!(lifecycle(&text("asleep")), None);
    }

    #[test]
    fn the_end_is_believed_to_either() {
        let read = |internal: &str, public: &str| {
            let of = |word: &str| (!word.is_empty()).then(|| text(word));
            agreed(of(internal).as_ref(), of(public).as_ref())
        };
        assert_eq!(read("READY", "RUNNING"), Some(Status::Ready));
        assert_eq!(read("READY", "STOPPED"), Some(Status::Stopped));
        assert_eq!(read("READY", "ERROR"), Some(Status::Failed));
        assert_eq!(read("STOPPED", "RUNNING"), Some(Status::Stopped));
        assert_eq!(read("FAILED", "COMPLETED"), Some(Status::Failed));
        assert_eq!(read("", "RUNNING"), Some(Status::Active));
        assert_eq!(read("", ""), None);
    }
}
