//! skeleton
pub mod error;
pub mod host;
pub mod layout;
pub mod lock;
pub mod sync;
pub mod types;
pub use error::{Error, Result};
pub use layout::*;
pub use types::*;
