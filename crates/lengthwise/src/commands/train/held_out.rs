//! The batches that a run is validated on.

use lengthwise_data::{Batches, TokenBatch};
use lengthwise_train::Validation;

use crate::failure::Failure;
use crate::settings::ValidationSettings;

/// Reads the held-out batches: one epoch, or as many of its sequences as `data.validation_tokens` has room for, the first
/// in any case.
pub fn read(settings: &ValidationSettings, batches: Batches) -> Result<Validation, Failure> {
    let mut left = settings.tokens.map_or(u64::MAX, |tokens| tokens.0);
    let mut held_out: Vec<TokenBatch> = Vec::new();
    for batch in batches {
        let mut batch = batch.map_err(|error| settings.paths.breaks(&error))?;
        let num_sequences = batch.sequences.len();
        let fitting = batch.sequences.iter().take_while(|sequence| {
            let fits = sequence.seq_len().0 <= left;
            left = left.saturating_sub(sequence.seq_len().0);
            fits
        });
        let num_fitting = fitting.count();
        let least = usize::from(held_out.is_empty());
        batch.sequences.truncate(num_fitting.max(least));
        if !batch.sequences.is_empty() {
            held_out.push(batch);
        }
        if num_fitting < num_sequences {
            break;
        }
    }
    let validation = Validation {
        batches: held_out.into(),
        every: settings.every,
    };
    settings.paths.must(
        validation.num_labels() > 0,
        "no token of it is trained on, so that it has no loss",
        "name files with answers",
    )?;
    Ok(validation)
}
