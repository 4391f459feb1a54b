//! What is done with many keys: batches, walks, namespaces, tags.

use std::sync::Arc;

use cache_core::{Cursor, Error, Meta, NamespaceInfo, Result, WriteOptions};

use crate::cache::Cache;

/// # Batches
///
/// Each key of a batch is an operation of its own: others may see some of them done and some not
/// yet, and a death in between leaves those that were done.
impl Cache {
    /// Looks up many keys at once, faster than one by one, because their memory is sent for
    /// together. `visit` gets the position of each key that is there with its value, in the order
    /// of the keys; returns how many are.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let items = [(&b"a"[..], &b"1"[..], cache.options()), (b"b", b"2", cache.options())];
    /// assert_eq!(cache.set_many(&items, &mut |_, error| panic!("{error}"))?, 2);
    /// let mut found = vec![None; 3];
    /// cache.get_many(&[b"a", b"missing", b"b"], &mut |at, _, value| found[at] = Some(value.to_vec()))?;
    /// assert_eq!(found, [Some(b"1".to_vec()), None, Some(b"2".to_vec())]);
    /// assert_eq!(cache.delete_many(&[b"a", b"missing", b"b"])?, 2);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `KeyEmpty` or `KeyTooLong` before anything is looked up; otherwise those of a read, which end
    /// the batch.
    pub fn get_many(&self, keys: &[&[u8]], visit: &mut dyn FnMut(usize, &Meta, &[u8])) -> Result<usize> {
        let at = self.scope()?;
        let keys: Vec<_> = keys.iter().map(|key| at.key(key)).collect();
        at.map.get_many(&keys, visit)
    }

    /// Stores many values; returns how many were stored. `on_error` gets the position of each that
    /// was not, and why: the others are stored all the same.
    ///
    /// # Errors
    /// `Closed`, `Gone`, `ReadOnly` for the batch as a whole.
    pub fn set_many(
        &self,
        items: &[(&[u8], &[u8], WriteOptions)],
        on_error: &mut dyn FnMut(usize, Error),
    ) -> Result<usize> {
        let at = self.writing_scope()?;
        let items: Vec<_> = items.iter().map(|(key, value, options)| (at.key(key), *value, *options)).collect();
        Ok(at.map.set_many(&items, on_error))
    }

    /// Removes many keys; returns how many were there.
    ///
    /// # Errors
    /// Those of a write, at the first key that fails; earlier ones are removed.
    pub fn delete_many(&self, keys: &[&[u8]]) -> Result<usize> {
        let at = self.writing_scope()?;
        let keys: Vec<_> = keys.iter().map(|key| at.key(key)).collect();
        at.map.delete_many(&keys, self.timeout_ns())
    }
}

/// # All keys
impl Cache {
    /// Walks over the keys of this namespace, some at each call: from [`Cursor::START`] until it
    /// returns `None`, in no order. A key that is there all the time is seen once, whatever changes
    /// meanwhile; one that comes or goes, perhaps. Nothing is held while `visit` runs, which may use
    /// the cache, nor between two calls: a cursor is a number that may be kept.
    ///
    /// ```
    /// use cache_shm::{Cache, Cursor};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// for user in 0..100 {
    ///     cache.set(format!("user:{user}").as_bytes(), b"x")?;
    /// }
    /// let (mut cursor, mut ones) = (Some(Cursor::START), 0);
    /// while let Some(from) = cursor {
    ///     cursor = cache.scan(from, &mut |key, _| ones += u32::from(key.starts_with(b"user:1")))?;
    /// }
    /// assert_eq!((ones, cache.len()?), (11, 100));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read; `Busy` if writers changed one bucket all the time.
    pub fn scan(&self, cursor: Cursor, visit: &mut dyn FnMut(&[u8], &Meta)) -> Result<Option<Cursor>> {
        let at = self.scope()?;
        at.map.scan(cursor, &mut |key, meta| {
            if meta.namespace == at.namespace {
                visit(key, meta);
            }
        })
    }

    /// Number of unexpired keys, counted by a walk over those of all namespaces: exact when nobody
    /// writes. [`crate::Stats::items`] is the cheap estimate.
    ///
    /// # Errors
    /// Those of a read.
    pub fn len(&self) -> Result<u64> {
        let at = self.scope()?;
        Ok(at.map.len_of(at.namespace))
    }

    /// True if there is no unexpired key; a walk that ends at the first.
    ///
    /// # Errors
    /// Those of a read.
    pub fn is_empty(&self) -> Result<bool> {
        let at = self.scope()?;
        Ok(at.map.is_empty_of(at.namespace))
    }

    /// Removes all keys of this namespace at once: at one instant for all processes, in the time of
    /// one store whatever their number. Their space comes back with later writes. Locks,
    /// semaphores and rates stay.
    ///
    /// # Errors
    /// Those of a write.
    pub fn clear(&self) -> Result<()> {
        let at = self.writing_scope()?;
        at.map.clear_of(at.namespace)
    }

    /// As [`Cache::clear`], the keys of all namespaces.
    ///
    /// # Errors
    /// Those of a write.
    pub fn clear_all(&self) -> Result<()> {
        self.writer()?.clear()
    }
}

/// # Namespaces and tags
impl Cache {
    /// Another handle on this region, in the namespace `name`, 1 to 64 bytes, which is made if it
    /// is not there yet. The same bytes are another key in each namespace. Handles are closed
    /// each by itself.
    ///
    /// A region has room for 15 namespaces (1 MiB) to 255 (16 MiB and more), which stay for its life.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let users = cache.namespace(b"users")?;
    /// users.set(b"7", b"Ada")?;
    /// assert_eq!(cache.get(b"7")?, None);
    /// users.clear()?;
    /// assert_eq!(users.get(b"7")?, None);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `LabelLength`, `NamespacesFull`, `Busy`. A read-only handle finds nothing in a namespace
    /// that nobody has made.
    pub fn namespace(&self, name: &[u8]) -> Result<Cache> {
        // Says whether the name is one; an empty one would be the default namespace's.
        self.map()?.find_namespace(name)?;
        let handle = Cache(Arc::new(self.0.sibling(name)?));
        handle.0.namespace.in_map(handle.map()?, !self.is_read_only())?;
        Ok(handle)
    }

    /// The namespace's name; empty for the default one.
    pub fn namespace_name(&self) -> &[u8] {
        self.0.namespace.name()
    }

    /// The default namespace and all that were made, with their counters.
    ///
    /// # Errors
    /// Those of a read.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        Ok(self.map()?.namespaces())
    }

    /// Removes every value of this namespace that was stored with the tag `name`, 1 to 255 bytes,
    /// at once, as [`Cache::clear`] does. Tags share words: a value of another tag may go as well,
    /// seldom.
    ///
    /// ```
    /// # use cache_shm::{Cache, WriteOptions};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let options = WriteOptions { tags: &[b"user:7"], ..cache.options() };
    /// cache.set_with(b"page:1", b"Hello, Ada", &options)?;
    /// cache.evict_tag(b"user:7")?;
    /// assert_eq!(cache.get(b"page:1")?, None);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `LabelLength`, and those of a write.
    pub fn evict_tag(&self, name: &[u8]) -> Result<()> {
        let at = self.writing_scope()?;
        at.map.evict_tag(at.namespace, name)
    }
}
