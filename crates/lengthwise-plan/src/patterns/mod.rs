//! Column generation for batches of many micro-batches: a lower bound, and the dual prices to plan by.
//!
//! Where memory asks for dozens of micro-batches, there are so many groups that those of a micro-batch can be chosen to
//! end together. Then a group of degree `d` takes `d / N` of an overhead and of its own time, whatever else there is, and
//! planning is to pack sequences into groups:
//!
//! ```text
//! minimise  sum over groups g of  d_g / N (overhead + time of g)   s.t.  every sequence in one group, memory within budget
//! ```
//!
//! No plan takes less: the degrees of a micro-batch add up to `N` at most, and none of its groups outlasts it. The linear
//! relaxation, in which a group may exist in part, is cutting stock with stock of several sizes (Gilmore and Gomory). Its
//! columns are *patterns*, the contents that a group can have:
//!
//! ```text
//! minimise  sum over patterns p of  cost_p x_p   s.t.  sum over p of  count_pk x_p >= n_k  for each length k,  x >= 0
//! ```
//!
//! | part | where |
//! | --- | --- |
//! | lengths `k`, similar ones merged | [`buckets`] |
//! | restricted master problem: the patterns so far, by the simplex method; its dual prices | [`master`] |
//! | pricing problem: the pattern that is worth the most more than it costs, a knapsack | [`knapsack`] |
//!
//! Dual prices by which no pattern is worth more than it costs are feasible for the dual, so `sum of n_k dual_k` is a lower
//! bound. Others are scaled down until they are (as in Farley's bound).

mod buckets;
mod knapsack;
mod master;

use self::buckets::Buckets;
pub(crate) use self::buckets::GroupKind;
pub(crate) use self::knapsack::KnapsackValues;
pub(crate) use self::master::{Master, Pattern};
use lengthwise_certificate::{Bucket, Proof};

use crate::bound::{capacity, least_micro_batches};
use crate::deadline::Deadline;
use crate::instance::Instance;

/// With so many micro-batches at least, makespans need no search.
const DEEP: f64 = 24.0;

/// How often better patterns are looked for at most.
const MAX_ROUNDS: usize = 300;

/// The dual prices are good enough once the bound is within this part of the restricted master problem's value.
const CONVERGED: f64 = 1e-3;

/// Dual prices are smoothed: they go this part of the way from the best so far to those of the master problem, which oscillate.
const STEP: f64 = 0.2;

/// The dual prices of sequences, feasible for the dual.
pub(crate) struct PatternPrices {
    pub(crate) buckets: Buckets,
    /// Of a sequence of each bucket, in seconds of the step.
    pub(crate) of_buckets: Vec<f64>,
    /// No plan takes less.
    pub(crate) bound: f64,
    /// The number of pricing rounds.
    pub(crate) num_rounds: usize,
}

/// Whether there are so many micro-batches that patterns recur.
pub(crate) fn is_deep(instance: &Instance<'_>) -> bool {
    least_micro_batches(instance) >= DEEP
}

impl PatternPrices {
    /// The dual prices of an instance, the better the more time there is.
    pub(crate) fn of(instance: &Instance<'_>, deadline: Deadline) -> Self {
        let buckets = Buckets::of(instance);
        let alone = (0..buckets.num_buckets())
            .map(|bucket| alone(&buckets, bucket))
            .collect();
        let mut master = Master::new(alone, &buckets.counts);
        let mut duals = master.duals.clone();
        let mut best = (f64::NEG_INFINITY, duals.clone());
        let mut num_rounds = 0;
        while num_rounds < MAX_ROUNDS {
            num_rounds += 1;
            let (excess, patterns) = priced_patterns(&buckets, &duals);
            let bound = total(&buckets, &duals) / excess;
            if bound > best.0 {
                duals.iter_mut().for_each(|dual| *dual /= excess);
                best = (bound, duals);
            }
            let least = total(&buckets, &master.duals);
            if best.0 >= least * (1.0 - CONVERGED) || deadline.has_passed() {
                break;
            }
            patterns.into_iter().for_each(|pattern| master.add(pattern));
            let towards = |(best, now): (&f64, &f64)| best + STEP * (now - best);
            duals = best.1.iter().zip(&master.duals).map(towards).collect();
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

fn total(buckets: &Buckets, duals: &[f64]) -> f64 {
    let all = buckets.counts.iter().zip(duals);
    all.map(|(count, dual)| count * dual).sum()
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
            cost: kind.fixed_cost + count * kind.sequence_cost[bucket],
            content: vec![(bucket, count)],
        }
    });
    let cost = |pattern: &Pattern| pattern.cost / pattern.content[0].1;
    patterns
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .expect("every sequence fits some shape")
}

/// The factor by which the duals must be divided to be feasible, and the patterns that are worth more than they cost.
fn priced_patterns(buckets: &Buckets, duals: &[f64]) -> (f64, Vec<Pattern>) {
    let mut excess: f64 = 1.0;
    let mut patterns = Vec::new();
    for kind in &buckets.kinds {
        let values = KnapsackValues::of_all(kind, duals);
        if values.of_budget() <= kind.fixed_cost {
            continue;
        }
        // A pattern costs its fixed cost and those of its sequences. So dividing by this much is enough, if more than is needed.
        excess = excess.max(values.of_budget() / kind.fixed_cost);
        let content = values.best_content(kind);
        let costs = content
            .iter()
            .map(|&(bucket, count)| count * kind.sequence_cost[bucket]);
        patterns.push(Pattern {
            cost: kind.fixed_cost + costs.sum::<f64>(),
            content,
        });
    }
    (excess, patterns)
}

#[cfg(test)]
mod tests {
    use super::buckets::tests::problems;
    use super::*;

    #[test]
    fn the_cheapest_group_of_one_bucket_is_as_full_as_memory_allows() {
        for case in problems(160) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let buckets = Buckets::of(&instance);
            for bucket in 0..buckets.num_buckets() {
                let pattern = alone(&buckets, bucket);
                let [(held, count)] = pattern.content[..] else {
                    panic!("it holds one bucket alone");
                };
                assert_eq!(held, bucket);
                let fitting = buckets
                    .kinds
                    .iter()
                    .filter(|kind| bucket < kind.num_fitting());
                let cost_of = |kind: &GroupKind, count: f64| {
                    kind.fixed_cost + count * kind.sequence_cost[bucket]
                };
                let is_of = |kind: &GroupKind| {
                    let fits = count == 1.0 || count * kind.memory[bucket] <= 1.0 + 1e-9;
                    fits && (pattern.cost - cost_of(kind, count)).abs() <= 1e-9 * pattern.cost
                };
                assert!(fitting.clone().any(is_of), "no group can hold it");
                // No group that holds fewer, of any kind, is cheaper by the sequence.
                for kind in fitting {
                    let full = 1.0 / kind.memory[bucket].max(1e-6);
                    for part in [1.0, 0.75, 0.5, 0.1] {
                        let held = (part * full * (1.0 - 1e-9)).floor().max(1.0);
                        let least = cost_of(kind, held) / held;
                        let cost = pattern.cost / count;
                        assert!(cost <= least * (1.0 + 1e-9), "{cost} instead of {least}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_group_is_worth_more_than_it_costs_and_the_bound_is_what_all_sequences_are_worth() {
        for case in problems(161) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let prices = PatternPrices::of(&instance, Deadline::default());
            let buckets = &prices.buckets;
            let worth: f64 = total(buckets, &prices.of_buckets) + buckets.surcharge;
            assert!((prices.bound - worth).abs() <= 1e-9 * worth);
            for kind in &buckets.kinds {
                let values = KnapsackValues::of_all(kind, &prices.of_buckets);
                let limit = kind.fixed_cost.max(1e-12);
                assert!(
                    values.of_budget() <= limit * (1.0 + 1e-6),
                    "{}",
                    values.of_budget()
                );
            }
            // At least what each bucket by itself would cost if groups could exist in part.
            assert!(prices.num_rounds >= 1 && prices.num_rounds <= MAX_ROUNDS);
            if prices.num_rounds < MAX_ROUNDS {
                let (excess, _) = priced_patterns(buckets, &prices.of_buckets);
                assert!((excess - 1.0).abs() < 1e-6, "{excess}");
            }
        }
    }

    /// The least cost of covering all sequences where groups may exist in part, by the master problem's own dual prices;
    /// `None` where these oscillate too long.
    fn least_cover(buckets: &Buckets) -> Option<f64> {
        let alone = (0..buckets.num_buckets()).map(|bucket| alone(buckets, bucket));
        let mut master = Master::new(alone.collect(), &buckets.counts);
        for _ in 0..400 {
            let (excess, patterns) = priced_patterns(buckets, &master.duals);
            if excess <= 1.0 + 1e-6 {
                return Some(total(buckets, &master.duals));
            }
            patterns.into_iter().for_each(|pattern| master.add(pattern));
        }
        None
    }

    #[test]
    fn prices_converge_to_those_of_the_cheapest_cover() {
        let mut num_rounds = Vec::new();
        for case in problems(162) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let prices = PatternPrices::of(&instance, Deadline::default());
            if prices
                .buckets
                .kinds
                .iter()
                .any(|kind| kind.fixed_cost == 0.0)
            {
                continue;
            }
            let Some(least) = least_cover(&prices.buckets) else {
                continue;
            };
            let found = total(&prices.buckets, &prices.of_buckets);
            assert!(found <= least * (1.0 + 1e-6), "{found} is above {least}");
            assert!(
                found >= least * (1.0 - 2.0 * CONVERGED),
                "{found} is far below {least}"
            );
            num_rounds.push(prices.num_rounds);
        }
        assert!(num_rounds.len() > 20, "{}", num_rounds.len());
        let most = num_rounds.iter().max();
        assert!(most < Some(&MAX_ROUNDS), "{num_rounds:?}");
    }

    #[test]
    fn a_priced_pattern_is_worth_more_than_it_costs_by_what_its_knapsack_is_worth() {
        let mut num_patterns = 0;
        for case in problems(163) {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let buckets = Buckets::of(&instance);
            // Twice what each sequence costs at least.
            let cost = |bucket| {
                let pattern = alone(&buckets, bucket);
                2.0 * pattern.cost / pattern.content[0].1
            };
            let duals: Vec<f64> = (0..buckets.num_buckets()).map(cost).collect();
            let (excess, patterns) = priced_patterns(&buckets, &duals);
            let of_kinds = buckets.kinds.iter().filter_map(|kind| {
                let value = KnapsackValues::of_all(kind, &duals).of_budget();
                (value > kind.fixed_cost).then_some((kind, value))
            });
            let of_kinds: Vec<(&GroupKind, f64)> = of_kinds.collect();
            assert_eq!(of_kinds.len(), patterns.len());
            let mut most = 1.0f64;
            for ((kind, value), pattern) in of_kinds.into_iter().zip(patterns) {
                num_patterns += 1;
                most = most.max(value / kind.fixed_cost);
                let held = || pattern.content.iter();
                let costs = held().map(|&(bucket, count)| count * kind.sequence_cost[bucket]);
                let cost = kind.fixed_cost + costs.sum::<f64>();
                assert!((pattern.cost - cost).abs() <= 1e-9 * cost);
                let worth: f64 = held().map(|&(bucket, count)| count * duals[bucket]).sum();
                let gain = worth - pattern.cost;
                assert!((gain - (value - kind.fixed_cost)).abs() <= 1e-9 * worth);
                let memory: f64 = held()
                    .map(|&(bucket, count)| count * kind.memory[bucket])
                    .sum();
                // Sizes are rounded down to units of a budget.
                assert!(memory <= 1.1, "{memory} of a budget");
            }
            assert_eq!(excess, most);
        }
        assert!(num_patterns > 100, "{num_patterns}");
    }
}
