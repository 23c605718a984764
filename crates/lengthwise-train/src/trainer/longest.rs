//! Whether the sequences of a corpus can be planned at all, before anything is measured or run.

use lengthwise_core::{GlobalBatch, PlanRules, Tokens};
use lengthwise_cost::{FittedModel, StepModel};
use lengthwise_plan::{PlanError, Planner, Problem};

use super::strategies::allowed_strategies;
use crate::{TrainError, TrainOptions, calibration};

/// Stands for what a token takes, in seconds, where that is not measured yet.
const NOMINAL_S_PER_TOKEN: f64 = 1e-6;

/// Checks that a sequence of `seq_len` tokens, the longest of a corpus, has room in some plan: what memory, heads and
/// degrees allow is known before anything is measured. Where it has, every shorter one has too.
///
/// # Errors
///
/// It has none, and which longest one has; or the options make no run.
pub fn check_longest(
    options: &TrainOptions,
    planner: &dyn Planner,
    seq_len: Tokens,
) -> Result<(), TrainError> {
    let space = allowed_strategies(options)?;
    let cost = match &options.costs {
        Some(StepModel { cost, .. }) => cost.clone(),
        None => {
            let mut costs = calibration::known_costs(options, &space);
            for kind in costs.kinds.values_mut() {
                // Times decide nothing here, but planners expect some.
                kind.linear_s_per_token = NOMINAL_S_PER_TOKEN;
            }
            FittedModel::new(costs)?
        }
    };
    let planned = |seq_len: Tokens| -> Result<(), PlanError> {
        let Ok(batch) = GlobalBatch::new(vec![seq_len]) else {
            return Ok(());
        };
        let problem = Problem {
            batch: &batch,
            cluster: &options.cluster,
            cost: &cost,
            space: &space,
            rules: PlanRules::default(),
        };
        planner.plan(problem).map(|_| ())
    };
    let Err(source) = planned(seq_len) else {
        return Ok(());
    };
    let (mut fits, mut too_long) = (0, seq_len.0);
    while too_long - fits > 1 {
        let between = fits + (too_long - fits) / 2;
        match planned(Tokens(between)) {
            Ok(()) => fits = between,
            Err(_) => too_long = between,
        }
    }
    Err(TrainError::SequenceTooLong {
        seq_len,
        longest: (fits > 0).then_some(Tokens(fits)),
        source,
    })
}
