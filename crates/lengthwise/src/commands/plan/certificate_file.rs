//! Where the certificate of a plan is written.

use std::path::Path;

use lengthwise_outputs::{FileOutput, NotSaved, Outputs, Saved};
use lengthwise_plan::Planned;

use crate::failure::Failure;
use crate::quantity::seconds;
use crate::saved::check_saved;

/// The file that a certificate goes to, whole or not at all.
#[derive(Debug)]
pub(super) struct CertificateFile {
    output: FileOutput,
}

impl CertificateFile {
    /// A file that can be written and that no other argument names.
    pub(super) fn new(path: &Path, outputs: &mut Outputs) -> Result<Self, Failure> {
        Ok(CertificateFile {
            output: outputs.file("--certificate", path)?,
        })
    }

    /// Writes the certificate of a plan; returns what to say about it.
    pub(super) fn write(self, planned: &Planned) -> Result<Written, Failure> {
        let path = self.output.path().to_owned();
        let path = path.display();
        let Some(certificate) = planned.certificate() else {
            return Err(Failure::run("the planner keeps no proof of its bound"));
        };
        let json = certificate.to_json();
        let json = json
            .map_err(|error| Failure::run(format!("{path} can't be written as JSON: {error}")))?;
        let saved = self.output.write(json.as_bytes());
        let (proven, reported) = (certificate.bound_s, planned.report.lower_bound.get());
        let is_weaker = proven < reported * (1.0 - lengthwise_certificate::TOLERANCE);
        let note = if is_weaker {
            format!(
                "certificate {path} proves {} only: the plan was found to be best by trying all, which no file can show",
                seconds(proven)
            )
        } else {
            format!("certificate {path}; lengthwise verify {path} checks it")
        };
        Ok(Written { note, saved })
    }
}

/// What to say about a certificate, and whether it is where it was to be.
pub(super) struct Written {
    note: String,
    saved: Result<Saved, NotSaved>,
}

impl Written {
    /// What to say about it, unless it is not there.
    pub(super) fn note(self) -> Result<String, Failure> {
        check_saved("the certificate", &self.saved).map(|()| self.note)
    }
}
