//! Inputs and outputs of a command, declared before it works.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::directory::NewDirectory;
use crate::error::{OutputError, OutputRule};
use crate::file::FileOutput;
use crate::identity::{FileIdentity, resolved};
use crate::line_stream::StreamOutput;
use crate::standard;
use crate::target::Target;

/// Inputs and outputs of a command: inputs are declared first, then outputs, each of which is checked against all that
/// was declared before, and tried.
#[derive(Debug, Default)]
pub struct Outputs {
    inputs: HashMap<FileIdentity, String>,
    outputs: HashMap<FileIdentity, String>,
    /// Directories that files of these names are to appear in.
    reserved: Vec<(PathBuf, &'static [&'static str], String)>,
}

impl Outputs {
    /// Nothing yet.
    pub fn new() -> Self {
        Outputs::default()
    }

    /// Declares a file that is read, in words that an error can end with; one that can't be read has an error of its own.
    /// `-` is stdin.
    pub fn reads(&mut self, what: impl Into<String>, path: &Path) {
        let identity = match standard::input() {
            Some(file) if path == Path::new("-") => file_identity(path, &file),
            _ => FileIdentity::of(path).ok(),
        };
        if let Some(identity) = identity {
            self.inputs.entry(identity).or_insert_with(|| what.into());
        }
    }

    /// Declares that the process prints, where its streams go to files.
    ///
    /// # Errors
    ///
    /// A stream goes to a file that is an input.
    pub fn prints(&mut self) -> Result<(), OutputError> {
        for (name, file) in standard::redirected() {
            let Some(identity) = file_identity(Path::new(name), &file) else {
                continue;
            };
            if let Some(input) = self.inputs.get(&identity) {
                let input = input.clone();
                return Err(OutputError::new(
                    name,
                    Path::new(""),
                    OutputRule::IsInput { input },
                ));
            }
            // Both streams may go to one file.
            self.outputs
                .entry(identity)
                .or_insert_with(|| name.to_owned());
        }
        Ok(())
    }

    /// Declares a file that is written as a whole.
    ///
    /// # Errors
    ///
    /// It is an input or another output, or can't be written.
    pub fn file(&mut self, name: &str, path: &Path) -> Result<FileOutput, OutputError> {
        let target = self.target(name, path)?;
        target
            .try_file()
            .map_err(|error| OutputError::new(name, path, error.into()))?;
        Ok(FileOutput::new(name, path, target))
    }

    /// Declares a file that lines are added to.
    ///
    /// # Errors
    ///
    /// It is an input or another output, or can't be written.
    pub fn stream(&mut self, name: &str, path: &Path) -> Result<StreamOutput, OutputError> {
        let target = self.target(name, path)?;
        target
            .try_adding()
            .map_err(|error| OutputError::new(name, path, error.into()))?;
        Ok(StreamOutput::new(name, path, target))
    }

    /// Declares a directory that files of these names are to appear in, none of which may be there.
    ///
    /// # Errors
    ///
    /// It is an input or another output, one of the files is there, or it can't be written.
    pub fn directory(
        &mut self,
        name: &str,
        path: &Path,
        files: &'static [&'static str],
    ) -> Result<(), OutputError> {
        let failed = |rule| OutputError::new(name, path, rule);
        let identity = FileIdentity::of(path).or_else(|_| resolved(path).map(FileIdentity::Place));
        if let Ok(identity) = identity {
            self.check(&identity).map_err(failed)?;
            self.outputs.insert(identity, name.to_owned());
        }
        NewDirectory::check(path, files).map_err(failed)?;
        if let Ok(directory) = path.canonicalize() {
            for &file in files {
                if let Ok(identity) = FileIdentity::of(&directory.join(file)) {
                    self.check(&identity).map_err(failed)?;
                }
            }
            self.reserved.push((directory, files, name.to_owned()));
        }
        Ok(())
    }

    fn check(&self, identity: &FileIdentity) -> Result<(), OutputRule> {
        if let Some(input) = self.inputs.get(identity) {
            let input = input.clone();
            return Err(OutputRule::IsInput { input });
        }
        let reserved = self.reserved.iter().find(|(directory, files, _)| {
            files
                .iter()
                .any(|file| FileIdentity::Place(directory.join(file)) == *identity)
        });
        let other = self.outputs.get(identity);
        match other.or(reserved.map(|(_, _, name)| name)) {
            Some(other) => Err(OutputRule::IsOutput {
                other: other.clone(),
            }),
            None => Ok(()),
        }
    }

    fn target(&mut self, name: &str, path: &Path) -> Result<Target, OutputError> {
        let failed = |rule| OutputError::new(name, path, rule);
        let target = Target::of(path).map_err(failed)?;
        // Devices and pipes lose nothing.
        if let Target::File { place, .. } = &target {
            let identity = FileIdentity::of(place).map_err(|error| failed(error.into()))?;
            self.check(&identity).map_err(failed)?;
            self.outputs.insert(identity, name.to_owned());
        }
        Ok(target)
    }
}

/// Of an open file; none of what is no file.
fn file_identity(path: &Path, file: &File) -> Option<FileIdentity> {
    let metadata = file.metadata().ok()?;
    let identity = || FileIdentity::of_metadata(path, &metadata).ok();
    metadata.is_file().then(identity)?
}
