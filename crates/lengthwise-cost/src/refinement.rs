//! Measured steps refine the costs that they were predicted by.
//!
//! Every coefficient has a factor, 1 at first. A group that takes `1 + e` times its prediction changes the factors of
//! the coefficients its time is made of, each by its share in that time (the normalised recursive update of
//! adaptive filters, in parts of the coefficients):
//!
//! ```text
//! factor_k *= 1 + damping e share_k / sum of share^2        e within -1/2 .. 1
//! ```
//!
//! so the group's prediction moves by `damping e`, most through what dominates it. A degree between listed ones moves
//! both, as its exchange follows from theirs. Kinds of strategy whose figures agree share a factor, so that those that are not run are
//! refined by those that are. Factors stay within bounds: a machine that hangs for a while must not
//! make plans absurd.

use lengthwise_core::{Cluster, Degree, GlobalBatch, MicroBatch, Plan, Seconds};

use crate::fitting::{LinearTime, Load, TimeTerms};
use crate::{
    CostError, CostModel, FittedModel, GroupShape, StepModel, predict_group, slowest_speed,
};

/// How fast and how far costs are refined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefinementRule {
    /// The part of a step's error that it corrects.
    pub damping: f64,
    /// How far a coefficient may get from where it began: that many times as large or as small.
    pub most: f64,
}

impl Default for RefinementRule {
    fn default() -> Self {
        RefinementRule {
            damping: 0.25,
            most: 4.0,
        }
    }
}

/// A step as it was run.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredStep<'a> {
    /// How it was run.
    pub plan: &'a Plan,
    /// The batch that was run.
    pub batch: &'a GlobalBatch,
    /// Where.
    pub cluster: &'a Cluster,
    /// The measured times of the plan's micro-batches.
    pub micro_batches: &'a [MeasuredMicroBatch],
    /// The measured time of the rest of the step.
    pub rest: Seconds,
}

/// A micro-batch as it was run.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredMicroBatch {
    /// From its first gather to its last scatter.
    pub makespan: Seconds,
    /// How long each group worked, without waiting for the others; empty where that is not known.
    pub groups: Vec<Seconds>,
}

/// Costs that measured steps refine.
#[derive(Clone, Debug)]
pub struct Refinement {
    rule: RefinementRule,
    /// As measured before the run.
    first: StepModel,
    terms: TimeTerms,
    coefficients: Vec<f64>,
    factors: Vec<f64>,
    step_overhead_factor: f64,
    refined: StepModel,
}

impl Refinement {
    /// Begins with these costs.
    pub fn new(first: StepModel, rule: RefinementRule) -> Self {
        let terms = TimeTerms::of(first.cost.costs());
        let coefficients = terms.coefficients(first.cost.costs());
        Refinement {
            rule,
            factors: vec![1.0; coefficients.len()],
            coefficients,
            step_overhead_factor: 1.0,
            refined: first.clone(),
            first,
            terms,
        }
    }

    /// Goes on with what another run has refined: the factor of each coefficient, and that of what a step takes beside its
    /// micro-batches. `None` if they are not of these costs, or beyond the rule's bounds.
    pub fn resumed(
        first: StepModel,
        rule: RefinementRule,
        factors: &[f64],
        step_overhead_factor: f64,
    ) -> Option<Self> {
        let mut resumed = Refinement::new(first, rule);
        let within = |&factor: &f64| factor == resumed.within_bounds(factor);
        let fit = factors.len() == resumed.factors.len();
        if !fit || !factors.iter().chain([&step_overhead_factor]).all(within) {
            return None;
        }
        resumed.factors = factors.to_vec();
        resumed.step_overhead_factor = step_overhead_factor;
        resumed.refine().ok()?;
        Some(resumed)
    }

    /// By what steps have changed each coefficient.
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// By what they have changed what a step takes beside its micro-batches.
    pub fn step_overhead_factor(&self) -> f64 {
        self.step_overhead_factor
    }

    /// The costs as they are now.
    pub fn model(&self) -> &StepModel {
        &self.refined
    }

    /// Refines the costs by a step; returns what they are then.
    ///
    /// # Errors
    ///
    /// Never for times that a machine can take: costs stay finite and within their bounds.
    pub fn observe(&mut self, step: MeasuredStep<'_>) -> Result<&StepModel, CostError> {
        let total: Seconds = step
            .micro_batches
            .iter()
            .map(|measured| measured.makespan)
            .sum();
        let micro_batches = step.plan.micro_batches().iter();
        for (micro_batch, measured) in micro_batches.zip(step.micro_batches) {
            let weight = measured.makespan.get() / total.get().max(f64::MIN_POSITIVE);
            self.observe_micro_batch(micro_batch, measured, step.batch, step.cluster, weight);
        }
        let predicted = self.first.step_overhead.get() * self.step_overhead_factor;
        if predicted > 0.0 {
            let error = bounded_error(step.rest.get(), predicted);
            self.step_overhead_factor =
                self.within_bounds(self.step_overhead_factor * (1.0 + self.rule.damping * error));
        }
        self.refine()?;
        Ok(&self.refined)
    }

    /// Takes the factors over into the costs.
    fn refine(&mut self) -> Result<(), CostError> {
        let costs = self.terms.costs(&self.now(), self.first.cost.costs());
        self.refined.cost = FittedModel::new(costs)?;
        self.refined.step_overhead = self.first.step_overhead * self.step_overhead_factor;
        Ok(())
    }

    fn observe_micro_batch(
        &mut self,
        micro_batch: &MicroBatch,
        measured: &MeasuredMicroBatch,
        batch: &GlobalBatch,
        cluster: &Cluster,
        weight: f64,
    ) {
        let rows = self.end_rows(micro_batch, batch, cluster);
        let makespan = measured.makespan.get();
        let groups = measured.groups.iter().copied();
        let longest = groups.clone().fold(Seconds::ZERO, Seconds::max);
        if longest == Seconds::ZERO {
            // Only the slowest group is known to have taken all of the time.
            let now = self.now();
            let seconds = |row: &LinearTime| row.seconds(&now);
            let slowest = rows.iter().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
            if let Some(slowest) = slowest {
                self.correct(slowest, makespan, self.rule.damping * weight);
            }
            return;
        }
        let overhead = self.refined.cost.micro_batch_overhead().get();
        let beyond_overhead = (makespan - overhead).max(0.0);
        let damping = self.rule.damping * weight / rows.len().max(1) as f64;
        for (row, worked) in rows.iter().zip(groups) {
            // The slowest group ends with the micro-batch; the others before it, as they have worked less.
            let ended = overhead + beyond_overhead * (worked / longest);
            self.correct(row, ended, damping);
        }
    }

    /// The coefficients as they are now.
    fn now(&self) -> Vec<f64> {
        let refined = self.coefficients.iter().zip(&self.factors);
        refined
            .map(|(coefficient, factor)| coefficient * factor)
            .collect()
    }

    /// The end time of each group near the coefficients as they are now.
    fn end_rows(
        &self,
        micro_batch: &MicroBatch,
        batch: &GlobalBatch,
        cluster: &Cluster,
    ) -> Vec<LinearTime> {
        let groups = micro_batch.groups.iter();
        let now = self.now();
        let (times, rows): (Vec<(Degree, Seconds)>, Vec<LinearTime>) = groups
            .map(|group| {
                let seq_lens = group.sequences.iter().filter_map(|&s| batch.seq_len(s));
                let shape = GroupShape::of(group, cluster);
                let exchange = self.refined.cost.exchange_slopes(shape);
                let load = Load::new(shape, seq_lens);
                let speed = slowest_speed(group, cluster).get();
                let row = self.terms.group(&load, exchange, &now).times(1.0 / speed);
                let time = predict_group(group, batch, cluster, &self.refined.cost);
                ((group.degree(), time), row)
            })
            .unzip();
        let weights = self.refined.sharing.weights(&times);
        let end = |weights: &Vec<f64>| {
            let mut end = LinearTime {
                terms: vec![0.0; self.terms.len()],
                known_s: 0.0,
            };
            for (weight, row) in weights.iter().zip(&rows) {
                for (sum, term) in end.terms.iter_mut().zip(&row.terms) {
                    *sum += weight * term;
                }
                end.known_s += weight * row.known_s;
            }
            end.terms[TimeTerms::OVERHEAD] = 1.0;
            end
        };
        weights.iter().map(end).collect()
    }

    /// Moves the factors so that this time comes nearer to what was measured.
    fn correct(&mut self, time: &LinearTime, measured: f64, damping: f64) {
        let now = self.now();
        let predicted = time.seconds(&now);
        let parts = time.terms.iter().zip(&now);
        let parts: Vec<f64> = parts.map(|(term, of)| term * of).collect();
        let squares: f64 = parts.iter().map(|part| (part / predicted).powi(2)).sum();
        if !(predicted > 0.0 && squares > 0.0 && measured.is_finite()) {
            return;
        }
        let error = bounded_error(measured, predicted);
        for (index, part) in parts.iter().enumerate() {
            let change = damping * error * (part / predicted) / squares;
            self.factors[index] = self.within_bounds(self.factors[index] * (1.0 + change));
        }
    }

    fn within_bounds(&self, factor: f64) -> f64 {
        factor.clamp(1.0 / self.rule.most, self.rule.most)
    }
}

/// By what part of it the measured time exceeds the predicted one, as far as one step is believed.
fn bounded_error(measured: f64, predicted: f64) -> f64 {
    (measured / predicted - 1.0).clamp(-0.5, 1.0)
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{
        Activations, Bytes, Device, Group, Rank, SequenceIndex, Speed, Strategy, StrategyKind,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{CoreSharing, FittedCosts, KindCosts};

    const RANKS: u32 = 8;
    const KIND: StrategyKind = StrategyKind::ulysses(Activations::Recompute);

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    /// Costs whose coefficients differ from the first ones by these factors.
    fn model(factors: [f64; 6], num_cores: u32) -> StepModel {
        let costs = KindCosts {
            linear_s_per_token: 1e-4 * factors[1],
            quadratic_s_per_token2: 2e-8 * factors[2],
            exchange_s_per_token: vec![
                (degree(2), 2e-5 * factors[3]),
                (degree(8), 1e-5 * factors[4]),
            ],
            ..KindCosts::default()
        };
        let costs = FittedCosts {
            micro_batch_overhead_s: 0.01 * factors[0],
            ..FittedCosts::of_kind(KIND, costs)
        };
        StepModel {
            cost: FittedModel::new(costs).unwrap(),
            step_overhead: Seconds::new(0.02 * factors[5]).unwrap(),
            sharing: CoreSharing::new(RANKS, num_cores),
        }
    }

    /// Its first device is slower than the others.
    fn cluster() -> Cluster {
        let device = |speed| Device::new(Bytes::from_mib(1), Speed::new(speed).unwrap());
        let speeds = (0..RANKS).map(|rank| if rank == 0 { 0.6 } else { 1.0 });
        Cluster::from_nodes(vec![speeds.map(device).collect()]).unwrap()
    }

    /// A micro-batch of groups of these degrees, with a sequence each, the first of which has this index.
    fn micro_batch(degrees: &[u32], first: u32) -> MicroBatch {
        let mut rank = 0;
        let group = |(index, &ranks): (usize, &u32)| {
            rank += ranks;
            Group {
                strategy: Strategy::ulysses(degree(ranks), KIND.activations),
                ranks: (rank - ranks..rank).map(Rank).collect(),
                sequences: vec![SequenceIndex(first + index as u32)],
            }
        };
        MicroBatch {
            groups: degrees.iter().enumerate().map(group).collect(),
        }
    }

    /// Groups of some degrees, for four sequences.
    fn plan() -> Plan {
        Plan::new(vec![micro_batch(&[8], 0), micro_batch(&[4, 2, 1], 1)])
    }

    /// Runs steps of these lengths on a machine with the costs of `truth`; the last prediction errors.
    fn errors_after(
        refinement: &mut Refinement,
        truth: &StepModel,
        plan: &Plan,
        seq_lens: &[[u64; 4]],
        knows_groups: bool,
    ) -> Vec<f64> {
        let cluster = cluster();
        let mut errors = Vec::new();
        for lens in seq_lens {
            let batch = GlobalBatch::from_lens(lens.iter().copied()).unwrap();
            let measure = |micro_batch| MeasuredMicroBatch {
                makespan: truth.predict_micro_batch(micro_batch, &batch, &cluster),
                groups: if knows_groups {
                    truth.group_ends(micro_batch, &batch, &cluster)
                } else {
                    Vec::new()
                },
            };
            let micro_batches: Vec<_> = plan.micro_batches().iter().map(measure).collect();
            let measured = truth.predict_step(plan, &batch, &cluster);
            let predicted = refinement.model().predict_step(plan, &batch, &cluster);
            errors.push((predicted.get() / measured.get() - 1.0).abs());
            let step = MeasuredStep {
                plan,
                batch: &batch,
                cluster: &cluster,
                micro_batches: &micro_batches,
                rest: truth.step_overhead,
            };
            refinement.observe(step).unwrap();
        }
        errors
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn predictions_approach_what_is_measured(
            factors in prop::array::uniform6(0.5..2.0f64),
            seq_lens in prop::collection::vec(prop::array::uniform4(100u64..20_000), 120),
            num_cores in prop::sample::select(vec![2u32, 8]),
            knows_groups in any::<bool>(),
        ) {
            let truth = model(factors, num_cores);
            let mut refinement = Refinement::new(model([1.0; 6], num_cores), RefinementRule::default());
            let errors = errors_after(&mut refinement, &truth, &plan(), &seq_lens, knows_groups);
            let last = errors[90..].iter().sum::<f64>() / 30.0;
            prop_assert!(last < 0.08, "still off by {last}; {:?} at first", &errors[..3]);
        }

        #[test]
        fn costs_that_predict_what_is_measured_stay_as_they_are(
            factors in prop::array::uniform6(0.5..2.0f64),
            seq_lens in prop::collection::vec(prop::array::uniform4(100u64..20_000), 1..4),
            num_cores in prop::sample::select(vec![2u32, 8]),
            knows_groups in any::<bool>(),
        ) {
            let truth = model(factors, num_cores);
            let mut refinement = Refinement::new(truth.clone(), RefinementRule::default());
            let plan = Plan::new(vec![micro_batch(&[5, 3], 0), micro_batch(&[7, 1], 2)]);
            errors_after(&mut refinement, &truth, &plan, &seq_lens, knows_groups);
            for factor in refinement.factors {
                prop_assert!((factor - 1.0).abs() < 1e-9, "a factor is {factor}");
            }
        }

        #[test]
        fn no_measurement_moves_a_cost_beyond_its_bounds(
            makespans in prop::collection::vec(prop::sample::select(vec![0.0, 1e-9, 1.0, 1e9, 1e300]), 1..80),
            seq_lens in prop::array::uniform4(1u64..20_000),
        ) {
            let first = model([1.0; 6], 2);
            let rule = RefinementRule::default();
            let mut refinement = Refinement::new(first.clone(), rule);
            let plan = Plan::new(vec![micro_batch(&[4, 2, 1], 0)]);
            let batch = GlobalBatch::from_lens(seq_lens).unwrap();
            for makespan in makespans {
                let makespan = Seconds::new(makespan).unwrap();
                let micro_batches = [MeasuredMicroBatch { makespan, groups: vec![makespan; 3] }];
                let step = MeasuredStep {
                    plan: &plan,
                    batch: &batch,
                    cluster: &cluster(),
                    micro_batches: &micro_batches,
                    rest: makespan,
                };
                refinement.observe(step).unwrap();
            }
            let terms = TimeTerms::of(first.cost.costs());
            let refined = terms.coefficients(refinement.model().cost.costs());
            for (refined, first) in refined.iter().zip(terms.coefficients(first.cost.costs())) {
                prop_assert!((1.0 / rule.most - 1e-9..=rule.most + 1e-9).contains(&(refined / first)));
            }
        }
    }

    #[test]
    fn a_degree_between_listed_ones_moves_both_the_way_its_error_goes() {
        let model = |exchange| model([1.0, 1.0, 1.0, exchange, exchange, 1.0], 8);
        let plan = Plan::new(vec![micro_batch(&[3], 0)]);
        for exchange in [1.1, 0.9] {
            let mut refinement = Refinement::new(model(1.0), RefinementRule::default());
            let steps = [[5000, 1, 1, 1]; 2];
            let errors = errors_after(&mut refinement, &model(exchange), &plan, &steps, true);
            assert!(errors[1] < 0.9 * errors[0], "{errors:?}");
            let listed =
                |model: &StepModel| model.cost.costs().kinds[&KIND].exchange_s_per_token.clone();
            for (refined, first) in listed(refinement.model()).iter().zip(listed(&model(1.0))) {
                let moved = (refined.1 / first.1 - 1.0) * (exchange - 1.0);
                assert!(moved > 0.0, "{first:?} became {refined:?} at {exchange}");
            }
        }
    }

    #[test]
    fn a_step_corrects_a_part_of_its_error() {
        let truth = model([2.0; 6], 8);
        let mut refinement = Refinement::new(model([1.0; 6], 8), RefinementRule::default());
        let errors = errors_after(
            &mut refinement,
            &truth,
            &plan(),
            &[[5000, 3000, 2000, 1000]; 2],
            true,
        );
        let corrected = (errors[0] - errors[1]) / errors[0];
        assert!((0.1..0.6).contains(&corrected), "{errors:?}");
    }

    #[test]
    fn what_a_step_takes_beside_micro_batches_moves_by_a_part_of_its_error_within_bounds() {
        let rule = RefinementRule::default();
        let first = model([1.0; 6], 8);
        let batch = GlobalBatch::from_lens([5000, 3000, 2000, 1000]).unwrap();
        let plan = plan();
        let observe = |refinement: &mut Refinement, rest: f64| {
            let step = MeasuredStep {
                plan: &plan,
                batch: &batch,
                cluster: &cluster(),
                micro_batches: &[],
                rest: Seconds::new(rest).unwrap(),
            };
            refinement.observe(step).unwrap();
        };
        let mut refinement = Refinement::new(first.clone(), rule);
        assert_eq!(refinement.step_overhead_factor(), 1.0);
        // Half as much again as the 0.02 s that were predicted.
        observe(&mut refinement, 0.03);
        let factor = refinement.step_overhead_factor();
        assert!(
            (factor - (1.0 + rule.damping * 0.5)).abs() < 1e-12,
            "{factor}"
        );
        let now = refinement.model().step_overhead.get();
        assert!((now - 0.02 * factor).abs() < 1e-12, "{now}");
        let resumed =
            Refinement::resumed(first.clone(), rule, refinement.factors(), factor).unwrap();
        assert_eq!(resumed.step_overhead_factor(), factor);
        assert_eq!(resumed.model(), refinement.model());
        for (rest, bound) in [(10.0, rule.most), (0.0, 1.0 / rule.most)] {
            for _ in 0..100 {
                observe(&mut refinement, rest);
            }
            assert_eq!(refinement.step_overhead_factor(), bound);
        }
        let resumed = |factors: &[f64], factor| {
            Refinement::resumed(first.clone(), rule, factors, factor).is_some()
        };
        let factors = refinement.factors();
        assert!(resumed(factors, rule.most) && resumed(factors, 1.0 / rule.most));
        assert!(!resumed(factors, 1.01 * rule.most) && !resumed(factors, 0.99 / rule.most));
        assert!(!resumed(&factors[1..], 1.0));
        let mut absurd = factors.to_vec();
        absurd[0] = 1.01 * rule.most;
        assert!(!resumed(&absurd, 1.0));
    }
}
