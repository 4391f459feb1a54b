//! What is done with one key.
//!
//! Each method is one operation of the engine in the handle's namespace; see [`Cache`] for
//! what all of them promise.

use std::mem::ManuallyDrop;
use std::time::Duration;

use cache_core::{Cas, Destination, Host, Meta, NEVER, Result, WriteOptions};

use crate::cache::{Cache, View};
use crate::handover;

/// # Reading a key
///
/// The errors of a read are those that [`Cache`] names, and `KeyEmpty` and `KeyTooLong`.
impl Cache {
    /// The value of `key`; `None` if it is missing or has expired. One use of it, which keeps it
    /// from eviction.
    ///
    /// The bytes are those of one completed write: whoever writes at the same time, they are all
    /// old or all new. Takes no lock, and waits for nobody.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// cache.set(b"k", b"value")?;
    /// assert_eq!(cache.get(b"k")?.as_deref(), Some(&b"value"[..]));
    /// assert_eq!(cache.get(b"another")?, None);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        let at = self.scope()?;
        Ok(at.map.get(at.key(key), &mut value)?.map(|_| value))
    }

    /// As [`Cache::get`], into memory of the caller's: a `Vec`, which is cleared first, a
    /// [`crate::Buffer`], or whatever has a [`Destination`]. Describes the value as well.
    ///
    /// ```
    /// use cache_shm::{Buffer, Cache, Error};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let version = cache.set(b"k", b"value")?;
    /// let mut room = [0; 16];
    /// let meta = cache.get_into(b"k", &mut Buffer(&mut room))?.expect("it was just stored");
    /// assert_eq!((&room[..meta.value_bytes], meta.version), (&b"value"[..], version));
    /// let short = cache.get_into(b"k", &mut Buffer(&mut room[..2]));
    /// assert_eq!(short, Err(Error::BufferTooSmall { bytes: 5, bytes_given: 2 }));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read, and whatever `destination` refuses with, `BufferTooSmall` for one; its content is then
    /// undefined.
    pub fn get_into<D: Destination>(&self, key: &[u8], destination: &mut D) -> Result<Option<Meta>> {
        let at = self.scope()?;
        at.map.get(at.key(key), destination)
    }

    /// What is known of `key` without its value: its length, kind, version, expiry and client
    /// flags. Does not count as a use.
    ///
    /// # Errors
    /// Those of a read.
    pub fn meta(&self, key: &[u8]) -> Result<Option<Meta>> {
        let at = self.scope()?;
        at.map.meta(at.key(key))
    }

    /// True if `key` is there. Does not count as a use. By the time the answer is read it may
    /// have been removed; [`Cache::add`] asks and stores in one step.
    ///
    /// # Errors
    /// Those of a read.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let at = self.scope()?;
        at.map.contains(at.key(key))
    }

    /// How long `key` has left: `None` if it is missing, [`Duration::MAX`] if it never
    /// expires.
    ///
    /// # Errors
    /// Those of a read.
    pub fn ttl(&self, key: &[u8]) -> Result<Option<Duration>> {
        let at = self.scope()?;
        Ok(at.map.meta(at.key(key))?.map(|meta| match meta.expires_at_ms {
            NEVER => Duration::MAX,
            expires_at_ms => Duration::from_millis(expires_at_ms.saturating_sub(at.map.host().now_ms())),
        }))
    }

    /// The value of `key` where it lies, without a copy: it stays as it is when the key is
    /// overwritten, deleted or evicted. Where nothing can be pinned (a read-only
    /// attachment, too many views) it is a private copy.
    ///
    /// While it is held its segment is not used again: hold views for as long as they are read.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(4 << 20).create()?;
    /// cache.set(b"image", &vec![7; 500_000])?;
    /// let view = cache.view(b"image")?.expect("it was just stored");
    /// cache.delete(b"image")?;
    /// cache.close();
    /// assert_eq!((view.len(), view[0]), (500_000, 7));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a read, and `Busy` if another thread is in the middle of a `fork` for too long.
    pub fn view(&self, key: &[u8]) -> Result<Option<View>> {
        loop {
            let at = self.scope()?;
            let attachment = self.0.attachment()?;
            if !std::ptr::eq(attachment.map(), at.map) {
                // Another thread attached anew between the two.
                continue;
            }
            let attachment = self.0.share(attachment);
            let Some(pinned) = handover::pin(&attachment, at.key(key))? else { return Ok(None) };
            return Ok(Some(View { attachment: ManuallyDrop::new(attachment), pinned: ManuallyDrop::new(pinned) }));
        }
    }
}

/// # Writing a key
///
/// The errors of a write are those that [`Cache`] names: after any of them nothing has changed. Each
/// of these operations takes effect at one instant, for all processes at once.
impl Cache {
    /// Stores `value`, never to expire; returns its version.
    ///
    /// # Errors
    /// Those of a write.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<u64> {
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, &self.options())
    }

    /// Stores `value`, to expire after `ttl`; returns its version. It is never gone early, and
    /// noticed to be gone at most one tick of the clock (10 ms) late. A ttl of nothing has passed
    /// already: the key is removed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// cache.set_for(b"session", b"token", Duration::from_secs(3600))?;
    /// assert!(cache.ttl(b"session")?.is_some_and(|left| left <= Duration::from_secs(3600)));
    /// cache.touch(b"session", None)?;
    /// assert_eq!(cache.ttl(b"session")?, Some(Duration::MAX));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a write.
    pub fn set_for(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<u64> {
        let options = WriteOptions { expires_at_ms: self.expiry(ttl)?, ..self.options() };
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, &options)
    }

    /// Stores `value` as `options` say, which begin with [`Cache::options`]; returns its version.
    ///
    /// ```
    /// use cache_shm::{Cache, WriteOptions, kind};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let text = WriteOptions { kind: kind::STR, client_flags: 7, ..cache.options() };
    /// cache.set_with(b"name", "Zoë".as_bytes(), &text)?;
    /// let meta = cache.meta(b"name")?.expect("it was just stored");
    /// assert_eq!((meta.kind, meta.client_flags, meta.value_bytes), (kind::STR, 7, 4));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a write, and `LabelLength` and `TooManyTags` for its tags.
    pub fn set_with(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<u64> {
        let at = self.writing_scope()?;
        at.map.set(at.key(key), value, options)
    }

    /// Stores `value` if `key` is missing; `None` if it is there. Of any number of callers at once
    /// one stores.
    ///
    /// # Errors
    /// As [`Cache::set_with`].
    pub fn add(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let at = self.writing_scope()?;
        at.map.add(at.key(key), value, options)
    }

    /// Stores `value` if `key` is there; `None` if it is missing.
    ///
    /// # Errors
    /// As [`Cache::set_with`].
    pub fn replace(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<Option<u64>> {
        let at = self.writing_scope()?;
        at.map.replace(at.key(key), value, options)
    }

    /// Stores `value` if `key` still has `version`, which a read told: nobody changed it since.
    ///
    /// ```
    /// use cache_shm::{Cache, Cas};
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// let first = cache.set(b"config", b"a")?;
    /// let Cas::Stored(second) = cache.cas(b"config", first, b"b", &cache.options())? else { panic!("nobody else is here") };
    /// assert_eq!(cache.cas(b"config", first, b"c", &cache.options())?, Cas::Changed(second));
    /// cache.delete(b"config")?;
    /// assert_eq!(cache.cas(b"config", second, b"d", &cache.options())?, Cas::Missing);
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Cache::set_with`].
    pub fn cas(&self, key: &[u8], version: u64, value: &[u8], options: &WriteOptions) -> Result<Cas> {
        let at = self.writing_scope()?;
        at.map.cas(at.key(key), version, value, options)
    }

    /// Copies what is there into `destination` and describes it, or stores `value` (`None`), in one
    /// step.
    ///
    /// # Errors
    /// As [`Cache::get_into`] and [`Cache::set_with`].
    pub fn get_or_add<D: Destination>(
        &self,
        key: &[u8],
        value: &[u8],
        options: &WriteOptions,
        destination: &mut D,
    ) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.get_or_add(at.key(key), value, options, destination)
    }

    /// Removes `key`; true if it was there.
    ///
    /// # Errors
    /// Those of a write.
    pub fn delete(&self, key: &[u8]) -> Result<bool> {
        let at = self.writing_scope()?;
        at.map.delete(at.key(key), self.timeout_ns())
    }

    /// Removes `key` and copies its value into `destination`, in one step: of any number of callers
    /// at once one gets it.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// cache.set(b"ticket", b"seat 7")?;
    /// let mut ticket = Vec::new();
    /// assert!(cache.take(b"ticket", &mut ticket)?.is_some());
    /// assert_eq!(ticket, b"seat 7");
    /// assert!(cache.take(b"ticket", &mut ticket)?.is_none());
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a write, and what `destination` refuses with; the key is still there then.
    pub fn take<D: Destination>(&self, key: &[u8], destination: &mut D) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.take(at.key(key), self.timeout_ns(), destination)
    }

    /// Removes any one key of the namespace and copies key and value; `None` if there is none.
    ///
    /// # Errors
    /// As [`Cache::take`].
    pub fn take_any<D: Destination>(&self, key: &mut Vec<u8>, destination: &mut D) -> Result<Option<Meta>> {
        let at = self.writing_scope()?;
        at.map.take_any(at.namespace, self.timeout_ns(), key, destination)
    }

    /// Adds `delta` to the integer at `key` and returns the sum. A missing key counts as
    /// `initial`, or gives `None` without one. The expiry of an existing key stays. Works on
    /// values of [`crate::kind::INT`], and on canonical decimal text, which stays text.
    ///
    /// ```
    /// # use cache_shm::Cache;
    /// # let cache = Cache::builder(None).size(1 << 20).create()?;
    /// assert_eq!(cache.incr(b"hits", 1, None)?, None);
    /// assert_eq!(cache.incr(b"hits", 1, Some(0))?, Some(1));
    /// assert_eq!(cache.incr(b"hits", -3, Some(0))?, Some(-2));
    /// # Ok::<(), cache_shm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of a write, and `NotInteger` and `Overflow`.
    pub fn incr(&self, key: &[u8], delta: i64, initial: Option<i64>) -> Result<Option<i64>> {
        let at = self.writing_scope()?;
        at.map.incr(at.key(key), delta, initial, &self.options())
    }

    /// As [`Cache::incr`], with options for a key that it makes.
    ///
    /// # Errors
    /// As [`Cache::incr`] and [`Cache::set_with`].
    pub fn incr_with(
        &self,
        key: &[u8],
        delta: i64,
        initial: Option<i64>,
        options: &WriteOptions,
    ) -> Result<Option<i64>> {
        let at = self.writing_scope()?;
        at.map.incr(at.key(key), delta, initial, options)
    }

    /// Appends to the value of `key` and returns its new length; `None` if it is missing. Its kind,
    /// flags, tags and expiry stay, but that an integer becomes its decimal text first.
    ///
    /// # Errors
    /// Those of a write, and `NotAppendable` if it is neither bytes nor text, or if text would be UTF-8 no longer.
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<usize>> {
        let at = self.writing_scope()?;
        at.map.append(at.key(key), bytes, None, &self.options())
    }

    /// Lets `key` expire after `ttl` from now, or never (`None`); false if it is missing. A ttl of
    /// nothing removes it. A value of up to 16 KiB gets another version by it.
    ///
    /// # Errors
    /// Those of a write.
    pub fn touch(&self, key: &[u8], ttl: Option<Duration>) -> Result<bool> {
        let expires_at_ms = ttl.map_or(Ok(NEVER), |ttl| self.expiry(ttl))?;
        let at = self.writing_scope()?;
        at.map.touch(at.key(key), expires_at_ms, self.timeout_ns())
    }
}
