//! Who may use the server, and what for.
//!
//! Owns: passwords, and the two users there are: `default`, who may do everything, and
//! `reader`, who may only read. A password is compared in a time that does not tell how much
//! of it was right.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cache_shm::read_secret;

use crate::failure::{Failure, Result};

/// A user's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Default,
    /// May do what changes nothing.
    Reader,
}

impl User {
    /// The name in `AUTH` and in refusals.
    pub fn name(self) -> &'static str {
        match self {
            User::Default => "default",
            User::Reader => "reader",
        }
    }
}

/// The passwords.
#[derive(Default, Clone)]
pub struct Users {
    password: Option<Vec<u8>>,
    reader_password: Option<Vec<u8>>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the passwords.
        f.debug_struct("Users")
            .field("password", &self.password.is_some())
            .field("reader_password", &self.reader_password.is_some())
            .finish()
    }
}

impl Users {
    /// Reads the passwords from their files, which nobody else may be able to change.
    ///
    /// # Errors
    /// A file that is missing, empty, or somebody else's.
    pub fn read(password_file: Option<&Path>, reader_password_file: Option<&Path>) -> Result<Users> {
        let read = |path: Option<&Path>| path.map(secret).transpose();
        Ok(Users { password: read(password_file)?, reader_password: read(reader_password_file)? })
    }

    /// The user that a connection is before it says anything: nobody if there is a password.
    pub fn unnamed(&self) -> Option<User> {
        self.password.is_none().then_some(User::Default)
    }

    /// There is a password.
    pub fn is_closed(&self) -> bool {
        self.password.is_some()
    }

    /// The user of that name and password. Without a password every one is right, as in Redis.
    pub fn check(&self, name: &[u8], password: &[u8]) -> Option<User> {
        match name {
            b"default" => {
                self.password.as_deref().is_none_or(|right| is_same(right, password)).then_some(User::Default)
            }
            b"reader" => {
                self.reader_password.as_deref().is_some_and(|right| is_same(right, password)).then_some(User::Reader)
            }
            _ => None,
        }
    }
}

/// The secret in a file, which nobody else may read or change.
///
/// # Errors
/// The file is missing, empty, or open to others.
pub fn secret(path: &Path) -> Result<Vec<u8>> {
    let refused = |error: std::io::Error| Failure::file("read the secret in", path, &error);
    let metadata = std::fs::metadata(path).map_err(refused)?;
    // A group may share it, as services that are given a secret do.
    if metadata.mode() & 0o004 != 0 {
        let shown = path.display();
        return Err(Failure::usage(format!("everybody may read the secret in {shown}; chmod it to 600 or 640")));
    }
    Ok(read_secret(path)?)
}

/// Compares without stopping at the first difference; only the lengths are told.
pub fn is_same(right: &[u8], given: &[u8]) -> bool {
    let differing = right.iter().zip(given).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    right.len() == given.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_who_knows_the_password() {
        let users = Users { password: Some(b"s3cret".to_vec()), reader_password: Some(b"look".to_vec()) };
        assert_eq!(users.unnamed(), None);
        assert_eq!(users.check(b"default", b"s3cret"), Some(User::Default));
        assert_eq!(users.check(b"reader", b"look"), Some(User::Reader));
        for (name, password) in [
            (&b"default"[..], &b"s3cre"[..]),
            (b"default", b"s3cret "),
            (b"default", b""),
            (b"reader", b"s3cret"),
            (b"admin", b"s3cret"),
        ] {
            assert_eq!(users.check(name, password), None);
        }
        assert!(!format!("{users:?}").contains("s3cret"));
        let open = Users::default();
        assert_eq!((open.unnamed(), open.check(b"default", b"x")), (Some(User::Default), Some(User::Default)));
        assert_eq!(open.check(b"reader", b""), None);
    }
}
