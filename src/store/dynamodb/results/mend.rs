//! Puts an entry in place of one of the same version that is not what it should be.

use super::super::pauses::Pauses;
use super::key::partition;
use super::put::{Care, TRIES, Tried, contended};
use super::requests::Seen;
use super::stored::Met;
use super::{DynamodbResults, Inner};
use crate::domain::Entry;
use crate::store::Result;

impl DynamodbResults {
    /// Makes what is under the key exactly this entry, unless that is newer: then nothing is changed, and the answer is
    /// false. An ordinary put leaves alone what has its own version, whatever it says.
    ///
    /// # Errors
    /// As any write.
    pub async fn mend(&self, entry: &Entry) -> Result<bool> {
        Box::pin(self.0.mend(entry)).await
    }
}

impl Inner {
    async fn mend(&self, entry: &Entry) -> Result<bool> {
        let Entry { meta, frame } = entry;
        let partition = partition(&meta.key);
        let mut shape = self.shape_of(meta, frame);
        let mut seen = Seen { item: self.get_item(&partition, true).await?, retried: false };
        let mut pauses = Pauses::within(self.aws.operation_timeout());
        for _ in 0..TRIES {
            let met = Met::of(seen.item, &meta.key);
            if met.version().is_some_and(|version| version > meta.version) {
                return Ok(false);
            }
            match self.replace_exactly(&partition, meta, frame, &mut shape, &met, Care::Repair).await? {
                Tried::Done | Tried::Gone => return Ok(true),
                Tried::Unmet(now) => seen = now,
            }
            if !pauses.pause().await {
                break;
            }
        }
        Err(contended(&meta.key))
    }
}
