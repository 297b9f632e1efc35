//! What a token allows: a small set of scopes with a text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that a token may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Reading results and sessions.
    Read,
    /// Storing, changing and deleting them.
    Write,
    /// Everything under `/v1/admin`; implies reading and writing.
    Admin,
    /// Seeing the sensitive fields of sessions. Nothing implies it.
    Secrets,
}

impl Scope {
    /// Every scope, in the order of the text form.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::Secrets];

    /// The words of the text form, for messages.
    pub const NAMES: &str = "read, write, admin, secrets";

    /// The word of the text form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Secrets => "secrets",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text names no scopes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// A word that is no scope.
    #[error("`{0}` is no scope; there are {names}", names = Scope::NAMES)]
    Unknown(String),
    /// No word at all.
    #[error("no scope is named; there are {names}", names = Scope::NAMES)]
    Empty,
}

/// A set of scopes. Its text form names them with commas between: `read,write`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);

    /// Every scope.
    pub const ALL: Self =
        Self(Scope::Read.bit() | Scope::Write.bit() | Scope::Admin.bit() | Scope::Secrets.bit());

    /// This set and `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Whether the set allows what `scope` stands for: named itself, or implied by admin.
    pub const fn allows(self, scope: Scope) -> bool {
        let implied = match scope {
            Scope::Read | Scope::Write => Scope::Admin.bit(),
            Scope::Admin | Scope::Secrets => 0,
        };
        self.0 & (scope.bit() | implied) != 0
    }

    /// Whether no scope is named.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes that are named, without the implied ones.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    /// Words with commas between, in any order; white space around them does not matter.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text.trim().is_empty() {
            return Err(ScopeError::Empty);
        }
        text.split(',')
            .map(str::trim)
            .map(|word| {
                let known = Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
                known.ok_or_else(|| ScopeError::Unknown(word.to_owned()))
            })
            .collect()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_text_form() {
        for (text, printed) in [
            ("read,write", "read,write"),
            (" write , read ", "read,write"),
            ("secrets,admin,admin", "admin,secrets"),
            ("read", "read"),
        ] {
            let scopes: Scopes = text.parse().expect(text);
            assert_eq!(scopes.to_string(), printed);
            let json = serde_json::to_string(&scopes).expect("a string");
            assert_eq!(serde_json::from_str::<Scopes>(&json).expect("read back"), scopes);
        }
        assert_eq!("".parse::<Scopes>(), Err(ScopeError::Empty));
        for (text, word) in [("read,", ""), ("Read", "Read"), ("read write", "read write"), ("root", "root")]
        {
            assert_eq!(text.parse::<Scopes>(), Err(ScopeError::Unknown(word.to_owned())), "{text}");
        }
    }

    #[test]
    fn admin_implies_reading_and_writing_but_no_secrets() {
        use Scope::{Admin, Read, Secrets, Write};
        for (named, allowed) in [
            (vec![], vec![]),
            (vec![Read], vec![Read]),
            (vec![Write], vec![Write]),
            (vec![Secrets], vec![Secrets]),
            (vec![Admin], vec![Read, Write, Admin]),
            (vec![Read, Secrets], vec![Read, Secrets]),
            (Scope::ALL.to_vec(), Scope::ALL.to_vec()),
        ] {
            let scopes: Scopes = named.iter().copied().collect();
            let actual: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| scopes.allows(*scope)).collect();
            assert_eq!(actual, allowed, "{named:?}");
            assert_eq!(scopes.iter().collect::<Vec<_>>(), named);
        }
        assert_eq!(Scope::ALL.into_iter().collect::<Scopes>(), Scopes::ALL);
        assert_eq!(Scopes::ALL.iter().map(Scope::as_str).collect::<Vec<_>>().join(", "), Scope::NAMES);
    }
}
