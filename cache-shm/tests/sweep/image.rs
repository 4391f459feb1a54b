//! Regions as bytes: a directory of their own, files with given bytes, what is in them.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_shm::{Cache, Cursor, Mode};

/// Bytes of the regions of the sweep: the smallest, because each image is all of it.
pub const REGION_BYTES: u64 = 1 << 20;
/// Longest wait of a write.
pub const TIMEOUT: Duration = Duration::from_millis(200);
/// The same of a process that is stepped, in which time goes by ten thousand times as fast.
pub const TIMEOUT_STEPPED: Duration = Duration::from_secs(600);

#[path = "../common/dir.rs"]
mod dir;
pub use dir::Dir;

impl Dir {
    /// A new region file `name` with these bytes, in place of an older one.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        // A new file: one that is still mapped keeps its bytes.
        let _ = std::fs::remove_file(&path);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a region file");
        std::io::Write::write_all(&mut file, bytes).expect("room in /dev/shm");
        path
    }

    pub fn take(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).expect("the region's file")
    }

    pub fn open(&self, name: &str) -> Result<Cache, String> {
        attach(self.path(), name, TIMEOUT)
    }

    /// An empty region.
    pub fn empty(&self, mode: Mode) -> Vec<u8> {
        let builder = Cache::builder(Some("empty")).dir(self.path()).size(REGION_BYTES).mode(mode);
        drop(builder.create().expect("a region"));
        let bytes = self.take("empty");
        std::fs::remove_file(self.path().join("empty")).expect("the region's file");
        bytes
    }
}

pub fn attach(dir: &Path, name: &str, timeout: Duration) -> Result<Cache, String> {
    Cache::builder(Some(name)).dir(dir).timeout(timeout).open().map_err(|error| format!("attach: {error}"))
}

/// Every key of the default namespace with its value, without a trace in the region.
pub fn contents(cache: &Cache) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let map = cache.map().map_err(|error| error.to_string())?;
    let mut keys = Vec::new();
    let mut cursor = Cursor::START;
    while let Some(next) =
        cache.scan(cursor, &mut |key, _| keys.push(key.to_vec())).map_err(|error| error.to_string())?
    {
        cursor = next;
    }
    let mut contents = BTreeMap::new();
    for key in keys {
        let mut value = Vec::new();
        if map.peek(&key, &mut value).map_err(|error| error.to_string())?.is_some()
            && contents.insert(key.clone(), value).is_some()
        {
            return Err(format!("{} is there twice", String::from_utf8_lossy(&key)));
        }
    }
    Ok(contents)
}
