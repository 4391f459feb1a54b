//! LMDB through heed: in memory-backed files, without syncs, a transaction for each
//! operation, because a cache's get must see the last set.

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use tempfile::TempDir;

use super::Room;
use crate::subjects::{Session, Subject};

/// An environment of its own with one database.
pub struct Lmdb {
    environment: Env,
    database: Database<Bytes, Bytes>,
    /// Removes the files when it is dropped, after the environment.
    _directory: TempDir,
}

impl Lmdb {
    /// A database with that much room.
    pub fn new(room: Room) -> Lmdb {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory for LMDB's files can be made");
        let mut options = EnvOpenOptions::new();
        options.map_size((room.bytes * 4).next_multiple_of(1 << 20).max(64 << 20) as usize);
        // SAFETY: the directory was made above and has a name that nobody else knows, so the
        // files are not changed behind LMDB's back and not opened twice; without syncs
        // they may be lost with the host, as a cache may.
        let environment = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP);
            options.open(directory.path()).expect("LMDB opens new files")
        };
        let mut transaction = environment.write_txn().expect("nobody else writes");
        let database = environment.create_database(&mut transaction, None).expect("the main database exists");
        transaction.commit().expect("there is room for an empty database");
        Lmdb { environment, database, _directory: directory }
    }
}

impl Subject for Lmdb {
    type Session<'a> = &'a Lmdb;

    fn session(&self) -> &Lmdb {
        self
    }
}

impl Session for &Lmdb {
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        let transaction = self.environment.read_txn().expect("there are reader slots");
        let value = self.database.get(&transaction, key).expect("keys of a benchmark fit")?;
        out[..value.len()].copy_from_slice(value);
        Some(value.len())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let mut transaction = self.environment.write_txn().expect("a writer waits for the other");
        self.database.put(&mut transaction, key, value).expect("the database has room");
        transaction.commit().expect("the database has room");
    }
}
