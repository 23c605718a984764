//! Whether the longest sequence of the corpus can be planned, before anything is measured or written.

use lengthwise_core::words::counted;
use lengthwise_data::Batches;
use lengthwise_plan::{MemoryLimit, PlanError, Planner};
use lengthwise_train::{TrainError, check_longest};

use crate::failure::Failure;
use crate::settings::TrainSettings;

/// Refuses a corpus of which some sequence can't be planned, and names its document.
pub fn check(
    settings: &TrainSettings,
    batches: &Batches,
    planner: &dyn Planner,
) -> Result<(), Failure> {
    let excerpt = batches.longest();
    match check_longest(&settings.options, planner, excerpt.seq_len()) {
        Ok(()) => Ok(()),
        Err(TrainError::SequenceTooLong {
            seq_len,
            longest,
            source,
        }) => {
            let document = usize::try_from(excerpt.document).unwrap_or(usize::MAX);
            let place = batches.documents().place(document).unwrap_or_default();
            let message = format!(
                "{place}: a sequence of {} can't be planned: {source}",
                counted(seq_len.0, "token")
            );
            let lacking = match source {
                PlanError::DoesNotFit {
                    limit: MemoryLimit::Hosts,
                    ..
                } => "give hosts more memory",
                _ => "give devices more memory",
            };
            Err(Failure::input(message).hint(match longest {
                Some(longest) => format!(
                    "with --context {longest} or less, longer documents are cut or skipped, as data.overlong says; or {lacking}"
                ),
                None => source.hint().unwrap_or_else(|| lacking.to_owned()),
            }))
        }
        Err(error) => Err(Failure::input(error.to_string())),
    }
}
