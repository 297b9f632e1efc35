//! Many items by their keys, in requests of a hundred.

use std::collections::HashMap;

use futures_util::future::try_join_all;

use super::super::batch::{MOST_KEYS, Wanted};
use super::super::capacity::Table;
use super::super::item::{Item, read_text, text};
use super::DynamodbSessions;
use super::layout::Layout;
use crate::store::Result;

impl DynamodbSessions {
    /// The items of these keys, by key; those that do not exist are missing.
    ///
    /// # Errors
    /// [`crate::store::Error::Throttled`] if the service still leaves some over when an operation must end.
    pub(super) async fn items(&self, layout: Layout, mut keys: Vec<String>) -> Result<HashMap<String, Item>> {
        // A key may be in a request only once.
        keys.sort_unstable();
        keys.dedup();
        let batches = keys.chunks(MOST_KEYS).map(|batch| self.batch(layout, batch));
        let batches = try_join_all(batches).await?;
        let name = layout.names().id;
        let keyed = |item: Item| Some((read_text(&item, name)?.to_owned(), item));
        Ok(batches.into_iter().flatten().filter_map(keyed).collect())
    }

    async fn batch(&self, layout: Layout, keys: &[String]) -> Result<Vec<Item>> {
        let key = |key: &String| Item::from([(layout.names().id.to_owned(), text(key))]);
        let (name, unprocessed) = (self.0.table.as_str(), &self.0.unprocessed);
        let wanted = Wanted { table: Table::Sessions, name, projection: None, consistent: true, unprocessed };
        let found = self.0.aws.get_many(wanted, keys.iter().map(key).collect()).await;
        found.map_err(|failure| self.failed(failure))
    }
}
