//! Which of two versions of a session counts.
//!
//! The newer one, but for what other programs do in a table that they share: their changes have versions that are
//! drawn from the content, and below all that a clock gives. Such a version says nothing about before and after; what
//! it is compared with was written by this service, and theirs is a change of that.

use crate::domain::Version;
use crate::store::routed::plan::Local;
use crate::store::routed::read::local;
use crate::store::sqlite::ledger::Known;

/// The versions that are drawn from content are below this, and those of a clock above, since 1987.
const CLOCK: Version = Version::from_u64(1 << 55);

/// Whether `version`, found in DynamoDB, is that of a change by others to what has one of a clock.
pub(super) fn is_foreign(version: Version, beside: Version) -> bool {
    version < CLOCK && beside >= CLOCK
}

/// Whether what SQLite has counts, and not what DynamoDB has.
pub(in crate::store::routed) fn beats(local: Version, remote: Version) -> bool {
    local > remote && !is_foreign(remote, local)
}

/// Whether what DynamoDB has may be answered: nothing that SQLite knows says that it is gone. What others have written
/// is newer than a deletion that DynamoDB has been told of.
pub(in crate::store::routed) fn admits(known: &Known, version: Version) -> bool {
    let is_told = local(known) != Local::DeletedNewest;
    known.admits(version)
        || known.tombstone.is_some_and(|tombstone| is_told && is_foreign(version, tombstone.version))
}

/// The newest version that SQLite holds or knows to be gone; what is only intended aside.
pub(super) fn newest_here(known: &Known) -> Option<Version> {
    known.held.max(known.tombstone.map(|tombstone| tombstone.version))
}

/// Whether SQLite cannot judge a condition: it knows nothing of the session, or a write at DynamoDB has been begun of
/// which nobody has seen the end.
pub(super) fn is_uncertain(known: &Known) -> bool {
    known.queued > newest_here(known) || (known.held.is_none() && !known.is_deleted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::store::sqlite::ledger::Tombstone;

    fn version(seconds: u64) -> Version {
        Version::first_of(Timestamp::from_secs(seconds))
    }

    const NOW: u64 = 1_768_473_000;
    const THEIRS: Version = Version::from_u64((1 << 55) - 1);

    #[test]
    fn the_newer_counts_and_changes_by_others_do_too() {
        assert!(beats(version(NOW + 1), version(NOW)));
        assert!(!beats(version(NOW), version(NOW)) && !beats(version(NOW), version(NOW + 1)));
        assert!(!beats(version(NOW), THEIRS), "a change by others");
        assert!(beats(THEIRS, Version::from_u64(1)), "both drawn: nothing else to go by");
    }

    #[test]
    fn what_is_gone_is_not_admitted() {
        let gone = |deleted| Some(Tombstone { version: version(NOW), deleted });
        let told = Known { tombstone: gone(true), ..Known::default() };
        assert!(!admits(&told, version(NOW - 1)) && admits(&told, version(NOW + 1)));
        assert!(admits(&told, THEIRS), "others stored it anew");
        let untold = Known { queued: Some(version(NOW)), ..told };
        assert!(!admits(&untold, THEIRS), "that may be what was deleted");
        let superseded = Known { tombstone: gone(false), ..Known::default() };
        assert!(admits(&superseded, THEIRS) && admits(&superseded, version(NOW)));
        assert!(!admits(&superseded, version(NOW - 1)));
    }

    #[test]
    fn what_is_begun_is_uncertain() {
        let held = Known { held: Some(version(1)), ..Known::default() };
        assert!(!is_uncertain(&held) && is_uncertain(&Known::default()));
        assert!(!is_uncertain(&Known { queued: Some(version(1)), ..held }), "to be delivered");
        assert!(is_uncertain(&Known { queued: Some(version(2)), ..held }), "begun");
        let tombstone = |deleted| Some(Tombstone { version: version(1), deleted });
        assert!(!is_uncertain(&Known { tombstone: tombstone(true), ..Known::default() }));
        assert!(is_uncertain(&Known { tombstone: tombstone(false), ..Known::default() }));
    }
}
