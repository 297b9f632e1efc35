//! A bound on the memory of rows that are on their way: one row may take a hundred megabytes.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Memory that is handed out by the byte.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// Memory that was handed out; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Grant {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(most: u64) -> Self {
        Self(Arc::new(Shared { most, used: Mutex::new(0), freed: Condvar::new() }))
    }

    /// Waits until `bytes` are free. What is larger than everything waits until it is alone.
    pub(super) fn take(&self, bytes: u64) -> Grant {
        let shared = &self.0;
        let bytes = bytes.min(shared.most);
        let mut used = shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used + bytes > shared.most {
            used = shared.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Grant { shared: Arc::clone(shared), bytes }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        *self.shared.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.shared.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn waits_for_what_is_given_back_and_lets_the_largest_go_alone() {
        let budget = Budget::new(10);
        let (first, second) = (budget.take(4), budget.take(6));
        let taken = Arc::new(AtomicBool::new(false));
        let waiting = std::thread::spawn({
            let (budget, taken) = (budget.clone(), Arc::clone(&taken));
            move || {
                let _all = budget.take(1000);
                taken.store(true, Ordering::SeqCst);
            }
        });
        drop(first);
        std::thread::sleep(Duration::from_millis(30));
        assert!(!taken.load(Ordering::SeqCst), "six are still in use");
        drop(second);
        waiting.join().expect("no panic");
        assert!(taken.load(Ordering::SeqCst));
        drop(budget.take(10));
    }
}
