//! The least number of micro-batches that the limits of groups allow.

use super::usable_devices::usable_devices;
use crate::instance::{Instance, Limit};

/// As many as the limit that binds first asks for, and a multiple of what the rules ask for.
pub(crate) fn least_micro_batches(instance: &Instance<'_>) -> f64 {
    let multiple = f64::from(instance.problem.rules.micro_batches_multiple_of.get());
    let needed = micro_batches_by(instance, instance.limit) * (1.0 - 1e-12);
    (needed / multiple).ceil().max(1.0) * multiple
}

/// How many micro-batches one limit asks for at least, not rounded.
///
/// A sequence takes at least `min_p d_p m(p, s)` bytes over the devices, and a micro-batch offers the budgets of the devices
/// that groups can use. It takes its tokens of those that all ranks may hold, and one place of `d_p` ranks.
pub(crate) fn micro_batches_by(instance: &Instance<'_>, limit: Limit) -> f64 {
    let usable = usable_devices(instance);
    let usable = usable[usable.len() - 1];
    let rules = &instance.problem.rules;
    let (needed, offered) = match limit {
        Limit::Memory => {
            let bytes = |class| {
                let fitting =
                    (0..instance.shapes.len()).filter(|&shape| instance.fits(shape, class));
                let bytes = fitting.map(|shape| {
                    f64::from(instance.shapes[shape].degree) * instance.memory(shape, class) as f64
                });
                bytes.fold(f64::INFINITY, f64::min) * instance.members(class).len() as f64
            };
            let needed: f64 = (0..instance.num_classes()).map(bytes).sum();
            (needed, instance.total_budget(usable as usize))
        }
        Limit::Tokens => {
            let Some(cap) = rules.token_cap else {
                return 0.0;
            };
            let offered = cap.tokens_per_rank.as_f64() * f64::from(usable);
            (instance.problem.batch.num_tokens().as_f64(), offered)
        }
        Limit::Sequences => {
            let places = f64::from(usable / instance.shapes[0].degree);
            let offered = f64::from(rules.most_sequences()) * places;
            (instance.num_sequences() as f64, offered)
        }
    };
    if offered > 0.0 { needed / offered } else { 0.0 }
}
