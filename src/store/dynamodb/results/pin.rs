//! Pins an object before a head names it, so that no sweep deletes it in between.

use super::super::item::number;
use super::super::pins;
use super::Inner;
use super::expression::Terms;
use super::requests::Tell;
use crate::store::Result;

impl Inner {
    /// Keeps sweeps away from an object; false if one has taken it.
    pub(super) async fn pin(&self, object: &str) -> Result<bool> {
        let (now, mut terms) = (self.clock.now().as_secs(), Terms::default());
        let condition = terms.lacks(pins::TAKEN_AT);
        let set = [(pins::PINNED_AT, now), ("ttl", now + pins::LIFE_SECONDS)]
            .map(|(name, value)| terms.compare(name, "=", number(value)));
        let update = format!("SET {}", set.join(", "));
        Ok(self.update_item(&pins::key(object), update, condition, terms, Tell::Nothing).await?.is_ok())
    }
}
