//! Ids that were made once, kept in files for the runs that come after.
//!
//! ```text
//! source    what files hold, and how it becomes ids
//! shard     files whose ids are kept together, and the name they are kept under
//! encoding  records -> ids on all cores, in the order of the files
//! cache     what is there already, and what has to be made
//! check     whether what was kept is still what was written
//! stale     what was kept of files that have changed since
//! ```

mod cache;
mod check;
mod encoding;
mod shard;
mod source;
mod stale;

pub use cache::{Cached, TokenCache};
pub use check::BackgroundCheck;
pub(crate) use check::HashedFiles;
pub use encoding::EncodingProgress;
pub use source::{DocumentSource, Records, Skipped};
