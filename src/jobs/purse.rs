//! Capacity units as money: what work has spent, and no more in a second than it may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::dynamodb::Bill;

/// A bucket of units that fills evenly, and holds as many as come in a second. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Purse {
    bill: Arc<Bill>,
    limit: Option<Arc<Limit>>,
}

#[derive(Debug)]
struct Limit {
    per_second: f64,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// Less than nothing after something that cost more than there was.
    units: f64,
    at: Instant,
}

impl Purse {
    /// One with so many units a second; any number without.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        let limit = per_second.map(|per_second| {
            let per_second = f64::from(per_second.max(1));
            Arc::new(Limit { per_second, held: Mutex::new(Held { units: per_second, at: Instant::now() }) })
        });
        Self { bill: Arc::default(), limit }
    }

    /// What was spent.
    pub(super) fn bill(&self) -> &Bill {
        &self.bill
    }

    /// Does what costs about `estimate` units, once there are any, and corrects that to what it has cost.
    pub(super) async fn spend<T>(&self, estimate: f64, work: impl Future<Output = T>) -> T {
        let Some(limit) = &self.limit else { return self.bill.charge(work).await };
        limit.take(estimate).await;
        let own = Arc::new(Bill::default());
        let done = own.charge(work).await;
        limit.give(estimate - own.read_units() - own.write_units());
        self.bill.absorb(&own);
        done
    }
}

impl Limit {
    async fn take(&self, units: f64) {
        loop {
            let missing = {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.fill(self.per_second);
                if held.units > 0.0 {
                    held.units -= units;
                    return;
                }
                -held.units
            };
            let pause = Duration::try_from_secs_f64(missing / self.per_second).unwrap_or_default();
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    fn give(&self, units: f64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.units = (held.units + units).min(self.per_second);
    }
}

impl Held {
    fn fill(&mut self, per_second: f64) {
        let now = Instant::now();
        self.units = (self.units + per_second * (now - self.at).as_secs_f64()).min(per_second);
        self.at = now;
    }
}

/// About what it costs to write so many bytes of body: as many KiB, and a unit for each of two indexes.
pub(super) fn write_cost(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let units = (bytes + BESIDE).div_ceil(1024) as f64;
    units + 2.0
}

/// About what it costs to read so many bytes of body consistently: a unit for each 4 KiB.
pub(super) fn read_cost(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let units = (bytes + BESIDE).div_ceil(4096) as f64;
    units
}

/// What an item has beside its body, about.
const BESIDE: u64 = 700;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_spent_than_comes_in() {
        let purse = Purse::new(Some(1000));
        let begun = Instant::now();
        for _ in 0..200 {
            purse.limit.as_ref().expect("limited").take(10.0).await;
        }
        // A thousand are there to begin with, and the last may be taken when one is left.
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds >= 0.98, "2000 units in {seconds} s");
    }

    #[tokio::test]
    async fn what_was_not_needed_comes_back() {
        let purse = Purse::new(Some(10));
        for _ in 0..50 {
            purse.spend(10.0, async {}).await;
            let held = purse.limit.as_ref().expect("limited").held.lock().expect("unpoisoned").units;
            assert!(held >= 9.99, "{held}");
        }
    }

    #[test]
    fn costs_grow_with_the_body() {
        assert!((write_cost(100) - 3.0).abs() < 1e-9 && (write_cost(10_000) - 13.0).abs() < 1e-9);
        assert!((read_cost(100) - 1.0).abs() < 1e-9 && (read_cost(10_000) - 3.0).abs() < 1e-9);
    }
}
