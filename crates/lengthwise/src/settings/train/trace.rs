//! `train.trace` and `train.trace_steps`: which steps are written down event by event, and where.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// The steps that are traced where nothing else is said. The first has caches to fill and groups to create, and is like
/// no other.
const USUAL: [u64; 3] = [2, 3, 4];

/// The file, if there is to be one, and the steps of a run of `num_steps`.
pub fn trace(
    reader: &mut Reader<'_>,
    num_steps: u64,
) -> Result<(Option<Setting<PathBuf>>, BTreeSet<u64>), Failure> {
    let mut trace = reader.optional::<PathBuf>("train.trace")?;
    if let Some(trace) = &mut trace {
        trace.value = reader.path(trace, &trace.value)?;
    }
    let steps = reader.optional::<Vec<u64>>("train.trace_steps")?;
    let traced = match &steps {
        Some(steps) => {
            steps.must(
                trace.is_some(),
                "there is no file to trace steps to",
                "give it with train.trace or --trace",
            )?;
            let none = |step: &&u64| !(1..=num_steps).contains(*step);
            if let Some(step) = steps.value.iter().find(none) {
                let rule = format!("there is no step {step}; train.steps = {num_steps}");
                return Err(steps.breaks(rule).hint("steps are counted from 1"));
            }
            steps.must(
                !steps.value.is_empty(),
                "there must be at least 1 step",
                "leave it out to trace the steps 2, 3 and 4",
            )?;
            steps.value.iter().copied().collect()
        }
        None if trace.is_none() => BTreeSet::new(),
        None if num_steps == 1 => BTreeSet::from([1]),
        None => USUAL
            .into_iter()
            .filter(|&step| step <= num_steps)
            .collect(),
    };
    Ok((trace, traced))
}
