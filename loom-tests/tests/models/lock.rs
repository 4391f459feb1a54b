//! The lock word: mutual exclusion, and the replacement of dead holders.

use std::sync::Arc;

use cache_core::lock;
use cache_core::model::ModelHost;
use cache_core::sync::{AtomicU32, Ordering, yield_now};
use cache_core::{Error, Host, Owner};
use loom::cell::UnsafeCell;
use loom::thread;
use loom_tests::{Case, check, model, twin};

pub const CASES: &[Case] = &[
    model("lock", 3, || exclude(Word::acquire, lock::release)),
    twin("lock: a release that publishes nothing", 3, || exclude(Word::acquire, release_relaxed)),
    model("lock.dead_holder", 3, || replace_the_dead(0, Word::acquire)),
    model("lock.dead_taker", 3, || replace_the_dead(RECOVERING, Word::acquire)),
    twin("lock.dead_holder: taken by a store", 3, || replace_the_dead(0, acquire_by_store)),
    model("lock.dies_while_waited_for", 2, die_while_waited_for),
    model("lock.cleaned_up_and_taken_over", 3, clean_up_and_take_over),
    model("lock.living_holder", 3, || leave_the_living(Word::acquire_or_give_up)),
    twin("lock.living_holder: nobody asks", 3, || leave_the_living(rob)),
];

/// The bit that a taker sets first, as the state table of `cache_core::lock` says.
const RECOVERING: u32 = 1 << 30;
const WAIT_NS: u64 = u64::MAX;

/// A lock and what it protects.
struct Word {
    lock: AtomicU32,
    inside: UnsafeCell<u32>,
    host: ModelHost,
}

fn owner(index: u32) -> Owner {
    Owner::new(index, 1)
}

impl Word {
    fn new(held_by: u32) -> Arc<Word> {
        Arc::new(Word { lock: AtomicU32::new(held_by), inside: UnsafeCell::new(0), host: ModelHost::new(4) })
    }

    /// True if it was taken over.
    fn acquire(&self, me: Owner) -> bool {
        lock::acquire(&self.lock, me, &self.host, WAIT_NS).expect("time")
    }

    fn acquire_or_give_up(&self, me: Owner) -> Option<bool> {
        match lock::acquire(&self.lock, me, &self.host, 0) {
            Ok(taken_over) => Some(taken_over),
            Err(Error::Busy { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The critical section: loom fails the model if two threads are in it at once.
    fn enter(&self) {
        // SAFETY: R5. Loom checks what this claims: one thread at a time.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
    }

    fn entered(&self) -> u32 {
        // SAFETY: R5. Every other thread was joined.
        self.inside.with(|inside| unsafe { *inside })
    }
}

fn release_relaxed(word: &AtomicU32, _host: &ModelHost) {
    word.swap(0, Ordering::Relaxed);
}

fn exclude(acquire: fn(&Word, Owner) -> bool, release: fn(&AtomicU32, &ModelHost)) {
    let word = Word::new(0);
    let threads: Vec<_> = (0..2)
        .map(|index| {
            let word = word.clone();
            thread::spawn(move || {
                let taken_over = acquire(&word, owner(index));
                check(!taken_over, || "a living holder was taken over".into());
                word.enter();
                release(&word.lock, &word.host);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("its end"));
    check(word.entered() == 2, || "a holder was lost".into());
}

/// The holder died; two others want the lock.
fn replace_the_dead(bits: u32, acquire: fn(&Word, Owner) -> bool) {
    let word = Word::new(owner(3).word() | bits);
    word.host.kill(3);
    let threads: Vec<_> = (0..2)
        .map(|index| {
            let word = word.clone();
            thread::spawn(move || {
                let taken_over = acquire(&word, owner(index));
                word.enter();
                lock::release(&word.lock, &word.host);
                u32::from(taken_over)
            })
        })
        .collect();
    let taken_over: u32 = threads.into_iter().map(|thread| thread.join().expect("its end")).sum();
    check(taken_over == 1, || format!("{taken_over} waiters took the lock over"));
    check(word.entered() == 2, || "a holder was lost".into());
}

fn acquire_by_store(word: &Word, me: Owner) -> bool {
    loop {
        if lock::try_acquire(&word.lock, me) {
            return false;
        }
        let current = Owner::from_word(word.lock.load(Ordering::Relaxed));
        if current.is_some_and(|current| word.host.is_dead(current)) {
            // As `take_over`, but by a store in place of the CAS from the dead word.
            word.lock.store(me.word(), Ordering::Relaxed);
            return true;
        }
        yield_now();
    }
}

/// The holder dies in its critical section while another waits.
fn die_while_waited_for() {
    let word = Word::new(0);
    let holder = word.clone();
    let holder = thread::spawn(move || {
        lock::acquire(&holder.lock, owner(3), &holder.host, WAIT_NS).expect("time");
        holder.enter();
        holder.host.kill(3);
    });
    lock::acquire(&word.lock, owner(0), &word.host, WAIT_NS).expect("time");
    word.enter();
    lock::release(&word.lock, &word.host);
    holder.join().expect("its end");
    // The holder may have come last, and died with the lock.
    let left = word.lock.load(Ordering::Relaxed);
    check(left == 0 || Owner::from_word(left) == Some(owner(3)), || format!("the word is {left:x}"));
}

/// A clean-up of the dead holder's slot and a waiter's take-over at once.
fn clean_up_and_take_over() {
    let word = Word::new(owner(3).word());
    word.host.kill(3);
    let cleaner = word.clone();
    let cleaner = thread::spawn(move || {
        cache_core::model::release_for_the_dead(&cleaner.lock, owner(3), &cleaner.host);
        lock::acquire(&cleaner.lock, owner(1), &cleaner.host, WAIT_NS).expect("time");
        cleaner.enter();
        lock::release(&cleaner.lock, &cleaner.host);
    });
    lock::acquire(&word.lock, owner(0), &word.host, WAIT_NS).expect("time");
    word.enter();
    lock::release(&word.lock, &word.host);
    cleaner.join().expect("its end");
    check(word.entered() == 2 && word.lock.load(Ordering::Relaxed) == 0, || "a holder was lost".into());
}

/// Nobody waits long enough to rob a holder that lives.
fn leave_the_living(acquire: fn(&Word, Owner) -> Option<bool>) {
    let word = Word::new(0);
    let other = word.clone();
    let other = thread::spawn(move || {
        let taken_over = acquire(&other, owner(1));
        check(taken_over != Some(true), || "a living holder was robbed".into());
        if taken_over.is_some() {
            other.enter();
            lock::release(&other.lock, &other.host);
        }
    });
    if word.acquire_or_give_up(owner(0)).is_some() {
        word.enter();
        let current = Owner::from_word(word.lock.load(Ordering::Relaxed));
        check(current == Some(owner(0)), || format!("{current:?} holds what we hold"));
        lock::release(&word.lock, &word.host);
    }
    other.join().expect("its end");
}

fn rob(word: &Word, me: Owner) -> Option<bool> {
    if lock::try_acquire(&word.lock, me) {
        return Some(false);
    }
    let current = word.lock.load(Ordering::Relaxed);
    let robs =
        current != 0 && word.lock.compare_exchange(current, me.word(), Ordering::Acquire, Ordering::Relaxed).is_ok();
    robs.then_some(true)
}
