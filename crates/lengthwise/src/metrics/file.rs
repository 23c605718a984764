//! The file that steps are added to, each as soon as it has ended.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use lengthwise_outputs::{LineStream, NotSaved, OutputError, Saved, StreamOutput};

use super::StepMetrics;

/// What of the end of a file is looked at.
const END_BYTES: u64 = 64 << 20;

/// How many lines may be torn at the end of a file that holds steps.
const MOST_TORN: usize = 8;

/// A file of steps that a run is adding to. Every run has a name of its own in it.
#[derive(Debug)]
pub struct MetricsFile {
    stream: LineStream,
    run: String,
}

impl MetricsFile {
    /// The last step that a file holds; 0 of an empty one or none.
    ///
    /// # Errors
    ///
    /// It can't be read, or holds something else than steps.
    pub fn last_step(path: &Path) -> io::Result<u64> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {
                let end = read_end(path, metadata.len())?;
                last_step(&end).ok_or_else(|| {
                    let message = "it holds something else than steps of a training";
                    io::Error::new(io::ErrorKind::InvalidData, message)
                })
            }
            _ => Ok(0),
        }
    }

    /// Opens a file for the steps of a run of this name.
    ///
    /// # Errors
    ///
    /// It can't be written any more, or another run is writing to it.
    pub fn open(output: StreamOutput, run: String) -> Result<Self, OutputError> {
        Ok(MetricsFile {
            stream: output.open()?,
            run,
        })
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        self.stream.path()
    }

    /// What to say if nothing keeps two runs from writing to it at once.
    pub fn unlocked(&self) -> Option<String> {
        self.stream.unlocked()
    }

    /// Adds a step. One that can't be written is kept until it can; only the first such step is an error.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&mut self, mut step: StepMetrics) -> io::Result<()> {
        step.run = Some(self.run.clone());
        let line = serde_json::to_string(&step)?;
        self.stream.write_line(&line)
    }

    /// How many steps could not be written yet.
    pub fn num_kept(&self) -> u64 {
        self.stream.num_kept()
    }

    /// Ends it; steps that it does not take in the end go to another file.
    ///
    /// # Errors
    ///
    /// No file takes them.
    pub fn finish(self) -> Result<Saved, NotSaved> {
        self.stream.finish()
    }
}

fn read_end(path: &Path, len: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(len.saturating_sub(END_BYTES)))?;
    let mut end = Vec::new();
    file.take(END_BYTES).read_to_end(&mut end)?;
    Ok(end)
}

/// The number of the last step; none where there is something else. Runs that were killed leave torn lines.
fn last_step(text: &[u8]) -> Option<u64> {
    let lines = text.rsplit(|&byte| byte == b'\n');
    let mut lines = lines
        .filter(|line| !line.trim_ascii().is_empty())
        .peekable();
    if lines.peek().is_none() {
        return Some(0);
    }
    let mut may_be_torn = true;
    for line in lines.take(MOST_TORN) {
        match serde_json::from_slice::<StepMetrics>(line) {
            Ok(step) => return Some(step.step),
            Err(error) => {
                let is_cut = error.is_eof() && line.starts_with(b"{\"version\":");
                may_be_torn &= is_cut || line[0] == 0;
            }
        }
    }
    may_be_torn.then_some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_on_from_their_last_whole_step() {
        let step = |step| {
            let metrics = StepMetrics {
                version: Some(1),
                step,
                ..StepMetrics::default()
            };
            serde_json::to_string(&metrics).unwrap()
        };
        let (one, two) = (step(1), step(2));
        for (text, expected) in [
            (String::new(), Some(0)),
            ("\n\n".to_owned(), Some(0)),
            (one.clone(), Some(1)),
            (format!("{one}\n{two}\n\n"), Some(2)),
            (format!("{one}\n{}", &two[..20]), Some(1)),
            (format!("{one}\n{}\n{}", &two[..20], &two[..30]), Some(1)),
            (one[..20].to_owned(), Some(0)),
            ("[model]\nhidden = 16\n".to_owned(), None),
            ("some text".to_owned(), None),
            ("{\"version\":1,\"planner\":\"adaptive\"}".to_owned(), None),
            ("{\"text\": \"a document\"}\n".to_owned(), None),
        ] {
            assert_eq!(last_step(text.as_bytes()), expected, "{text}");
        }
    }
}
