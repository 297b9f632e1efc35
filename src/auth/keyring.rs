//! Who presented a token: an immutable set of tokens, and what a caller may do.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::secret::{TokenHash, id_of};
use super::{Scope, Scopes, TokensFile};
use crate::domain::{Namespace, Timestamp};

/// A caller: who it is, whose entries it reaches, and what it may do. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(Arc<Facts>);

#[derive(Debug, PartialEq, Eq)]
struct Facts {
    name: String,
    namespace: Namespace,
    scopes: Scopes,
}

impl Principal {
    fn new(name: &str, namespace: Namespace, scopes: Scopes) -> Self {
        Self(Arc::new(Facts { name: name.to_owned(), namespace, scopes }))
    }

    /// The caller of a service without tokens: every scope, in the default namespace.
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Principal> =
            LazyLock::new(|| Principal::new("anonymous", Namespace::default(), Scopes::ALL));
        ANONYMOUS.clone()
    }

    /// The name of the token.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tenant whose entries it reaches.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// What the token names.
    pub fn scopes(&self) -> Scopes {
        self.0.scopes
    }

    /// Whether it may do what `scope` stands for.
    pub fn allows(&self, scope: Scope) -> bool {
        self.0.scopes.allows(scope)
    }
}

/// An immutable set of tokens.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    tokens: HashMap<String, Token>,
    /// Whether it succeeded one that had tokens: see [`Keyring::succeeding`].
    sealed: bool,
}

#[derive(Clone, Debug)]
struct Token {
    hash: TokenHash,
    expires_at: Option<Timestamp>,
    principal: Principal,
}

impl Keyring {
    /// The tokens of a file, expired ones too.
    pub fn new(file: &TokensFile) -> Self {
        let tokens = file.list().iter().map(|token| {
            let principal = Principal::new(&token.name, token.namespace.clone(), token.scopes);
            let known = Token { hash: token.hash.clone(), expires_at: token.expires_at, principal };
            (token.id.clone(), known)
        });
        Self { tokens: tokens.collect(), sealed: false }
    }

    /// This set as the successor of `previous`, in a service that runs. Access that was closed stays closed:
    /// revoking the last token must not let everyone in.
    #[must_use]
    pub(super) fn succeeding(self, previous: &Self) -> Self {
        Self { sealed: !previous.is_empty(), ..self }
    }

    /// Whether no token was ever configured, which means open access as [`Principal::anonymous`] (on loopback).
    ///
    /// False once a running service has had a token, even when the last one is revoked: nobody gets in then.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && !self.sealed
    }

    /// How many tokens it holds, expired ones too.
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// The caller that owns the token whose whole text is `presented`; `None` for an unknown, wrong, revoked or
    /// expired one.
    ///
    /// Ids are public, so looking one up may take its time; the hashes are compared in constant time.
    pub fn authenticate(&self, presented: &str, now: Timestamp) -> Option<Principal> {
        let token = self.tokens.get(id_of(presented)?)?;
        let is_owner = token.hash.matches(&TokenHash::of(presented));
        let is_current = token.expires_at.is_none_or(|expires_at| now < expires_at);
        (is_owner && is_current).then(|| token.principal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::NewToken;

    const NOW: Timestamp = Timestamp::from_secs(1_768_473_000);

    #[test]
    fn knows_who_presented_a_token() {
        let mut file = TokensFile::default();
        let new = NewToken {
            namespace: Namespace::new("tenant-a").expect("valid"),
            expires_at: Some(NOW.plus_secs(10)),
            ..NewToken::new("crawler", Scope::Write.into())
        };
        let (record, text) = file.create(new, NOW).expect("created");
        let (_, other) = file.create(NewToken::new("other", Scopes::ALL), NOW).expect("created");
        let keyring = Keyring::new(&file);
        assert_eq!(keyring.token_count(), 2);

        let principal = keyring.authenticate(text.expose(), NOW).expect("known");
        assert_eq!((principal.name(), principal.namespace().as_str()), ("crawler", "tenant-a"));
        assert!(principal.allows(Scope::Write) && !principal.allows(Scope::Read));
        assert_eq!(keyring.authenticate(other.expose(), NOW).expect("known").name(), "other");

        let last_millisecond = Timestamp::from_millis(NOW.plus_secs(10).as_millis() - 1);
        assert!(keyring.authenticate(text.expose(), last_millisecond).is_some());
        assert!(keyring.authenticate(text.expose(), NOW.plus_secs(10)).is_none(), "expired");

        // The right id with the secret of another token, and every kind of damage.
        let stolen = format!("cc_{}{}", record.id, &other.expose()[13..]);
        let (start, end) = text.expose().split_at(text.expose().len() - 1);
        let damaged = format!("{start}{}", if end == "A" { "B" } else { "A" });
        for wrong in
            ["", "cc_", "anonymous", &record.id, &stolen, &damaged, start, &format!(" {}", text.expose())]
        {
            assert!(keyring.authenticate(wrong, NOW).is_none(), "{wrong}");
        }
        file.revoke(&record.id).expect("revoked");
        assert!(Keyring::new(&file).authenticate(text.expose(), NOW).is_none(), "revoked");
    }

    #[test]
    fn an_expired_token_still_closes_access() {
        let mut file = TokensFile::default();
        assert!(Keyring::new(&file).is_empty());
        let new = NewToken { expires_at: Some(NOW.plus_secs(1)), ..NewToken::new("a", Scope::Read.into()) };
        file.create(new, NOW).expect("created");
        assert!(!Keyring::new(&file).is_empty());
    }

    #[test]
    fn closed_access_stays_closed() {
        let mut file = TokensFile::default();
        let open = Keyring::new(&file).succeeding(&Keyring::default());
        assert!(open.is_empty());
        let (record, text) = file.create(NewToken::new("a", Scope::Read.into()), NOW).expect("created");
        let closed = Keyring::new(&file).succeeding(&open);
        file.revoke(&record.id).expect("revoked");
        let revoked = Keyring::new(&file).succeeding(&closed);
        let later = Keyring::new(&file).succeeding(&revoked);
        for keyring in [&revoked, &later] {
            assert!(!keyring.is_empty());
            assert_eq!(keyring.token_count(), 0);
            assert!(keyring.authenticate(text.expose(), NOW).is_none());
        }
    }

    #[test]
    fn the_anonymous_caller_may_do_everything() {
        let anonymous = Principal::anonymous();
        assert!(Scope::ALL.into_iter().all(|scope| anonymous.allows(scope)));
        assert_eq!(anonymous.namespace(), &Namespace::default());
    }

    #[test]
    fn hashes_are_not_shown() {
        let mut file = TokensFile::default();
        let (record, text) = file.create(NewToken::new("a", Scope::Read.into()), NOW).expect("created");
        let shown = format!("{:?}", Keyring::new(&file));
        assert!(!shown.contains(&record.hash.to_hex()) && !shown.contains(&text.expose()[14..]), "{shown}");
    }
}
