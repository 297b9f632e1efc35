//! Some pieces of work side by side, whose ends are met in the order of their beginnings.

use std::collections::VecDeque;

use tokio_util::task::AbortOnDropHandle;

/// Pieces of work under way. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Window<T> {
    width: usize,
    under_way: VecDeque<AbortOnDropHandle<T>>,
}

impl<T: Send + 'static> Window<T> {
    /// For so many at once.
    pub(super) fn new(width: usize) -> Self {
        Self { width: width.max(1), under_way: VecDeque::new() }
    }

    /// Whether one has to end before the next begins.
    pub(super) fn is_full(&self) -> bool {
        self.under_way.len() >= self.width
    }

    /// Begins a piece of work.
    pub(super) fn begin(&mut self, work: impl Future<Output = T> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "it ends with the window, which is waited for")]
        self.under_way.push_back(AbortOnDropHandle::new(tokio::spawn(work)));
    }

    /// The end of the first; nothing if none is under way.
    pub(super) async fn end(&mut self) -> Option<T> {
        let first = self.under_way.front_mut()?;
        let ended = first.await;
        self.under_way.pop_front();
        Some(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn ends_come_in_order() {
        let mut window = Window::new(3);
        for pause in [30_u64, 1, 10] {
            assert!(!window.is_full());
            window.begin(async move {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                pause
            });
        }
        assert!(window.is_full());
        let ends = [window.end().await, window.end().await, window.end().await, window.end().await];
        assert_eq!(ends, [Some(30), Some(1), Some(10), None]);
    }
}
