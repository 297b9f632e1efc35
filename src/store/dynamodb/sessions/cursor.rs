//! Cursors of listings: where every partition that a listing merges has been left.

use serde::{Deserialize, Serialize};

use super::layout::{Layout, Times};
use super::order;
use super::partition::{Partition, Place, Position};
use crate::domain::{Namespace, Timestamp};
use crate::store::{Error, Result, SessionCursor};

/// The longest key of an item in bytes.
const KEY_BYTES: usize = 2048;

/// Where one partition was left, in a cursor of an adopted table.
#[derive(Serialize, Deserialize)]
struct Left {
    /// The value of the sort key.
    at: String,
    /// The key of the item.
    id: String,
}

/// The cursor behind what was used of the partitions, each up to the last position that `used` says.
///
/// In our own tables it is the place of the last session: places are unique, and all partitions have one order. In
/// adopted tables many sessions may share a place, so it says where each partition was left.
pub(super) fn write<'p>(
    layout: Layout,
    descends: bool,
    used: impl Iterator<Item = Option<&'p Position>>,
) -> Option<SessionCursor> {
    let bytes = match layout {
        Layout::Own => {
            let places = used.flatten().filter_map(|position| match &position.place {
                Place::Text(place) => Some(place),
                Place::Number(_) => None,
            });
            let last = if descends { places.min() } else { places.max() };
            last?.clone().into_bytes()
        }
        Layout::Wallcrawler(_) => {
            let left = |position: &Position| {
                let (Place::Text(at) | Place::Number(at)) = &position.place;
                Left { at: at.clone(), id: position.key.clone() }
            };
            let left: Vec<Option<Left>> = used.map(|position| position.map(left)).collect();
            serde_json::to_vec(&left).ok()?
        }
    };
    Some(SessionCursor(bytes))
}

/// Continues the partitions where the cursor says.
///
/// # Errors
/// [`Error::Cursor`] for one that was not handed out for such a listing.
pub(super) fn read(
    layout: Layout,
    namespace: &Namespace,
    cursor: &SessionCursor,
    partitions: &mut [Partition],
) -> Result<()> {
    match layout {
        Layout::Own => {
            let place = std::str::from_utf8(&cursor.0).map_err(|_| Error::Cursor)?;
            let id = order::id_at(place).ok_or(Error::Cursor)?;
            for partition in partitions {
                let key = order::item_key(namespace, &id);
                partition.after = Some(Position { place: Place::text(place), key });
            }
        }
        Layout::Wallcrawler(times) => {
            let left: Vec<Option<Left>> = serde_json::from_slice(&cursor.0).map_err(|_| Error::Cursor)?;
            if left.len() != partitions.len() {
                return Err(Error::Cursor);
            }
            for (partition, left) in partitions.iter_mut().zip(left) {
                let Some(Left { at, id }) = left else { continue };
                let by_text = partition.index.range == "createdAt" && times == Times::Text;
                let is_good = if by_text { !at.is_empty() && at.len() <= 64 } else { is_number(&at) };
                if !is_good || id.is_empty() || id.len() > KEY_BYTES {
                    return Err(Error::Cursor);
                }
                let place = if by_text { Place::Text(at) } else { Place::Number(at) };
                partition.after = Some(Position { place, key: id });
            }
        }
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=38).contains(&digits) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whole seconds as the younger of Wallcrawler's generations writes them, without what stands behind the seconds: a
/// text that no time of that second comes before.
pub(super) fn second(at: Timestamp) -> String {
    at.to_string().chars().take("2026-01-15T10:30:00".len()).collect()
}
