//! The longest sequence that memory allows.

use lengthwise_core::{Bytes, Strategy, Tokens};
use lengthwise_cost::CostModel;

/// No sequence is longer: from here on lengths are no exact floats.
pub(crate) const LONGEST: u64 = 1 << 53;

/// The longest sequence that a group whose devices have `budget` has memory for: memory does not fall with length.
pub(crate) fn longest_sequence(cost: &dyn CostModel, strategy: Strategy, budget: Bytes) -> u64 {
    let fits = |tokens| cost.sequence_memory(strategy, Tokens(tokens)) <= budget;
    if fits(LONGEST) {
        return LONGEST;
    }
    let (mut most, mut too_many) = (0, LONGEST);
    while too_many - most > 1 {
        let between = most + (too_many - most) / 2;
        if fits(between) {
            most = between;
        } else {
            too_many = between;
        }
    }
    most
}
