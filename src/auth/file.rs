//! The tokens file: which tokens there are, kept as hashes, changed under a lock and replaced atomically.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::secret::{TokenHash, TokenText, random_id};
use super::{AuthError, Scopes, wire};
use crate::domain::{Namespace, Timestamp};

/// The longest name of a token in characters.
pub(super) const MAX_NAME_CHARS: usize = 100;

/// What is known of a token; everything but its text. Serialises without the hash.
#[derive(Clone, Debug, Serialize)]
pub struct TokenRecord {
    /// The public part of its text: names the token in listings and for revocation.
    pub id: String,
    /// What its maker called it; need not be unique.
    pub name: String,
    #[serde(skip)]
    pub(super) hash: TokenHash,
    /// What it allows.
    pub scopes: Scopes,
    /// The tenant whose entries it reaches.
    #[serde(serialize_with = "as_text")]
    pub namespace: Namespace,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused; never, where missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

fn as_text<S: serde::Serializer>(namespace: &Namespace, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(namespace.as_str())
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What to call it, 1 to 100 characters.
    pub name: String,
    /// What it allows; at least one scope.
    pub scopes: Scopes,
    /// The tenant whose entries it reaches.
    pub namespace: Namespace,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    /// A token of the default namespace that does not expire.
    pub fn new(name: &str, scopes: Scopes) -> Self {
        Self { name: name.to_owned(), scopes, namespace: Namespace::default(), expires_at: None }
    }
}

/// Every token of a deployment.
#[derive(Clone, Debug, Default)]
pub struct TokensFile {
    tokens: Vec<TokenRecord>,
}

impl TokensFile {
    /// Reads the file. One that does not exist holds no tokens.
    ///
    /// # Errors
    /// [`AuthError::Read`] and [`AuthError::Malformed`].
    pub fn load(path: &Path) -> Result<Self, AuthError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(AuthError::read(path)(error)),
        }
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, AuthError> {
        wire::parse(text, path).map(|tokens| Self { tokens })
    }

    /// Loads the file, changes it and saves it, while no other process or thread can do so in between: a
    /// revocation is never undone by someone else's change. Nothing is saved when `change` fails.
    ///
    /// The lock is on a file beside it, named like it with `.lock` appended. Blocks until it is free.
    ///
    /// # Errors
    /// What loading, `change` and saving return.
    pub fn edit<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        let path = resolve(path)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(with_suffix(&path, ".lock"));
        let lock = lock.map_err(AuthError::write(&path))?;
        lock.lock().map_err(AuthError::write(&path))?;
        let mut file = Self::load(&path)?;
        let result = change(&mut file)?;
        file.save(&path)?;
        Ok(result)
    }

    /// Replaces the file by one with these tokens, readable by its owner only. A crash leaves the old or the new
    /// one. Prefer [`TokensFile::edit`], which keeps two writers from undoing each other's change.
    ///
    /// # Errors
    /// [`AuthError::Write`]; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), AuthError> {
        let path = resolve(path)?;
        let temporary = with_suffix(&path, &format!(".{}.tmp", random_id()?));
        let text = wire::print(&self.tokens);
        let written = write_durably(&temporary, text.as_bytes())
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_directory(&path));
        written.map_err(|error| {
            // What matters is the error; the file may not even have been made, or be in its place already.
            drop(fs::remove_file(&temporary));
            AuthError::write(&path)(error)
        })
    }

    /// Makes a token. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`AuthError::Name`], [`AuthError::NoScope`], [`AuthError::Expired`] and [`AuthError::Random`].
    pub fn create(&mut self, new: NewToken, now: Timestamp) -> Result<(TokenRecord, TokenText), AuthError> {
        if !is_name(&new.name) {
            return Err(AuthError::Name);
        }
        if new.scopes.is_empty() {
            return Err(AuthError::NoScope);
        }
        if let Some(expires_at) = new.expires_at.filter(|expires_at| *expires_at <= now) {
            return Err(AuthError::Expired(expires_at));
        }
        let (id, text) = loop {
            let (id, text) = TokenText::generate()?;
            if self.tokens.iter().all(|token| token.id != id) {
                break (id, text);
            }
        };
        let record = TokenRecord {
            id,
            name: new.name,
            hash: TokenHash::of(text.expose()),
            scopes: new.scopes,
            namespace: new.namespace,
            created_at: now,
            expires_at: new.expires_at,
        };
        self.tokens.push(record.clone());
        Ok((record, text))
    }

    /// Removes the token with that id and returns what was known of it.
    ///
    /// # Errors
    /// [`AuthError::NoSuchToken`].
    pub fn revoke(&mut self, id: &str) -> Result<TokenRecord, AuthError> {
        let at = self.tokens.iter().position(|token| token.id == id);
        at.map(|at| self.tokens.remove(at)).ok_or_else(|| AuthError::NoSuchToken(id.to_owned()))
    }

    /// Every token, expired ones too, in the order in which they were made.
    pub fn list(&self) -> &[TokenRecord] {
        &self.tokens
    }
}

/// Whether a listing could show the name.
pub(super) fn is_name(name: &str) -> bool {
    let chars = name.chars().count();
    (1..=MAX_NAME_CHARS).contains(&chars) && !name.trim().is_empty() && !name.contains(char::is_control)
}

/// The file itself where `path` is a link to it, since a rename would replace the link. Makes the directory.
fn resolve(path: &Path) -> Result<PathBuf, AuthError> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // As the service makes its data directory: only its user may enter.
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(directory_of(path)).map_err(AuthError::write(path))?;
            Ok(path.to_owned())
        }
        Err(error) => Err(AuthError::write(path)(error)),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the rename survive a power cut.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory_of(path))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    const NOW: Timestamp = Timestamp::from_secs(1_768_473_000);

    fn names(path: &Path) -> Vec<String> {
        TokensFile::load(path).expect("loaded").list().iter().map(|token| token.name.clone()).collect()
    }

    #[test]
    fn survives_saving_and_loading() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("not/there/yet/tokens.toml");
        assert!(names(&path).is_empty());
        let new = NewToken {
            name: "crawler \"é\" 1".into(),
            scopes: "read,write".parse().expect("scopes"),
            namespace: Namespace::new("tenant-a").expect("valid"),
            expires_at: Some(NOW.plus_secs(60)),
        };
        let (made, text) = TokensFile::edit(&path, |file| file.create(new, NOW)).expect("created");
        let file = TokensFile::load(&path).expect("loaded");
        let [read] = file.list() else { panic!("{file:?}") };
        assert_eq!(format!("{read:?}"), format!("{made:?}"));
        assert!(read.hash.matches(&TokenHash::of(text.expose())));

        let stored = fs::read_to_string(&path).expect("readable");
        assert!(stored.contains("created_at = \"2026-01-15T10:30:00.000Z\""), "{stored}");
        let secret = text.expose().split_at(14).1;
        let listed = serde_json::to_string(file.list()).expect("JSON");
        assert!(!format!("{stored}{file:?}{listed}").contains(secret));
        assert!(!format!("{file:?}{listed}").contains(&made.hash.to_hex()));
        assert!(listed.contains("\"scopes\":\"read,write\",\"namespace\":\"tenant-a\""), "{listed}");

        let revoked = TokensFile::edit(&path, |file| file.revoke(&made.id)).expect("revoked");
        assert_eq!(revoked.id, made.id);
        assert!(names(&path).is_empty());
        let again = TokensFile::edit(&path, |file| file.revoke(&made.id)).expect_err("gone");
        assert!(matches!(again, AuthError::NoSuchToken(id) if id == made.id));
    }

    #[test]
    fn refuses_tokens_that_make_no_sense() {
        let mut file = TokensFile::default();
        let mut create = |new: NewToken| file.create(new, NOW).map(|_| ());
        for name in ["", " ", "a\nb", &"n".repeat(MAX_NAME_CHARS + 1)] {
            assert!(
                matches!(create(NewToken::new(name, Scope::Read.into())), Err(AuthError::Name)),
                "{name:?}"
            );
        }
        assert!(matches!(create(NewToken::new("a", Scopes::NONE)), Err(AuthError::NoScope)));
        let expired = NewToken { expires_at: Some(NOW), ..NewToken::new("a", Scope::Read.into()) };
        assert!(matches!(create(expired), Err(AuthError::Expired(at)) if at == NOW));
        create(NewToken::new(&"é".repeat(MAX_NAME_CHARS), Scope::Read.into())).expect("100 characters");
        assert_eq!(file.list().len(), 1);
    }

    #[test]
    fn a_failed_change_and_a_broken_file_leave_everything_as_it_was() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokens.toml");
        TokensFile::edit(&path, |file| file.create(NewToken::new("a", Scope::Read.into()), NOW))
            .expect("created");
        let before = fs::read(&path).expect("readable");
        let failed = TokensFile::edit(&path, |file| {
            file.tokens.clear();
            file.revoke("nobody")
        });
        assert!(matches!(failed, Err(AuthError::NoSuchToken(_))));
        assert_eq!(fs::read(&path).expect("readable"), before);

        fs::write(&path, "broken").expect("written");
        let failed = TokensFile::edit(&path, |file| file.create(NewToken::new("b", Scope::Read.into()), NOW));
        assert!(matches!(failed, Err(AuthError::Malformed { .. })));
        assert_eq!(fs::read(&path).expect("readable"), b"broken");

        // A directory in its place cannot be replaced; nothing temporary stays behind.
        let blocked = directory.path().join("blocked");
        fs::create_dir(&blocked).expect("made");
        assert!(matches!(TokensFile::default().save(&blocked), Err(AuthError::Write { .. })));
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .expect("listed")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["blocked", "tokens.toml", "tokens.toml.lock"]);
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokens.toml");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for at in 0..5 {
                        let new = NewToken::new(&format!("{thread}.{at}"), Scope::Read.into());
                        TokensFile::edit(path, |file| file.create(new, NOW)).expect("created");
                    }
                });
            }
        });
        assert_eq!(names(&path).len(), 20);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it_and_links_stay_links() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().expect("a temporary directory");
        let (real, link) = (directory.path().join("real.toml"), directory.path().join("link.toml"));
        fs::write(&real, "").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        TokensFile::edit(&link, |file| file.create(NewToken::new("a", Scope::Read.into()), NOW))
            .expect("created");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(names(&real), ["a"]);
        assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
