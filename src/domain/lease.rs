//! Leases: which crawler of a fleet fetches a page, for how long, and what fences one that comes too late.

use std::fmt;
use std::str::FromStr;

use super::key::{KeyId, Namespace};
use super::time::{Timestamp, Version};

/// How long a store remembers a lease that ran out, in seconds: for so long its holder may still store what it fetched.
pub const KEEP_SECONDS: u64 = 3600;

/// How long a store remembers one that was ended, in seconds: for so long a write may be repeated.
pub const KEEP_ENDED_SECONDS: u64 = 300;

/// Names one grant of a lease: which key, and a secret that only its holder was told.
///
/// As text: 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    key: KeyId,
    secret: [u8; 16],
}

impl LeaseToken {
    /// A token for a key; `secret` must be random.
    pub const fn new(key: KeyId, secret: [u8; 16]) -> Self {
        Self { key, secret }
    }

    /// The key whose lease it is.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// What only the holder was told.
    pub const fn secret(&self) -> &[u8; 16] {
        &self.secret
    }
}

/// A text that is no lease token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lease token is 64 hexadecimal digits")]
pub struct LeaseTokenError;

impl FromStr for LeaseToken {
    type Err = LeaseTokenError;

    fn from_str(text: &str) -> Result<Self, LeaseTokenError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(LeaseTokenError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(LeaseTokenError);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| LeaseTokenError)?;
        }
        let (mut key, mut secret) = ([0; 16], [0; 16]);
        key.copy_from_slice(&bytes[..16]);
        secret.copy_from_slice(&bytes[16..]);
        Ok(Self::new(KeyId::from_bytes(key), secret))
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.iter().try_fold(self.key.fmt(f)?, |(), byte| write!(f, "{byte:02x}"))
    }
}

/// Without the secret: logs are no place for it.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({}…)", self.key)
    }
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Somebody fetches the page, or did until the lease ran out.
    Held,
    /// Its holder has stored what was fetched.
    Stored,
    /// Its holder gave it up.
    Released,
}

impl LeaseState {
    /// The word that stores keep.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Stored => "stored",
            Self::Released => "released",
        }
    }

    /// The state of that name.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Held, Self::Stored, Self::Released].into_iter().find(|state| state.as_str() == word)
    }
}

/// What a store remembers of a key's lease: the last grant and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose key.
    pub namespace: Namespace,
    /// The last grant.
    pub token: LeaseToken,
    /// The version under which its holder writes. Each grant has a later one than those before, so stores, which take
    /// only what is newer, refuse what an earlier holder writes after a later one (the fencing token of
    /// Kleppmann, "How to do distributed locking").
    pub fence: Version,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// Until when its holder is alone.
    pub until: Timestamp,
    /// How it stands.
    pub state: LeaseState,
}

/// Somebody who wants to fetch a page.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose key.
    pub namespace: Namespace,
    /// The token that will name the grant.
    pub token: LeaseToken,
    /// A version later than that of what is stored under the key.
    pub fence: Version,
    /// Now.
    pub now: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Lease {
    /// Whether somebody is alone with the page at `now`.
    pub fn is_held(&self, now: Timestamp) -> bool {
        self.state == LeaseState::Held && self.until > now
    }

    /// The lease that a claim is granted, given the one before it; or the one that stands in its way.
    ///
    /// # Errors
    /// The lease that is held.
    pub fn grant(claim: &Claim, before: Option<&Self>) -> Result<Self, Self> {
        if let Some(held) = before.filter(|before| before.is_held(claim.now)) {
            return Err(held.clone());
        }
        let fence = before.map_or(claim.fence, |before| claim.fence.max(before.fence.next()));
        Ok(Self {
            namespace: claim.namespace.clone(),
            token: claim.token,
            fence,
            granted_at: claim.now,
            until: claim.until,
            state: LeaseState::Held,
        })
    }

    /// The lease held until `until`, if `token` is its last grant and has not ended. One that has run out is held again:
    /// nobody else has asked for it since.
    #[must_use]
    pub fn renewed(&self, token: &LeaseToken, until: Timestamp) -> Option<Self> {
        (self.token == *token && self.state == LeaseState::Held).then(|| Self { until, ..self.clone() })
    }

    /// The version under which the holder of `token` may write; none if the lease is another's by now, or was given up.
    /// A write that is repeated because its answer was lost is still allowed.
    pub fn fence_of(&self, token: &LeaseToken) -> Option<Version> {
        (self.token == *token && self.state != LeaseState::Released).then_some(self.fence)
    }

    /// When a store may forget it.
    pub fn forget_at(&self) -> Timestamp {
        self.until.plus_secs(match self.state {
            LeaseState::Held => KEEP_SECONDS,
            LeaseState::Stored | LeaseState::Released => KEEP_ENDED_SECONDS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(secret: u8, fence: u64, now: u64) -> Claim {
        Claim {
            namespace: Namespace::default(),
            token: LeaseToken::new(KeyId::from_bytes([7; 16]), [secret; 16]),
            fence: Version::from_u64(fence),
            now: Timestamp::from_secs(now),
            until: Timestamp::from_secs(now + 30),
        }
    }

    #[test]
    fn one_holder_at_a_time() {
        let first = Lease::grant(&claim(1, 100, 1000), None).expect("nobody holds it");
        assert_eq!(Lease::grant(&claim(2, 200, 1029), Some(&first)), Err(first.clone()));
        // It has run out.
        let second = Lease::grant(&claim(2, 200, 1030), Some(&first)).expect("it has run out");
        assert_eq!(second.fence_of(&claim(1, 0, 0).token), None, "the first holder comes too late");
        assert_eq!(second.fence_of(&claim(2, 0, 0).token), Some(Version::from_u64(200)));
        for state in [LeaseState::Stored, LeaseState::Released] {
            let ended = Lease { state, ..first.clone() };
            assert!(Lease::grant(&claim(2, 200, 1001), Some(&ended)).is_ok(), "{state:?}");
        }
    }

    #[test]
    fn a_fence_is_later_than_those_before_it_whatever_the_clock_says() {
        let first = Lease::grant(&claim(1, 100, 1000), None).expect("nobody holds it");
        let second = Lease::grant(&claim(2, 50, 1030), Some(&first)).expect("it has run out");
        assert!(second.fence > first.fence);
    }

    #[test]
    fn only_its_holder_renews_and_only_until_it_has_ended() {
        let lease = Lease::grant(&claim(1, 100, 1000), None).expect("nobody holds it");
        let until = Timestamp::from_secs(2000);
        assert_eq!(lease.renewed(&lease.token, until).map(|lease| lease.until), Some(until));
        assert_eq!(lease.renewed(&claim(2, 0, 0).token, until), None);
        let stored = Lease { state: LeaseState::Stored, ..lease.clone() };
        assert_eq!(stored.renewed(&stored.token, until), None);
        assert_eq!(stored.fence_of(&stored.token), Some(stored.fence), "a write may be repeated");
        let released = Lease { state: LeaseState::Released, ..lease };
        assert_eq!(released.fence_of(&released.token), None);
    }

    #[test]
    fn tokens_are_texts() {
        let token = LeaseToken::new(KeyId::from_bytes([0xab; 16]), [0x01; 16]);
        let text = token.to_string();
        assert_eq!(text, format!("{}{}", "ab".repeat(16), "01".repeat(16)));
        assert_eq!(text.parse(), Ok(token));
        for wrong in ["", "ab", &text[1..], &format!("{}g", &text[1..]), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<LeaseToken>(), Err(LeaseTokenError), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("0101"));
    }
}
