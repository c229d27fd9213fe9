//! Locking a mutex that ignores poison.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose value is valid between any two statements, so that a panic of another thread cannot have left it invalid.
///
/// A poisoned lock would turn one panic into a refusal of every later request. A value that a panic can
/// leave half-changed must not be locked with this.
pub fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_holder_does_not_block_the_mutex() {
        let mutex = Mutex::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock_ignoring_poison(&mutex);
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        *lock_ignoring_poison(&mutex) += 1;
        assert_eq!(*lock_ignoring_poison(&mutex), 2);
    }
}
