//! How much of what DynamoDB would own it has already, by a sample: the evidence for raising the percentage.

use super::Routed;
use super::remote::Patience;
use crate::domain::routing::Percent;
use crate::domain::{Key, Meta};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::ledger::walk::Walked;
use crate::store::{Look, Result};

/// What a sample has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Live results that were looked for in DynamoDB.
    pub checked: u64,
    /// How many of them it has in the same or a newer version, deletions included.
    pub present: u64,
    /// How many results SQLite holds, live or not, whoever owns them.
    pub of: u64,
}

/// From how many places of the database the sample is taken.
const PLACES: i64 = 50;

/// Rows that are looked at in one place, at most: few of them may be below the percentage.
const ROWS: usize = 1000;

/// Keys that are asked for at once.
const KEYS: usize = 100;

impl Routed {
    /// Looks for up to `sample` live results that SQLite holds, and that DynamoDB owns at `to` and not yet at `from`.
    /// They come from places spread evenly over all rows, so that old and new ones are among them.
    ///
    /// # Errors
    /// What either side says.
    pub async fn coverage(&self, from: Percent, to: Percent, sample: usize) -> Result<Coverage> {
        let parts = self.parts();
        let (of, _) = parts.database.walk_counts(None).await?;
        let mut coverage = Coverage { of, ..Coverage::default() };
        let metas = self.sample(from, to, sample).await?;
        for metas in metas.chunks(KEYS) {
            let keys: Vec<Key> = metas.iter().map(|meta| meta.key.clone()).collect();
            let looks = parts.remote.ask(Patience::Owner, parts.remote.results.look_metas(&keys)).await?;
            coverage.checked += metas.len() as u64;
            let present = metas.iter().zip(looks).filter(|(meta, look)| match look {
                Look::Entry(there) => there.version >= meta.version,
                Look::Deleted(version) => *version >= meta.version,
                Look::Absent => false,
            });
            coverage.present += present.count() as u64;
        }
        Ok(coverage)
    }

    async fn sample(&self, from: Percent, to: Percent, sample: usize) -> Result<Vec<Meta>> {
        let parts = self.parts();
        let last = last_row(&parts.database).await?;
        let now = parts.clock.now();
        let (each, step) = (sample.div_ceil(usize::try_from(PLACES).unwrap_or(1)), (last / PLACES).max(1));
        let mut metas: Vec<Meta> = Vec::new();
        // Where one place has begun the one before has ended.
        for place in (0..last).step_by(usize::try_from(step).unwrap_or(1)) {
            let (until, wanted) = (place + step, each.min(sample - metas.len()));
            let rows = parts.database.walk_metas(place, None, ROWS).await?;
            let rows = rows.into_iter().take_while(|walked| walked.row <= until);
            let moves = |bucket| to.covers(bucket) && !from.covers(bucket);
            let live = |walked: Walked<Meta>| {
                walked.item.ok().filter(|meta| moves(meta.key.id().bucket()) && meta.expires_at >= now)
            };
            metas.extend(rows.filter_map(live).take(wanted));
            if metas.len() == sample {
                break;
            }
        }
        Ok(metas)
    }
}

/// The last row that a walk comes to, by halving.
async fn last_row(database: &SqliteStore) -> Result<i64> {
    let (mut low, mut high) = (0, 1_i64);
    while !database.walk_metas(high, None, 1).await?.is_empty() {
        (low, high) = (high, high.saturating_mul(2));
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match database.walk_metas(middle, None, 1).await?.first() {
            Some(next) => low = next.row,
            None => high = middle,
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Street, policy};
    use super::*;
    use crate::store::ResultStore as _;
    use crate::store::conformance::{key, put};

    const ALL: u64 = 2000;

    fn page(number: u64) -> Key {
        key(&format!("https://example.com/{number}"))
    }

    #[tokio::test]
    async fn a_sample_tells_how_much_is_there() {
        let street = Street::new(policy(0, false)).await;
        let nothing = street.routed.coverage(Percent::ZERO, Percent::ALL, 100).await;
        assert_eq!(nothing, Ok(Coverage::default()));

        let now = street.clock.now().as_secs();
        for number in 0..ALL {
            let put = put(&page(number), "text", now);
            street.here.put(put.clone()).await.expect("stored");
            if number % 2 == 0 {
                street.across.store.put(put).await.expect("stored");
            }
        }
        let half = Percent::from_number(50.0).expect("a share");
        for (from, to, sample) in
            [(Percent::ZERO, Percent::ALL, 500), (Percent::ZERO, half, 500), (half, Percent::ALL, 10_000)]
        {
            let Coverage { checked, present, of } =
                street.routed.coverage(from, to, sample).await.expect("an answer");
            let moves = |number: &u64| {
                let bucket = page(*number).id().bucket();
                to.covers(bucket) && !from.covers(bucket)
            };
            let expected = ((0..ALL).filter(moves).count() as u64).min(sample as u64);
            assert_eq!(of, ALL);
            assert!(checked <= expected && checked * 10 >= expected * 9, "{checked} of {expected}");
            let share = present * 100 / checked;
            assert!((35..=65).contains(&share), "{share} % of {checked}, of which every other is there");
        }
        for number in 0..ALL {
            street.here.put(put(&page(number), "newer", now + 1)).await.expect("stored");
        }
        let after = street.routed.coverage(Percent::ZERO, Percent::ALL, 300).await.expect("an answer");
        assert_eq!((after.present, after.checked), (0, 300), "what is there is older");
    }
}
