//! Databases of the Redis protocol, which are namespaces of the region.
//!
//! 0 is the namespace that the server was started on, the region's default one unless told
//! otherwise; N is `dbN`. A namespace is made when its database is selected first.

use std::sync::OnceLock;

use cache_shm::Cache;

use super::resp::reply::Refusal;

/// All of them.
pub struct Databases {
    first: Cache,
    others: Vec<OnceLock<Cache>>,
}

impl Databases {
    /// So many databases, of which `first` is number 0.
    pub fn new(first: Cache, count: usize) -> Databases {
        Databases { first, others: (1..count).map(|_| OnceLock::new()).collect() }
    }

    /// Number 0.
    pub fn first(&self) -> Cache {
        self.first.clone()
    }

    /// The database of a number.
    ///
    /// # Errors
    /// There is none, or the region has no room for another namespace.
    pub fn get(&self, number: i64) -> Result<Cache, Refusal> {
        if number == 0 {
            return Ok(self.first());
        }
        let cell = usize::try_from(number - 1).ok().and_then(|index| self.others.get(index));
        let cell = cell.ok_or(Refusal::fixed("ERR DB index is out of range"))?;
        if let Some(database) = cell.get() {
            return Ok(database.clone());
        }
        let database = self.first.namespace(format!("db{number}").as_bytes())?;
        Ok(cell.get_or_init(|| database).clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.others.len() + 1
    }

    /// Those that somebody has selected, with their numbers.
    pub fn open(&self) -> impl Iterator<Item = (usize, &Cache)> {
        let others = self.others.iter().enumerate();
        std::iter::once((0, &self.first)).chain(others.filter_map(|(index, cell)| Some((index + 1, cell.get()?))))
    }
}
