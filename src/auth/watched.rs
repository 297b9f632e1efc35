//! The keyring of a running service: follows the tokens file, and keeps the last good set when that breaks.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use super::{AuthError, Keyring, TokensFile};

/// What [`Watched::reload_if_changed`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The file is as it was.
    Unchanged,
    /// The file was read anew.
    Reloaded {
        /// How many tokens it holds.
        tokens: usize,
    },
    /// The file is still broken in the way that was reported as an error before.
    StillBroken,
}

/// A keyring that follows its file.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    keyring: RwLock<Arc<Keyring>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The file behind the keyring; `None` when there was none. It stays open, so that no other file can get its
    /// inode and be taken for it.
    opened: Option<Opened>,
    /// The error that was reported last, while it lasts.
    broken: Option<String>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified: Option<SystemTime>,
    length: u64,
    /// Two replacements within one tick of the file system's clock differ in this only.
    inode: u64,
}

impl Watched {
    /// Reads the file for the first time. One that does not exist holds no tokens.
    ///
    /// # Errors
    /// [`AuthError::Read`] and [`AuthError::Malformed`].
    pub fn open(path: &Path) -> Result<Self, AuthError> {
        let mut opened = open(path)?;
        let file = match &mut opened {
            Some(opened) => opened.read(path)?,
            None => TokensFile::default(),
        };
        Ok(Self {
            path: path.to_owned(),
            keyring: RwLock::new(Arc::new(Keyring::new(&file))),
            seen: Mutex::new(Seen { opened, broken: None }),
        })
    }

    /// The tokens that are valid now.
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it was changed. Meant to be called every second, and after a change that this
    /// process made itself; it blocks on the disk, for the length of a `stat` as a rule.
    ///
    /// # Errors
    /// A file that is malformed, unreadable or gone leaves the keyring as it is and is reported once for each
    /// distinct error; then [`Reload::StillBroken`] until it is mended.
    pub fn reload_if_changed(&self) -> Result<Reload, AuthError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.reload(&mut seen) {
            Ok(outcome) => {
                seen.broken = None;
                Ok(outcome)
            }
            Err(error) => {
                let description = describe(&error);
                if seen.broken.as_ref() == Some(&description) {
                    return Ok(Reload::StillBroken);
                }
                seen.broken = Some(description);
                Err(error)
            }
        }
    }

    fn reload(&self, seen: &mut Seen) -> Result<Reload, AuthError> {
        let Some(mut opened) = open(&self.path)? else {
            // An unmounted volume or a slip of the hand must neither lock everyone out nor let everyone in.
            if self.keyring().token_count() > 0 {
                return Err(AuthError::Gone { path: self.path.clone() });
            }
            seen.opened = None;
            return Ok(Reload::Unchanged);
        };
        if seen.opened.as_ref().is_some_and(|seen| seen.fingerprint == opened.fingerprint) {
            return Ok(Reload::Unchanged);
        }
        let file = opened.read(&self.path)?;
        seen.opened = Some(opened);
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        *keyring = Arc::new(Keyring::new(&file).succeeding(&keyring));
        Ok(Reload::Reloaded { tokens: file.list().len() })
    }
}

/// An error with its cause, which may change while the error stays the same.
fn describe(error: &AuthError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

/// A file and the fingerprint of this very file, whatever happens to the path meanwhile.
#[derive(Debug)]
struct Opened {
    file: File,
    fingerprint: Fingerprint,
}

/// `None` when there is no such file.
fn open(path: &Path) -> Result<Option<Opened>, AuthError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuthError::read(path)(error)),
    };
    let metadata = file.metadata().map_err(AuthError::read(path))?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    let fingerprint = Fingerprint { modified: metadata.modified().ok(), length: metadata.len(), inode };
    Ok(Some(Opened { file, fingerprint }))
}

impl Opened {
    fn read(&mut self, path: &Path) -> Result<TokensFile, AuthError> {
        let mut text = String::new();
        self.file.read_to_string(&mut text).map_err(AuthError::read(path))?;
        TokensFile::parse(&text, path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::{NewToken, Scope, TokenText};
    use crate::domain::Timestamp;

    const NOW: Timestamp = Timestamp::from_secs(1_768_473_000);

    fn add(path: &Path, name: &str) -> (String, TokenText) {
        let new = NewToken::new(name, Scope::Read.into());
        let (record, text) = TokensFile::edit(path, |file| file.create(new, NOW)).expect("created");
        (record.id, text)
    }

    fn knows(watched: &Watched, text: &TokenText) -> bool {
        watched.keyring().authenticate(text.expose(), NOW).is_some()
    }

    #[test]
    fn follows_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokens.toml");
        let watched = Watched::open(&path).expect("no file is no tokens");
        assert!(watched.keyring().is_empty());
        assert_eq!(watched.reload_if_changed().expect("fine"), Reload::Unchanged);

        let (first, first_text) = add(&path, "first");
        assert!(!knows(&watched, &first_text));
        assert_eq!(watched.reload_if_changed().expect("fine"), Reload::Reloaded { tokens: 1 });
        assert!(knows(&watched, &first_text));
        assert_eq!(watched.reload_if_changed().expect("fine"), Reload::Unchanged);

        // Same length, and possibly the same time stamp.
        TokensFile::edit(&path, |file| file.revoke(&first)).expect("revoked");
        let (second, second_text) = add(&path, "other");
        assert_eq!(watched.reload_if_changed().expect("fine"), Reload::Reloaded { tokens: 1 });
        assert!(!knows(&watched, &first_text) && knows(&watched, &second_text));

        TokensFile::edit(&path, |file| file.revoke(&second)).expect("revoked");
        assert_eq!(watched.reload_if_changed().expect("fine"), Reload::Reloaded { tokens: 0 });
        assert!(!knows(&watched, &second_text) && !watched.keyring().is_empty(), "closed stays closed");
        fs::remove_file(&path).expect("removed");
        assert_eq!(watched.reload_if_changed().expect("nothing to lose"), Reload::Unchanged);
        assert!(!watched.keyring().is_empty(), "closed stays closed");
    }

    #[test]
    fn keeps_the_old_tokens_when_the_file_breaks() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokens.toml");
        let (_, text) = add(&path, "a");
        let good = fs::read_to_string(&path).expect("readable");
        let watched = Watched::open(&path).expect("readable");

        fs::write(&path, "broken").expect("written");
        assert!(matches!(watched.reload_if_changed(), Err(AuthError::Malformed { .. })));
        assert_eq!(watched.reload_if_changed().expect("reported once"), Reload::StillBroken);
        fs::write(&path, "= also broken, otherwise").expect("written");
        assert!(matches!(watched.reload_if_changed(), Err(AuthError::Malformed { .. })));
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(matches!(watched.reload_if_changed(), Err(AuthError::Read { .. })));
        assert!(knows(&watched, &text));

        fs::remove_file(&path).expect("removed");
        assert!(matches!(watched.reload_if_changed(), Err(AuthError::Gone { .. })));
        assert_eq!(watched.reload_if_changed().expect("reported once"), Reload::StillBroken);
        assert!(knows(&watched, &text));

        fs::write(&path, good).expect("written");
        assert_eq!(watched.reload_if_changed().expect("mended"), Reload::Reloaded { tokens: 1 });
        assert!(knows(&watched, &text));
        fs::write(&path, "broken").expect("written");
        assert!(matches!(watched.reload_if_changed(), Err(AuthError::Malformed { .. })), "reported anew");
    }

    #[test]
    fn a_broken_file_stops_the_start() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokens.toml");
        fs::write(&path, "broken").expect("written");
        assert!(matches!(Watched::open(&path), Err(AuthError::Malformed { .. })));
        assert!(matches!(Watched::open(directory.path()), Err(AuthError::Read { .. })));
    }
}
