//! The rules that the `// SAFETY:` comments of this crate cite, beside R1 to R7 of
//! `cache-core`. Documentation only.
//!
//! - **Y1, attached.** A `Python` token, or a `Bound` that has one, proves that this
//!   thread is attached to the interpreter, so that its C functions may be called.
//! - **Y2, alive.** A `Bound` or `Borrowed` holds a reference; its object, and the bytes
//!   inside an immutable object, live and stay where they are as long as it does.
//! - **Y3, of that type.** The exact type was checked before a function or a field of
//!   that type is used.
//! - **Y4, unseen.** An object that was just made, and that no other code has a reference
//!   to, may be filled through its bytes; nobody reads it before it is whole.
//! - **Y5, owned.** A function that returns a new reference gives it to us: it is put into
//!   a `Bound` or given back exactly once. A null result is an error that is set.
//! - **Y6, lent.** The bytes behind a `Py_buffer` stay where they are from the call that
//!   filled it in until it is released: it holds a reference to the object that lends them.
