//! Memory that all decoding threads have together.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that images may take while they are decoded, over all threads.
static DECODING: Budget = Budget::new(2 << 30);

/// Waits until so many bytes are free, and takes them for as long as the result lives. What is larger than all there is
/// waits until nobody else decodes, and is let through alone.
pub(super) fn reserve(bytes: u64) -> Reserved<'static> {
    DECODING.reserve(bytes)
}

struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl Budget {
    const fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    fn reserve(&self, bytes: u64) -> Reserved<'_> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |used: &mut u64| *used > 0 && used.saturating_add(bytes) > self.limit;
        let mut used = self
            .freed
            .wait_while(used, full)
            .unwrap_or_else(PoisonError::into_inner);
        *used += bytes;
        Reserved {
            budget: self,
            bytes,
        }
    }
}

/// Bytes that are given back when this is dropped.
pub(super) struct Reserved<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let used = self.budget.used.lock();
        *used.unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn threads_never_hold_more_than_the_limit_and_a_giant_is_alone() {
        let budget = Budget::new(10);
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, held) = (&budget, &held);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = match (thread + round) % 5 {
                            0 => 25,
                            small => small + 1,
                        };
                        let _reserved = budget.reserve(bytes);
                        let now = held.fetch_add(bytes, SeqCst) + bytes;
                        assert!(now <= 10 || now == 25, "{now}");
                        held.fetch_sub(bytes, SeqCst);
                    }
                });
            }
        });
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }
}
