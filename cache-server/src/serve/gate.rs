//! The gate by which one client's commands are a single step for all others.
//!
//! Workers go through it side by side. `EXEC`, and commands on several keys that Redis does
//! in one step, go through it alone: no other client of this server sees or changes anything
//! between. Programs that are attached to the region themselves are not held up.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// What the workers go through.
#[derive(Debug, Default)]
pub struct Gate(RwLock<()>);

/// A worker that went through.
pub struct Entered<'a> {
    gate: &'a Gate,
    held: RefCell<Option<RwLockReadGuard<'a, ()>>>,
}

impl Gate {
    /// Goes through, beside others.
    pub fn enter(&self) -> Entered<'_> {
        Entered { gate: self, held: RefCell::new(Some(self.0.read().unwrap_or_else(PoisonError::into_inner))) }
    }
}

/// Who can keep the others out for a while.
pub trait Alone {
    /// Does `work` while no other worker is at work.
    fn do_alone(&self, work: &mut dyn FnMut());
}

impl Alone for Entered<'_> {
    fn do_alone(&self, work: &mut dyn FnMut()) {
        // Given back first: two that both wait for the other to leave would wait for ever.
        let Some(beside) = self.held.take() else { return work() };
        drop(beside);
        let only = self.gate.0.write().unwrap_or_else(PoisonError::into_inner);
        work();
        drop(only);
        *self.held.borrow_mut() = Some(self.gate.0.read().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn who_is_alone_is_alone_and_nobody_waits_for_ever() {
        let (gate, inside, most) = (Gate::default(), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let entered = gate.enter();
                        entered.do_alone(&mut || {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            // Alone within alone is the same step.
                            entered.do_alone(&mut || ());
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
