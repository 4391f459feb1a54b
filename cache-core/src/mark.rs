//! Marks: how many items die at one instant.
//!
//! Owns: the generation words of namespaces and tags, and how a stripe catches up with a clear of
//! everything. An item of a namespace carries a mark,
//! and one for each of its tags: the number of a generation word, and what the word held when
//! the item was published. One addition to a word makes every item dead that carries it, and
//! costs the items nothing; their space comes back with reclaim.
//!
//! The words come one after the other: first those in the rows of the namespaces, then those
//! of the tags. A tag has the word that its hash names. Two tags may share one: then more is
//! evicted than was asked for, never less.
//!
//! Readers load the word between the load of the slot and its re-check. A writer reads the
//! generations for its marks under the stripe's lock and only then judges what is there: what
//! is made of a value that was still alive dies with it, if it has the same tag. A value that is
//! stored while its tag is evicted may be gone at once, as if it had been stored before.
//! [loom: evict]

use crate::candidate::Candidate;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::index::Stripe;
use crate::item::{Head, Shape, TAGS};
use crate::layout::{TAG_BYTES_MAX, TAG_COUNT_MAX, control, namespace};
use crate::map::Map;
use crate::sync::{AtomicU64, Ordering};
use crate::types::{Key, Meta, Namespace};

const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// Number of a generation word, and the low 44 bits of what it held: one addition a
/// microsecond comes round to the same after half a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(pub u64);

impl Mark {
    fn new(number: u32, generation: u64) -> Mark {
        Mark(u64::from(number) | generation << NUMBER_BITS)
    }

    fn number(self) -> u32 {
        (self.0 & NUMBER_MASK) as u32
    }
}

/// The marks that the writer of an item has to write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TagMarks<'a> {
    /// Of the tags with these names, as they are when the item is published.
    Now(&'a [&'a [u8]]),
    /// Those that another version of the item carried.
    Kept(&'a [Mark]),
}

impl TagMarks<'_> {
    pub fn len(&self) -> usize {
        match self {
            TagMarks::Now(names) => names.len(),
            TagMarks::Kept(marks) => marks.len(),
        }
    }

    /// The last word of an item with these tags.
    pub fn last_word(&self, value_bytes: usize) -> u64 {
        self.len() as u64 | (value_bytes as u64) << 32
    }
}

impl<H: Host> Map<H> {
    /// Number of the generation word of the tag `name` of a namespace.
    pub(crate) fn tag_number(&self, namespace: Namespace, name: &[u8]) -> u32 {
        let hash = self.second_hasher.key(Key::new(namespace, name)).0;
        self.geometry.namespace_count + (hash % u64::from(self.geometry.tag_count)) as u32
    }

    /// Refuses tags that no value can have.
    pub(crate) fn check_tags(&self, tags: TagMarks<'_>) -> Result<()> {
        if tags.len() > TAG_COUNT_MAX {
            return Err(Error::TooManyTags { count: tags.len() as u64, count_max: TAG_COUNT_MAX as u64 });
        }
        match tags {
            TagMarks::Now(names) => names.iter().try_for_each(|name| check_tag(name)),
            TagMarks::Kept(_) => Ok(()),
        }
    }

    /// Makes every value of a namespace with the tag `name`, 1 to 255 bytes, disappear, at one
    /// instant; with it those of a tag that happens to share its word. Values that are stored
    /// with it afterwards stay.
    ///
    /// # Errors
    /// `LabelLength`, `ReadOnly`.
    pub fn evict_tag(&self, namespace: Namespace, name: &[u8]) -> Result<()> {
        self.owner.ok_or(Error::ReadOnly)?;
        check_tag(name)?;
        let word = self.generation_word(self.tag_number(namespace, name)).ok_or(Error::Internal)?;
        // AcqRel: the one instant of the eviction; see the front page.
        word.fetch_add(1, Ordering::AcqRel);
        self.note_ended_marks();
        Ok(())
    }

    /// Notes under the lock which items a clear has made dead, before anything newer is
    /// stored: every version given so far.
    #[inline(always)]
    pub(crate) fn catch_up(&self, stripe: Stripe<'_>) {
        // Acquire: the generation at the moment of our decision.
        let region = self.control_word(control::REGION_GENERATION).load(Ordering::Acquire);
        let default = self.control_word(control::DEFAULT_GENERATION).load(Ordering::Acquire).wrapping_add(region);
        // Relaxed, both: these words change only under the lock that we hold.
        let seen = (stripe.seen_region().load(Ordering::Relaxed), stripe.seen_default().load(Ordering::Relaxed));
        if seen != (region, default) {
            self.catch_up_with(stripe, region, default);
        }
    }

    #[cold]
    fn catch_up_with(&self, stripe: Stripe<'_>, region: u64, default: u64) {
        // Relaxed loads: these words change only under the lock that we hold.
        let version = stripe.version().load(Ordering::Relaxed);
        let is_all = stripe.seen_region().load(Ordering::Relaxed) != region;
        if is_all {
            // Release, in this order: who sees the generation sees the version. [loom: clear]
            stripe.cleared_region().store(version, Ordering::Release);
            stripe.seen_region().store(region, Ordering::Release);
        }
        if stripe.seen_default().load(Ordering::Relaxed) != default {
            // Release, in this order, as above.
            stripe.cleared_default().store(version, Ordering::Release);
            stripe.seen_default().store(default, Ordering::Release);
        }
        if is_all || !self.has_namespaces() {
            stripe.count_none();
            self.renew_open_segments();
        }
    }

    /// Lets reclaim look for what died just now before it drops what lives: the hints of live
    /// bytes do not know of it.
    pub(crate) fn note_ended_marks(&self) {
        // Relaxed: a hint.
        self.control_word(control::MARKS_ENDED).store(1, Ordering::Relaxed);
    }

    /// True for the first who asks since items died by their marks.
    pub(crate) fn take_ended_marks(&self) -> bool {
        let word = self.control_word(control::MARKS_ENDED);
        // Relaxed, both: a hint. Looked at first, because nearly always there is nothing to take.
        self.owner.is_some() && word.load(Ordering::Relaxed) != 0 && word.swap(0, Ordering::Relaxed) != 0
    }

    /// Numbers of which one moves with each clear that would remove a value of this namespace, and
    /// with each eviction by one of these tags: who makes a value takes them before, and knows
    /// afterwards whether what it was made of may have changed.
    pub fn generations(&self, namespace: Namespace, tags: &[&[u8]]) -> Vec<u64> {
        let mut generations = vec![self.generation(namespace)];
        if namespace != Namespace::DEFAULT {
            generations.push(self.namespace_mark(namespace).0);
        }
        let marks = tags.iter().map(|tag| self.mark_now(self.tag_number(namespace, tag)).map_or(0, |mark| mark.0));
        generations.extend(marks);
        generations
    }

    /// `None` for a number that no writer uses.
    #[inline]
    pub(crate) fn generation_word(&self, number: u32) -> Option<&AtomicU64> {
        let geometry = &self.geometry;
        let offset = match number.checked_sub(geometry.namespace_count) {
            None => geometry.namespaces_offset + namespace::BYTES * u64::from(number) + namespace::GENERATION,
            Some(tag) if tag < geometry.tag_count => geometry.tags_offset + 8 * u64::from(tag),
            Some(_) => return None,
        };
        Some(self.region.word(offset))
    }

    #[inline]
    fn mark_now(&self, number: u32) -> Option<Mark> {
        // Acquire: see the front page.
        Some(Mark::new(number, self.generation_word(number)?.load(Ordering::Acquire)))
    }

    /// The mark of an item of this namespace that is published now.
    #[inline]
    pub(crate) fn namespace_mark(&self, namespace: Namespace) -> Mark {
        self.mark_now(namespace.number().into()).unwrap_or(Mark(0))
    }

    #[inline]
    pub(crate) fn is_outdated(&self, mark: Mark) -> bool {
        self.mark_now(mark.number()) != Some(mark)
    }

    /// Reads the marks of an item into its `meta`; false if no writer makes such an item.
    #[cold]
    pub(crate) fn read_marks(&self, item: &[AtomicU64], head: Head, shape: &Shape, meta: &mut Meta) -> bool {
        // Relaxed, all: as for the header.
        if let Some(at) = shape.namespace_at {
            let mark = Mark(item[at as usize / 8].load(Ordering::Relaxed));
            if mark.number() == 0 || mark.number() >= self.geometry.namespace_count {
                return false;
            }
            meta.namespace = Namespace(mark.number() as u16);
            meta.is_outdated |= self.is_outdated(mark);
        }
        if head.flags & TAGS != 0 {
            let Some(marks) = tag_words(item, shape.value_at, &mut meta.value_bytes) else { return false };
            let mark = |word: &AtomicU64| Mark(word.load(Ordering::Relaxed));
            meta.is_outdated |= marks.iter().any(|word| self.is_outdated(mark(word)));
        }
        true
    }

    /// Writes the last words of an unpublished item with tags: which they are, and their number.
    pub(crate) fn write_tags(&self, item: &[AtomicU64], namespace: Namespace, tags: TagMarks<'_>, value_bytes: usize) {
        let [.., last] = item else { return };
        let words = &item[item.len() - 1 - tags.len()..];
        // Relaxed, all: published by the CAS of the slot.
        last.store(tags.last_word(value_bytes), Ordering::Relaxed);
        match tags {
            TagMarks::Now(names) => {
                for (word, name) in words.iter().zip(names) {
                    word.store(Mark::new(self.tag_number(namespace, name), 0).0, Ordering::Relaxed);
                }
            }
            TagMarks::Kept(marks) => {
                for (word, mark) in words.iter().zip(marks) {
                    word.store(mark.0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Lets the marks of an unpublished item be those of now, but for those that it keeps.
    pub(crate) fn write_marks(&self, item: &[AtomicU64], namespace: Option<(u64, Namespace)>, tags: TagMarks<'_>) {
        // Relaxed, all: published by the CAS of the slot.
        if let Some((at, namespace)) = namespace {
            item[at as usize / 8].store(self.namespace_mark(namespace).0, Ordering::Relaxed);
        }
        if let TagMarks::Now(names) = tags {
            for word in &item[item.len() - 1 - names.len()..][..names.len()] {
                let number = Mark(word.load(Ordering::Relaxed)).number();
                word.store(self.mark_now(number).unwrap_or(Mark(0)).0, Ordering::Relaxed);
            }
        }
    }
}

fn check_tag(name: &[u8]) -> Result<()> {
    if (1..=TAG_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::LabelLength { bytes: name.len() as u64, bytes_max: TAG_BYTES_MAX as u64 })
}

/// The words of an item's tags; its value's own length in `value_bytes`, which was that with
/// the tags. `None` if no writer makes such an item.
fn tag_words<'a>(item: &'a [AtomicU64], value_at: u64, value_bytes: &mut usize) -> Option<&'a [AtomicU64]> {
    let (last, rest) = item.split_last()?;
    // Relaxed: as for the header.
    let word = last.load(Ordering::Relaxed);
    let (count, bytes) = (word as u32 as usize, (word >> 32) as usize);
    let first = rest.len().checked_sub(count).filter(|_| (1..=TAG_COUNT_MAX).contains(&count))?;
    if (value_at as usize + bytes).div_ceil(8) != first {
        return None;
    }
    *value_bytes = bytes;
    Some(&rest[first..])
}

impl Candidate<'_> {
    /// Copies the mark of its namespace, if it has one, and those of its tags.
    pub fn copy_marks(&self, out: &mut Vec<Mark>) {
        self.copy_tags(out);
        if let Some(at) = self.shape.namespace_at {
            // Relaxed: as for the value.
            out.push(Mark(self.words[at as usize / 8].load(Ordering::Relaxed)));
        }
    }

    /// Copies the marks of its tags.
    pub fn copy_tags(&self, out: &mut Vec<Mark>) {
        out.clear();
        if self.head.flags & TAGS != 0
            && let Some(words) = tag_words(self.words, self.shape.value_at, &mut 0)
        {
            // Relaxed: as for the value.
            out.extend(words.iter().map(|word| Mark(word.load(Ordering::Relaxed))));
        }
    }
}
