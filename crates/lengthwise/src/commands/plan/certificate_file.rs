//! Where the certificate of a plan is written.

use std::fs;
use std::path::{Path, PathBuf};

use lengthwise_plan::Planned;

use crate::failure::Failure;
use crate::quantity::seconds;

/// A file that a certificate goes to, whole or not at all.
#[derive(Debug)]
pub(super) struct CertificateFile {
    path: PathBuf,
}

impl CertificateFile {
    /// A file that can be there.
    pub(super) fn new(path: PathBuf) -> Result<Self, Failure> {
        let file = CertificateFile { path };
        if file.path.is_dir() {
            return Err(file.bad("it is a directory; a certificate is a file"));
        }
        match file.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() && !directory.is_dir() => {
                let hint = format!("create {} first", directory.display());
                Err(file.bad("its directory does not exist").hint(hint))
            }
            _ => Ok(file),
        }
    }

    /// Refuses to write over what another argument reads.
    pub(super) fn check_differs(&self, argument: &str, input: &Path) -> Result<(), Failure> {
        let is_same = match (self.path.canonicalize(), input.canonicalize()) {
            (Ok(output), Ok(input)) => output == input,
            _ => false,
        };
        if is_same {
            return Err(self.bad(&format!("it is the file of --{argument}")));
        }
        Ok(())
    }

    fn bad(&self, rule: &str) -> Failure {
        Failure::input(format!("--certificate {}: {rule}", self.path.display()))
    }

    /// Writes the certificate of a plan; returns what to say about it.
    pub(super) fn write(&self, planned: &Planned) -> Result<String, Failure> {
        let path = self.path.display();
        let Some(certificate) = planned.certificate() else {
            return Err(Failure::run("the planner keeps no proof of its bound"));
        };
        let json = certificate.to_json();
        let json = json
            .map_err(|error| Failure::run(format!("{path} can't be written as JSON: {error}")))?;
        let mut part = self.path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let written = fs::write(&part, json).and_then(|()| fs::rename(&part, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&part);
            Failure::run(format!("{path} can't be written: {error}"))
        })?;
        let (proven, reported) = (certificate.bound_s, planned.report.lower_bound.get());
        let is_weaker = proven < reported * (1.0 - lengthwise_certificate::TOLERANCE);
        Ok(if is_weaker {
            format!(
                "certificate {path} proves {} only: the plan was found to be best by trying all, which no file can show",
                seconds(proven)
            )
        } else {
            format!("certificate {path}; lengthwise verify {path} checks it")
        })
    }
}
