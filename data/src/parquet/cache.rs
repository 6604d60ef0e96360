//! Row groups that were read last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::Rows;

/// Decoded row groups up to a number of bytes, the one used last first.
#[derive(Debug)]
pub(super) struct Cache {
    budget: usize,
    kept: Mutex<VecDeque<(usize, Arc<Rows>)>>,
}

impl Cache {
    /// A cache of at most `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            kept: Mutex::default(),
        }
    }

    /// Row group `index`, if it is kept.
    pub fn get(&self, index: usize) -> Option<Arc<Rows>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(kept, _)| *kept == index)?;
        let found = kept.remove(place)?;
        let rows = found.1.clone();
        kept.push_front(found);
        Some(rows)
    }

    /// Keeps row group `index` if it fits, and lets go of those that were not used for longest.
    pub fn put(&self, index: usize, rows: &Arc<Rows>) {
        if rows.bytes() > self.budget {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(kept, _)| *kept != index);
        kept.push_front((index, rows.clone()));
        let mut bytes = 0;
        kept.retain(|(_, rows)| {
            bytes += rows.bytes();
            bytes <= self.budget
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_groups_used_last_are_kept_within_the_budget() {
        let image = |bytes: usize| Arc::new(Rows::of_image(vec![0; bytes]));
        let cache = Cache::new(2 * image(100).bytes());
        let kept = |cache: &Cache| {
            let kept = cache.kept.lock().unwrap();
            kept.iter().map(|(index, _)| *index).collect::<Vec<_>>()
        };
        cache.put(1, &image(100));
        cache.put(2, &image(100));
        assert!(cache.get(1).is_some());
        cache.put(3, &image(100));
        assert_eq!(kept(&cache), [3, 1]);
        assert!(cache.get(2).is_none());
        cache.put(4, &image(1000));
        assert_eq!(kept(&cache), [3, 1]);
        cache.put(3, &image(101));
        assert_eq!(kept(&cache), [3]);
    }
}
