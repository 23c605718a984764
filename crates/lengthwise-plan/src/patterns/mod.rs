//! Batches of many micro-batches as patterns of groups that recur: a bound, and prices to plan by.
//!
//! Where memory asks for dozens of micro-batches, there are so many groups that those of a micro-batch can be chosen to
//! end together. Then a group of degree `d` takes `d / N` of an overhead and of its own time, whatever else there is, and
//! planning is to pack sequences into groups:
//!
//! ```text
//! minimise  sum over groups g of  d_g / N (overhead + time of g)   s.t.  every sequence in one group, memory within budget
//! ```
//!
//! No plan takes less: the degrees of a micro-batch add up to `N` at most, and none of its groups outlasts it. Relaxed to
//! parts of groups this is cutting stock with stock of several sizes (Gilmore and Gomory): prices of sequences by which no
//! group's content, its *pattern*, is worth more than it costs add up to a bound.

mod buckets;
mod knapsack;
mod master;

use self::buckets::Buckets;
pub(crate) use self::buckets::GroupKind;
pub(crate) use self::knapsack::KnapsackValues;
use self::master::{Master, Pattern};
use lengthwise_certificate::{Bucket, Proof};

use crate::bound::{capacity, least_micro_batches};
use crate::deadline::Deadline;
use crate::instance::Instance;

/// With so many micro-batches at least, makespans need no search.
const DEEP: f64 = 24.0;

/// How often better patterns are looked for at most.
const MAX_ROUNDS: usize = 300;

/// PatternPrices are good enough once the bound is within this part of what the patterns take.
const CONVERGED: f64 = 1e-3;

/// How far prices go from the best so far towards those of the patterns so far, which overshoot.
const STEP: f64 = 0.2;

/// What sequences are worth in the best patterns.
pub(crate) struct PatternPrices {
    pub(crate) buckets: Buckets,
    /// Of a sequence of each bucket, in seconds of the step.
    pub(crate) of_buckets: Vec<f64>,
    /// No plan takes less.
    pub(crate) bound: f64,
    /// How often prices were improved.
    pub(crate) num_rounds: usize,
}

/// Whether there are so many micro-batches that patterns recur.
pub(crate) fn is_deep(instance: &Instance<'_>) -> bool {
    least_micro_batches(instance) >= DEEP
}

impl PatternPrices {
    /// The prices of an instance, the better the more time there is.
    pub(crate) fn of(instance: &Instance<'_>, deadline: Deadline) -> Self {
        let buckets = Buckets::of(instance);
        let alone = (0..buckets.num_buckets())
            .map(|bucket| alone(&buckets, bucket))
            .collect();
        let mut master = Master::new(alone, &buckets.counts);
        let mut prices = master.prices.clone();
        let mut best = (f64::NEG_INFINITY, prices.clone());
        let mut num_rounds = 0;
        while num_rounds < MAX_ROUNDS {
            num_rounds += 1;
            let (excess, patterns) = overpriced(&buckets, &prices);
            let bound = total(&buckets, &prices) / excess;
            if bound > best.0 {
                prices.iter_mut().for_each(|price| *price /= excess);
                best = (bound, prices);
            }
            let least = total(&buckets, &master.prices);
            if best.0 >= least * (1.0 - CONVERGED) || deadline.has_passed() {
                break;
            }
            patterns.into_iter().for_each(|pattern| master.add(pattern));
            let towards = |(best, now): (&f64, &f64)| best + STEP * (now - best);
            prices = best.1.iter().zip(&master.prices).map(towards).collect();
        }
        PatternPrices {
            bound: best.0 + buckets.surcharge,
            of_buckets: best.1,
            buckets,
            num_rounds,
        }
    }

    /// Why no plan takes less than the bound.
    pub(crate) fn proof(&self, instance: &Instance<'_>) -> Proof {
        let buckets = self.buckets.starts.iter().zip(&self.of_buckets);
        let buckets = buckets.map(|(&start, &price_s)| Bucket {
            from_tokens: instance.class_lens[start].0,
            price_s,
        });
        Proof::Patterns {
            capacity: capacity(instance),
            buckets: buckets.collect(),
        }
    }
}

fn total(buckets: &Buckets, prices: &[f64]) -> f64 {
    let all = buckets.counts.iter().zip(prices);
    all.map(|(count, price)| count * price).sum()
}

/// The cheapest pattern that holds one bucket alone.
fn alone(buckets: &Buckets, bucket: usize) -> Pattern {
    let kinds = buckets
        .kinds
        .iter()
        .filter(|kind| bucket < kind.num_fitting());
    let patterns = kinds.map(|kind| {
        let count = (1.0 / kind.memory[bucket].max(f64::EPSILON))
            .floor()
            .max(1.0);
        Pattern {
            cost: kind.opening + count * kind.charge[bucket],
            content: vec![(bucket, count)],
        }
    });
    let cost = |pattern: &Pattern| pattern.cost / pattern.content[0].1;
    patterns
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .expect("every sequence fits some shape")
}

/// By what prices must be divided for no pattern to be worth more than it costs, and the patterns that are now.
fn overpriced(buckets: &Buckets, prices: &[f64]) -> (f64, Vec<Pattern>) {
    let mut excess: f64 = 1.0;
    let mut patterns = Vec::new();
    for kind in &buckets.kinds {
        let values = KnapsackValues::of_all(kind, prices);
        if values.of_budget() <= kind.opening {
            continue;
        }
        // A pattern costs its opening and its charges. So dividing by this much is enough, if more than is needed.
        excess = excess.max(values.of_budget() / kind.opening);
        let content = values.best_content(kind);
        let charges = content
            .iter()
            .map(|&(bucket, count)| count * kind.charge[bucket]);
        patterns.push(Pattern {
            cost: kind.opening + charges.sum::<f64>(),
            content,
        });
    }
    (excess, patterns)
}
