//! Ids of files that are no longer what they were.

use std::fs;
use std::path::Path;

use super::shard::Shard;
use crate::token_files::{TokensAbout, with_ending};
use crate::whole_file;

/// The endings of a set's files; the one that says that all are there comes first.
const ENDINGS: [&str; 5] = ["json", "bin", "idx", "mask", "rows"];

/// Removes the sets of a cache that were made of earlier states of a shard's files: nothing finds them any more. How many bytes
/// that sets free. Runs that have them open read on; what can't be removed is left.
pub(crate) fn remove(directory: &Path, shard: &Shard) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let abouts = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let stale = abouts.filter(|path| about(path).is_some_and(|about| is_stale(&about, shard)));
    stale.map(|path| remove_set(&path.with_extension(""))).sum()
}

fn about(path: &Path) -> Option<TokensAbout> {
    let bytes = whole_file::read(path).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether one of a set's files is in the shard, and another now than it was.
fn is_stale(about: &TokensAbout, shard: &Shard) -> bool {
    about.sources.iter().any(|before| {
        let now = shard.sources.iter().find(|now| now.path == before.path);
        now.is_some_and(|now| !now.is_same(before))
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "what a cache holds is its own, and no output of this run"
)]
fn remove_set(prefix: &Path) -> u64 {
    let removed = ENDINGS.iter().map(|ending| {
        let path = with_ending(prefix, ending);
        let num_bytes = path.metadata().map_or(0, |metadata| metadata.len());
        fs::remove_file(&path).map_or(0, |()| num_bytes)
    });
    removed.sum()
}
