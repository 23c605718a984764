//! What is drawn of a run step by step, and whose plans are kept.

use std::collections::BTreeSet;

use serde::Serialize;

use super::figures::Shares;
use super::timeline::Timeline;
use crate::metrics::StepMetrics;

/// More steps are averaged: a screen has no more columns.
const MAX_POINTS: usize = 1000;

/// Plans that are kept of a run, so that the page of a long one stays small.
const MAX_PLANS: usize = 60;

/// Columns of figures, one entry a point; fields are the keys that the page's scripts read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Series {
    /// The first and the last step of each point.
    pub(super) steps: Vec<(u64, u64)>,
    pub(super) loss: Vec<Option<f64>>,
    /// Of held-out data, the last of each point.
    pub(super) validation_loss: Vec<Option<f64>>,
    pub(super) gradient_norm: Vec<Option<f64>>,
    pub(super) predicted_s: Vec<f64>,
    pub(super) measured_s: Vec<f64>,
    pub(super) tokens: Vec<f64>,
    pub(super) sequences: Vec<f64>,
    /// Parts of the ranks' time: compute, exchange, wait.
    pub(super) shares: Vec<Option<[f64; 3]>>,
    /// Position in the plans of the one that belongs to each point.
    pub(super) plan: Vec<Option<usize>>,
}

/// The points of a run and the plans that belong to some of them.
pub(super) fn series(steps: &[StepMetrics], asked: Option<u64>) -> (Series, Vec<Timeline>) {
    let points = points(steps.len());
    let kept = kept_plans(steps, points.len(), asked);
    let mut plans = Vec::new();
    let mut series = Series::default();
    for point in points {
        let plan = kept
            .range(point.clone())
            .find_map(|&at| Timeline::of(&steps[at]));
        series.plan.push(plan.map(|plan| {
            plans.push(plan);
            plans.len() - 1
        }));
        let steps = &steps[point];
        let mean = |figure: fn(&StepMetrics) -> f64| {
            steps.iter().map(figure).sum::<f64>() / steps.len() as f64
        };
        let known_mean = |figure: fn(&StepMetrics) -> Option<f64>| {
            let known: Vec<f64> = steps.iter().filter_map(figure).collect();
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            mean.is_finite().then_some(mean)
        };
        series.loss.push(known_mean(|step| step.loss));
        series
            .gradient_norm
            .push(known_mean(|step| step.gradient_norm));
        let validations = steps.iter().filter_map(|step| step.validation.as_ref());
        series
            .validation_loss
            .push(validations.filter_map(|one| one.loss).next_back());
        let first_and_last = (steps[0].step, steps[steps.len() - 1].step);
        series.steps.push(first_and_last);
        series.predicted_s.push(mean(|step| step.predicted_s));
        series.measured_s.push(mean(|step| step.took_s()));
        series.tokens.push(mean(|step| step.tokens as f64));
        series.sequences.push(mean(|step| step.sequences as f64));
        let shares = Shares::of(steps);
        series
            .shares
            .push(shares.map(|shares| [shares.compute, shares.exchange, shares.wait]));
    }
    (series, plans)
}

/// Near-equal ranges of steps, none of them empty.
fn points(num_steps: usize) -> Vec<std::ops::Range<usize>> {
    let num = num_steps.min(MAX_POINTS);
    (0..num)
        .map(|point| num_steps * point / num..num_steps * (point + 1) / num)
        .collect()
}

/// Positions of steps spread over the run, with the slowest, the one predicted worst, and the one asked for.
fn kept_plans(steps: &[StepMetrics], num_points: usize, asked: Option<u64>) -> BTreeSet<usize> {
    let last = steps.len() - 1;
    let num = MAX_PLANS.min(num_points);
    let spread = (0..num).map(|plan| (last * plan).checked_div(num - 1).unwrap_or(0));
    let mut kept: BTreeSet<usize> = spread.collect();
    let most = |figure: fn(&StepMetrics) -> f64| {
        let all = steps.iter().enumerate();
        all.max_by(|a, b| figure(a.1).total_cmp(&figure(b.1)))
            .map(|(at, _)| at)
    };
    kept.extend(most(|step| step.took_s()));
    kept.extend(most(|step| (step.predicted_s - step.took_s()).abs()));
    if let Some(asked) = asked.and_then(|asked| steps.iter().position(|step| step.step == asked)) {
        // Its point may hold others, of which the first would be shown.
        let point = points(steps.len())
            .into_iter()
            .find(|point| point.contains(&asked));
        kept.retain(|at| point.as_ref().is_none_or(|point| !point.contains(at)));
        kept.insert(asked);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::run_file::tests::step;
    use super::*;
    use crate::metrics::{MicroBatchMetrics, ValidationMetrics};

    fn steps(num: u64) -> Vec<StepMetrics> {
        let with_plan = |at: u64| StepMetrics {
            loss: Some(at as f64),
            gradient_norm: (at > 1).then_some(2.0 * at as f64),
            validation: at.is_multiple_of(5).then(|| ValidationMetrics {
                loss: Some(3.0 * at as f64),
                ..ValidationMetrics::default()
            }),
            plan: vec![MicroBatchMetrics::default()],
            ..step(at, if at == 777 { 9.0 } else { 1.0 })
        };
        (1..=num).map(with_plan).collect()
    }

    #[test]
    fn short_runs_are_drawn_step_by_step() {
        let (series, plans) = series(&steps(5), None);
        assert_eq!(series.steps, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(series.loss, [1.0, 2.0, 3.0, 4.0, 5.0].map(Some));
        let norms = [None, Some(4.0), Some(6.0), Some(8.0), Some(10.0)];
        assert_eq!(series.gradient_norm, norms);
        assert_eq!(series.validation_loss, [None, None, None, None, Some(15.0)]);
        assert_eq!(plans.len(), 5);
        assert_eq!(series.plan, [0, 1, 2, 3, 4].map(Some));
    }

    #[test]
    fn long_runs_are_averaged_and_keep_the_plans_that_matter() {
        let (series, plans) = series(&steps(10_000), Some(5004));
        assert_eq!(series.steps.len(), MAX_POINTS);
        assert_eq!(series.steps[0], (1, 10));
        assert_eq!(series.loss[0], Some(5.5));
        assert_eq!(series.gradient_norm[0], Some(12.0));
        assert_eq!(series.validation_loss[0], Some(30.0));
        assert_eq!(series.steps[MAX_POINTS - 1].1, 10_000);
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        for name in ["step 1", "step 777", "step 5004", "step 10000"] {
            assert!(names.contains(&name), "{name} is not kept");
        }
        assert!(plans.len() <= MAX_PLANS + 3);
        let shown = series.plan[500].map(|plan| names[plan]);
        assert_eq!(shown, Some("step 5004"));
    }

    #[test]
    fn one_step_is_a_run() {
        let (series, plans) = series(&steps(1), Some(99));
        assert_eq!((series.steps.len(), plans.len()), (1, 1));
    }
}
