//! Cursors of a listing of both sides: where each of them was left.

use crate::store::{Error, Result};

/// The form that they have; the first byte.
const FORM: u8 = 1;

/// How many bytes come before those of the sides.
const HEAD: usize = 4;

const HAS_LOCAL: u8 = 1;
const HAS_REMOTE: u8 = 2;
const WITHOUT_REMOTE: u8 = 4;

/// Where a listing goes on. A side that was read to its end is asked again from there: what moves to the end while
/// the other side is listed must be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursors {
    /// Behind what was used of SQLite; nothing before the first.
    pub(super) local: Option<Vec<u8>>,
    /// Behind what was used of DynamoDB; nothing before the first.
    pub(super) remote: Option<Vec<u8>>,
    /// DynamoDB was left out of this listing, and stays out of it.
    pub(super) without_remote: bool,
}

impl Cursors {
    /// What a cursor says; the beginning without one.
    ///
    /// # Errors
    /// [`Error::Cursor`] for one that is not of this form.
    pub(super) fn read(bytes: Option<&[u8]>) -> Result<Self> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let (&[form, flags, high, low], rest) = bytes.split_first_chunk::<HEAD>().ok_or(Error::Cursor)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (local, remote) = rest.split_at_checked(length).ok_or(Error::Cursor)?;
        let has = |flag: u8| flags & flag != 0;
        let side = |flag, bytes: &[u8]| match (has(flag), bytes) {
            (false, []) => Ok(None),
            (true, bytes) => Ok(Some(bytes.to_vec())),
            (false, _) => Err(Error::Cursor),
        };
        if form != FORM || flags >= WITHOUT_REMOTE << 1 {
            return Err(Error::Cursor);
        }
        Ok(Self {
            local: side(HAS_LOCAL, local)?,
            remote: side(HAS_REMOTE, remote)?,
            without_remote: has(WITHOUT_REMOTE),
        })
    }

    /// The cursor.
    pub(super) fn write(&self) -> Vec<u8> {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(self.local.is_some(), HAS_LOCAL)
            | flag(self.remote.is_some(), HAS_REMOTE)
            | flag(self.without_remote, WITHOUT_REMOTE);
        let (local, remote) =
            (self.local.as_deref().unwrap_or_default(), self.remote.as_deref().unwrap_or_default());
        // SQLite's have 16 bytes.
        let length = u16::try_from(local.len()).unwrap_or(u16::MAX);
        let [high, low] = length.to_be_bytes();
        [&[FORM, flags, high, low], local, remote].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        for (local, remote) in [
            (None, None),
            (some("here"), None),
            (None, some("there")),
            (some(""), some("")),
            (some("a"), some("b")),
        ] {
            for without_remote in [false, true] {
                let cursors = Cursors { local: local.clone(), remote: remote.clone(), without_remote };
                assert_eq!(Cursors::read(Some(&cursors.write())), Ok(cursors));
            }
        }
        assert_eq!(Cursors::read(None), Ok(Cursors::default()));
    }

    #[test]
    fn others_are_refused() {
        let some =
            Cursors { local: Some(vec![1; 16]), remote: Some(vec![2; 9]), ..Cursors::default() }.write();
        for at in 0..HEAD {
            let mut bytes = some.clone();
            bytes[at] ^= 0x80;
            assert_eq!(Cursors::read(Some(&bytes)), Err(Error::Cursor), "byte {at}");
        }
        for length in 0..HEAD + 16 {
            assert_eq!(Cursors::read(Some(&some[..length])), Err(Error::Cursor), "{length} bytes");
        }
        assert_eq!(Cursors::read(Some(&[FORM, 0, 0, 0, 1])), Err(Error::Cursor), "of no side");
    }
}
