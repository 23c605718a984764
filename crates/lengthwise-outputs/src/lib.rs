//! Every file that Lengthwise writes: declared first, whole or not there, never over what is read.
//!
//! ```text
//! Outputs         what a command reads and what it is to write, declared before it works: no output is an input or
//!                 another output, and each is tried without being emptied
//!   FileOutput    a file that is written beside its place, synced and renamed: whole or not there
//!   LineStream    a file that lines are added to while a run goes on, by one run at a time
//!   NewDirectory  files that appear in a directory together and never replace any
//!   DirectorySeries  directories that appear in another one after another, each whole or not there
//! standard        stdout and stderr
//! faults          full disks, short writes and broken devices, for tests
//! ```
//!
//! An output that can't be written to its place is written to another, which [`Saved`] names; [`NotSaved`] is the error
//! if no place takes it.
//!
//! ```
//! use lengthwise_outputs::Outputs;
//!
//! let folder = tempfile::tempdir()?;
//! let (settings, profile) = (folder.path().join("run.toml"), folder.path().join("costs.toml"));
//! std::fs::write(&settings, "[model]")?;
//!
//! let mut outputs = Outputs::new();
//! outputs.reads("the settings file", &settings);
//! assert!(outputs.file("--output", &settings).is_err());
//! let output = outputs.file("--output", &profile)?;
//! assert!(!profile.exists());
//! output.write(b"name = \"costs\"")?;
//! assert!(profile.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this is the crate that opens files for writing"
)]

mod claim;
mod declared;
mod directory;
mod elsewhere;
mod error;
mod faults;
mod file;
mod identity;
mod line_stream;
mod lock;
mod part;
mod series;
mod sink;
pub mod standard;
mod target;

pub use declared::Outputs;
pub use directory::{NewDirectory, make_directory};
pub use error::{NotSaved, OutputError, OutputRule, Saved};
pub use file::{FileOutput, OpenFile};
pub use identity::FileIdentity;
pub use line_stream::{LineStream, StreamOutput};
pub use part::remove_unfinished;
pub use series::{DirectoryFile, DirectorySeries, WholeDirectory};

#[cfg(feature = "faults")]
#[doc(hidden)]
pub use faults::inject_faults;
