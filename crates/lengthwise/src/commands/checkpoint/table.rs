//! A checkpoint, in a few lines.

use lengthwise_train::ModelSpec;
use lengthwise_train::checkpoint::Checkpoint;

use crate::quantity::{bytes, counted, seconds};

/// What a checkpoint holds.
pub fn lines(checkpoint: &Checkpoint) -> Vec<String> {
    let (record, model) = (checkpoint.record(), checkpoint.model());
    let data = &record.data;
    let num_parameters = ModelSpec::new(model).num_parameters();
    let batch = match (data.batch_tokens, data.batch_sequences) {
        (Some(tokens), _) => counted(tokens, "token"),
        (None, Some(sequences)) => counted(sequences, "sequence"),
        (None, None) => "unknown size".to_owned(),
    };
    let costs = match &record.costs {
        Some(costs) if costs.factors.is_some() => "measured, and refined by steps",
        Some(_) => "measured",
        None => "none",
    };
    vec![
        format!(
            "{}: whole, {} of {}",
            checkpoint.directory().display(),
            bytes(record.num_bytes()),
            counted(record.files.len() as u64 + 1, "file")
        ),
        format!("step       {} of {}", record.step, record.steps),
        format!(
            "model      {}: hidden {}, layers {}, heads {}, vocabulary {}",
            counted(num_parameters as u64, "parameter"),
            model.hidden,
            model.layers,
            model.heads,
            model.vocab
        ),
        format!(
            "data       {}: {} an epoch of {}, batches of {batch}",
            record.position(),
            counted(data.num_sequences, "sequence"),
            counted(data.num_documents, "document"),
        ),
        format!("costs      {costs}"),
        format!(
            "written    by lengthwise {} on {} in {}; run {}",
            record.program,
            counted(record.num_ranks as u64, "rank"),
            seconds(record.save_s.max(0.0)),
            record.run
        ),
    ]
}
