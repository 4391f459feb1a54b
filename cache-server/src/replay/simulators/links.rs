//! Queues from whose middle objects are taken: doubly linked lists over object numbers.

use super::slot;

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    newer: Option<u32>,
    older: Option<u32>,
    weight: u64,
}

/// The links of all objects. An object is in one [`Queue`] of a table at most.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// What was put into the queue just after `object`.
    pub(super) fn newer(&self, object: u32) -> Option<u32> {
        self.0[object as usize].newer
    }

    pub(super) fn weight(&self, object: u32) -> u64 {
        self.0[object as usize].weight
    }
}

/// A queue, with the weight of what is in it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    newest: Option<u32>,
    oldest: Option<u32>,
    pub(super) weight: u64,
}

impl Queue {
    pub(super) fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest.is_none()
    }

    /// Puts an object that is in no queue to the new end of this one.
    pub(super) fn push(&mut self, links: &mut Links, object: u32, weight: u64) {
        *slot(&mut links.0, object) = Link { newer: None, older: self.newest, weight };
        match self.newest {
            Some(before) => links.0[before as usize].newer = Some(object),
            None => self.oldest = Some(object),
        }
        self.newest = Some(object);
        self.weight += weight;
    }

    /// Takes an object out of this queue, in which it is; says what it weighs.
    pub(super) fn remove(&mut self, links: &mut Links, object: u32) -> u64 {
        let Link { newer, older, weight } = links.0[object as usize];
        match newer {
            Some(newer) => links.0[newer as usize].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => links.0[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        self.weight -= weight;
        weight
    }

    /// The objects, newest first.
    #[cfg(test)]
    pub(super) fn objects(&self, links: &Links) -> Vec<u32> {
        std::iter::successors(self.newest, |&object| links.0[object as usize].older).collect()
    }
}
