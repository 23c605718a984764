//! A profile whose costs are fitted to micro-batches that were measured elsewhere, such as by a training framework.

use lengthwise_core::{Cluster, Degree, StrategyKind, Tokens};

use super::{KindProfile, Profile};
use crate::fitting::{Fit, Load, Observation, TimeTerms, Work, non_negative};
use crate::{
    CostModel, FitReport, FittedCosts, FittedModel, GroupShape, MeasuredGroup, Measurement,
    PerDegree, ProfileError, Span,
};

/// Which group of a micro-batch is the slowest follows from the costs, which follow from that: so often at most.
const MOST_ROUNDS: usize = 8;

impl Profile {
    /// The same profile with times, and memory where it was measured, fitted to these micro-batches.
    ///
    /// Devices, heads and the bytes that exchanges pass on stay what they are, and so do the costs of what was not
    /// measured. Micro-batches that are held out are only compared with the fit. Of unequal groups the slowest counts.
    /// No device is predicted to hold less than it was seen to hold.
    ///
    /// # Errors
    ///
    /// A micro-batch that can't be, or too few of them.
    pub fn fitted_to(&self, mut measurements: Vec<Measurement>) -> Result<Self, ProfileError> {
        let cluster = self.cluster(None)?;
        for (index, measurement) in measurements.iter().enumerate() {
            let checked = self.check_measurement(measurement, &cluster);
            checked.map_err(|rule| ProfileError::BadMeasurement { index, rule })?;
        }
        let known = self.model(&cluster)?.costs().clone();
        let fitted = || measurements.iter().filter(|measured| !measured.held_out);
        let groups = fitted().flat_map(|measured| &measured.groups);
        let terms = TimeTerms::new(known.num_heads, groups.map(shape)).beside(&known);
        let (num, needed) = (fitted().count(), terms.len());
        if num < needed {
            return Err(ProfileError::TooFewMeasurements { num, needed });
        }
        let sharing = self.step_model(&cluster)?.sharing;
        let row = |measurement: &Measurement, model: &FittedModel| {
            let ranks = measurement.groups.iter().map(num_ranks).sum();
            let slowest = slowest(measurement, model);
            slowest.map(|group| Work {
                load: load(group),
                pace: sharing.pace(ranks),
            })
        };
        let mut costs = known.clone();
        let mut rows: Vec<Option<Work>> = Vec::new();
        let mut fit = Fit::new(terms.clone(), &[])?;
        for _ in 0..MOST_ROUNDS {
            let model = FittedModel::new(costs)?;
            let before = std::mem::take(&mut rows);
            rows = measurements
                .iter()
                .map(|measured| row(measured, &model))
                .collect();
            if rows == before {
                break;
            }
            let observed = measurements.iter().zip(&rows);
            let observed = observed.filter(|(measured, _)| !measured.held_out);
            let observed = observed.filter_map(|(measured, work)| {
                Some(Observation {
                    work: (*work)?,
                    seconds: measured.measured_s,
                    weight: 1.0,
                })
            });
            fit = Fit::new(terms.clone(), &observed.collect::<Vec<_>>())?;
            costs = with_unmeasured(fit.costs(&known), &known);
        }
        let mut profile = self.clone();
        profile.set_times(&fit.costs(&known));
        profile.set_memory(&measurements, &known, &cluster)?;
        profile.check_figures()?;
        let model = profile.model(&cluster)?;
        for measured in &mut measurements {
            let ranks = measured.groups.iter().map(num_ranks).sum();
            let slowest = slowest(measured, &model).map_or(0.0, |group| seconds(group, &model));
            let overhead = model.micro_batch_overhead().get();
            measured.predicted_s = overhead + sharing.pace(ranks) * slowest;
        }
        profile.fit = Some(report(&measurements));
        profile.measurements = measurements;
        Ok(profile)
    }

    fn check_measurement(&self, measured: &Measurement, cluster: &Cluster) -> Result<(), String> {
        if !(measured.measured_s.is_finite() && measured.measured_s > 0.0) {
            let seconds = measured.measured_s;
            return Err(format!(
                "measured_s is {seconds}; it must be finite and above 0"
            ));
        }
        let mut ranks: u64 = 0;
        for group in &measured.groups {
            let kind = group.strategy.0.kind();
            if self.kind(kind).is_none() {
                return Err(format!(
                    "the profile has no costs of the strategy {}",
                    group.strategy.0
                ));
            }
            if group.count == 0 || group.seq_lens_tokens.is_empty() {
                return Err("a group has no sequence or its count is 0".to_owned());
            }
            if group.seq_lens_tokens.contains(&0) {
                return Err(
                    "seq_lens_tokens has a 0; every sequence needs at least 1 token".to_owned(),
                );
            }
            let degree = u64::from(group.strategy.0.degree().get());
            ranks = ranks.saturating_add(u64::from(group.count) * degree);
        }
        let num_devices = cluster.num_devices();
        match ranks {
            0 => Err("groups is empty; a micro-batch has at least one".to_owned()),
            ranks if ranks > num_devices.into() => Err(format!(
                "its groups have {ranks} ranks; the profile has {num_devices} devices"
            )),
            _ => Ok(()),
        }
    }

    fn set_times(&mut self, fitted: &FittedCosts) {
        self.overhead.micro_batch_s = fitted.micro_batch_overhead_s;
        for of_kind in &mut self.costs {
            let Some(costs) = fitted.kinds.get(&of_kind.kind()) else {
                continue;
            };
            of_kind.linear_s_per_token = costs.linear_s_per_token;
            of_kind.quadratic_s_per_token2 = costs.quadratic_s_per_token2;
            if of_kind.exchanged_bytes_per_token == 0.0 {
                // Only the quotient of bytes and bandwidth counts.
                of_kind.exchanged_bytes_per_token = 1.0;
            }
            let exchanged = of_kind.exchanged_bytes_per_token;
            let bandwidths = |table: &[(Degree, f64)]| {
                let entries = table.iter();
                PerDegree::new(entries.map(|&(degree, seconds)| {
                    (degree, exchanged / (f64::from(degree.get()) * seconds))
                }))
            };
            if !costs.exchange_s_per_token.is_empty() {
                let table = bandwidths(&costs.exchange_s_per_token);
                of_kind.one_node_bandwidth_bytes_per_s = table;
            }
            if !costs.many_nodes_exchange_s_per_token.is_empty() {
                let table = bandwidths(&costs.many_nodes_exchange_s_per_token);
                of_kind.many_nodes_bandwidth_bytes_per_s = table;
            }
        }
    }

    /// Fits what devices hold always, and for each of their own tokens, if enough was measured.
    fn set_memory(
        &mut self,
        measurements: &[Measurement],
        known: &FittedCosts,
        cluster: &Cluster,
    ) -> Result<(), ProfileError> {
        let model = FittedModel::new(known.clone())?;
        let measured = measurements.iter();
        let measured =
            measured.filter(|measured| measured.peak_memory_bytes > 0 && !measured.held_out);
        let fullest: Vec<(f64, StrategyKind, f64)> = measured
            .filter_map(|measured| {
                let (kind, tokens) = fullest(measured, &model)?;
                Some((measured.peak_memory_bytes as f64, kind, tokens))
            })
            .collect();
        let mut kinds: Vec<StrategyKind> = fullest.iter().map(|&(_, kind, _)| kind).collect();
        kinds.sort();
        kinds.dedup();
        let mut tokens: Vec<u64> = fullest
            .iter()
            .map(|&(.., tokens)| tokens.to_bits())
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        if kinds.is_empty() || tokens.len() <= kinds.len() {
            return Ok(());
        }
        let row = |of: StrategyKind, tokens: f64| {
            let each = kinds
                .iter()
                .map(move |&kind| if kind == of { tokens } else { 0.0 });
            std::iter::once(1.0).chain(each).collect::<Vec<f64>>()
        };
        let relative = fullest.iter().map(|&(peak, kind, tokens)| {
            let row = row(kind, tokens).into_iter();
            row.map(|term| term / peak).collect()
        });
        let relative: Vec<Vec<f64>> = relative.collect();
        let fitted = non_negative(&relative, &vec![1.0; relative.len()])?;
        let lacking = fullest.iter().map(|&(peak, kind, tokens)| {
            let row = row(kind, tokens).into_iter().zip(&fitted);
            peak - row.map(|(term, bytes)| term * bytes).sum::<f64>()
        });
        let fixed = fitted[0] + lacking.fold(0.0, f64::max);
        let num_devices = f64::from(cluster.num_devices());
        self.model.sharded_bytes = self.model.sharded_bytes.min(fixed * num_devices);
        self.model.fixed_bytes = (fixed - self.model.sharded_bytes / num_devices).max(0.0);
        for (kind, &bytes) in kinds.iter().zip(&fitted[1..]) {
            let of_kind = self.costs.iter_mut().find(|costs| costs.kind() == *kind);
            if let Some(costs) = of_kind {
                *costs = KindProfile {
                    memory_bytes_per_token: bytes,
                    memory_bytes_per_token_by_degree: PerDegree::default(),
                    ..costs.clone()
                };
            }
        }
        Ok(())
    }
}

fn num_ranks(group: &MeasuredGroup) -> u32 {
    group.count * group.strategy.0.degree().get()
}

fn shape(group: &MeasuredGroup) -> GroupShape {
    GroupShape {
        strategy: group.strategy.0,
        span: if group.crosses_nodes {
            Span::ManyNodes
        } else {
            Span::OneNode
        },
    }
}

fn load(group: &MeasuredGroup) -> Load {
    Load::new(
        shape(group),
        group.seq_lens_tokens.iter().copied().map(Tokens),
    )
}

fn seconds(group: &MeasuredGroup, model: &FittedModel) -> f64 {
    let seq_lens = group.seq_lens_tokens.iter();
    let times = seq_lens.map(|&len| model.sequence_time(shape(group), Tokens(len)).get());
    times.sum()
}

fn slowest<'a>(measured: &'a Measurement, model: &FittedModel) -> Option<&'a MeasuredGroup> {
    let groups = measured.groups.iter();
    groups.max_by(|a, b| seconds(a, model).total_cmp(&seconds(b, model)))
}

/// The group whose devices hold most, and how many tokens each of them has.
fn fullest(measured: &Measurement, model: &FittedModel) -> Option<(StrategyKind, f64)> {
    let bytes = |group: &MeasuredGroup| {
        let tokens: u64 = group.seq_lens_tokens.iter().sum();
        model.memory_bytes_per_token(group.strategy.0) * tokens as f64
    };
    let groups = measured.groups.iter();
    let fullest = groups.max_by(|a, b| bytes(a).total_cmp(&bytes(b)))?;
    let tokens: u64 = fullest.seq_lens_tokens.iter().sum();
    let degree = f64::from(fullest.strategy.0.degree().get());
    Some((fullest.strategy.0.kind(), tokens as f64 / degree))
}

/// Fitted costs, with those of kinds and exchanges that were not measured as they were known.
fn with_unmeasured(mut fitted: FittedCosts, known: &FittedCosts) -> FittedCosts {
    for (kind, known) in &known.kinds {
        let costs = fitted.kinds.entry(*kind).or_insert_with(|| known.clone());
        if costs.exchange_s_per_token.is_empty() {
            costs
                .exchange_s_per_token
                .clone_from(&known.exchange_s_per_token);
        }
        if costs.many_nodes_exchange_s_per_token.is_empty() {
            let table = &known.many_nodes_exchange_s_per_token;
            costs.many_nodes_exchange_s_per_token.clone_from(table);
        }
    }
    fitted
}

fn report(measurements: &[Measurement]) -> FitReport {
    let errors = |held_out: bool| {
        let of = measurements
            .iter()
            .filter(move |measured| measured.held_out == held_out);
        of.map(|measured| (measured.predicted_s / measured.measured_s - 1.0).abs())
    };
    let mean = |held_out: bool| {
        let num = errors(held_out).count();
        (num > 0).then(|| errors(held_out).sum::<f64>() / num as f64)
    };
    let fitted_error = mean(false).unwrap_or(0.0);
    let runs = measurements.iter();
    FitReport {
        fitted_error,
        held_out_error: mean(true),
        held_out_worst_error: errors(true).reduce(f64::max),
        expected_error: mean(true).unwrap_or(fitted_error),
        noise: None,
        noise_without_drift: None,
        measuring_s: runs.map(|run| f64::from(run.runs) * run.measured_s).sum(),
    }
}
