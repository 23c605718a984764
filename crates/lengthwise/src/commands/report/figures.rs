//! What a run comes to in figures.

use super::run_file::Run;
use crate::metrics::StepMetrics;

/// Of a whole run. What its lines do not tell is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) num_steps: usize,
    pub(super) num_tokens: f64,
    pub(super) num_sequences: f64,
    /// Of all steps together.
    pub(super) measured_s: f64,
    pub(super) tokens_per_s: Option<f64>,
    pub(super) first_loss: Option<f64>,
    pub(super) last_loss: Option<f64>,
    /// Of held-out data.
    pub(super) last_validation: Option<f64>,
    pub(super) best_validation: Option<f64>,
    /// Of all evaluations of held-out data, which are in no step's time.
    pub(super) validation_s: f64,
    /// The mean of `|predicted - measured| / measured`.
    pub(super) prediction_error: Option<f64>,
    pub(super) mean_gap: Option<f64>,
    /// For plans, after the first step.
    pub(super) later_plan_wait_s: f64,
    pub(super) median_solve_s: Option<f64>,
    pub(super) measured_peak_memory_bytes: Option<u64>,
    pub(super) predicted_peak_memory_bytes: Option<u64>,
    pub(super) measured_peak_host_memory_bytes: Option<u64>,
    pub(super) predicted_peak_host_memory_bytes: Option<u64>,
    pub(super) groups_created: Option<u64>,
    pub(super) shares: Option<Shares>,
}

/// Parts of the time of all ranks; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares {
    pub(super) compute: f64,
    pub(super) exchange: f64,
    pub(super) wait: f64,
}

impl Figures {
    pub(super) fn of(run: &Run) -> Self {
        let steps = &run.steps;
        let sum = |figure: fn(&StepMetrics) -> f64| steps.iter().map(figure).sum::<f64>();
        let num_tokens = sum(|step| step.tokens as f64);
        let measured_s = sum(|step| step.took_s());
        let known = |figure: fn(&StepMetrics) -> Option<f64>| -> Vec<f64> {
            steps.iter().filter_map(figure).collect()
        };
        let errors = known(|step| {
            (step.took_s() > 0.0).then(|| (step.predicted_s - step.took_s()).abs() / step.took_s())
        });
        let losses = known(|step| step.loss);
        let validations = known(|step| step.validation.as_ref()?.loss);
        let mut solve_s = known(|step| step.solve_s);
        solve_s.sort_by(f64::total_cmp);
        Figures {
            num_steps: steps.len(),
            num_tokens,
            num_sequences: sum(|step| step.sequences as f64),
            measured_s,
            tokens_per_s: (measured_s > 0.0).then(|| num_tokens / measured_s),
            first_loss: losses.first().copied(),
            last_loss: losses.last().copied(),
            last_validation: validations.last().copied(),
            best_validation: validations.into_iter().min_by(f64::total_cmp),
            validation_s: (steps.iter())
                .filter_map(|step| step.validation.as_ref())
                .map(|one| one.measured_s)
                .sum(),
            prediction_error: mean(&errors),
            mean_gap: mean(&known(|step| step.gap)),
            later_plan_wait_s: steps.iter().skip(1).map(|step| step.plan_wait_s).sum(),
            median_solve_s: solve_s.get(solve_s.len().saturating_sub(1) / 2).copied(),
            measured_peak_memory_bytes: most(steps, |step| step.measured_peak_memory_bytes),
            predicted_peak_memory_bytes: most(steps, |step| step.predicted_peak_memory_bytes),
            measured_peak_host_memory_bytes: most(steps, |step| {
                step.measured_peak_host_memory_bytes
            }),
            predicted_peak_host_memory_bytes: most(steps, |step| {
                step.predicted_peak_host_memory_bytes
            }),
            groups_created: most(steps, |step| step.groups_created),
            shares: Shares::of(steps),
        }
    }
}

impl Shares {
    /// Over these steps; `None` where no time of ranks is known.
    pub(super) fn of(steps: &[StepMetrics]) -> Option<Self> {
        let sum = |column: fn(&StepMetrics) -> &[f64]| steps.iter().flat_map(column).sum::<f64>();
        let compute = sum(|step| &step.ranks.compute_s);
        let exchange = sum(|step| &step.ranks.exchange_s);
        let wait = sum(|step| &step.ranks.wait_s);
        let total = compute + exchange + wait;
        (total > 0.0).then(|| Shares {
            compute: compute / total,
            exchange: exchange / total,
            wait: wait / total,
        })
    }
}

fn mean(figures: &[f64]) -> Option<f64> {
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

fn most(steps: &[StepMetrics], figure: fn(&StepMetrics) -> Option<u64>) -> Option<u64> {
    steps.iter().filter_map(figure).max()
}

#[cfg(test)]
mod tests {
    use super::super::run_file::tests::step;
    use super::*;
    use crate::metrics::{RankMetrics, ValidationMetrics};

    fn run() -> Run {
        let timed = |at, predicted_s, measured_s, plan_wait_s| StepMetrics {
            loss: (at != 2).then_some(6.0 - at as f64),
            validation: (at != 1).then(|| ValidationMetrics {
                loss: Some(2.0 + at as f64),
                measured_s: 0.25,
                ..ValidationMetrics::default()
            }),
            tokens: 100,
            sequences: 4,
            predicted_s,
            plan_wait_s,
            ranks: RankMetrics {
                compute_s: vec![1.0, 0.5],
                exchange_s: vec![0.25, 0.25],
                wait_s: vec![0.0, 0.5],
            },
            ..step(at, measured_s)
        };
        Run {
            name: "a".to_owned(),
            path: std::path::PathBuf::new(),
            steps: vec![
                timed(1, 1.0, 2.0, 0.5),
                timed(2, 3.0, 2.0, 0.0),
                timed(3, 1.0, 1.0, 0.25),
            ],
        }
    }

    #[test]
    fn figures_are_those_of_the_steps() {
        let figures = Figures::of(&run());
        assert_eq!((figures.num_steps, figures.num_tokens), (3, 300.0));
        assert_eq!(figures.tokens_per_s, Some(60.0));
        assert_eq!(
            (figures.first_loss, figures.last_loss),
            (Some(5.0), Some(3.0))
        );
        assert_eq!(
            (figures.last_validation, figures.best_validation),
            (Some(5.0), Some(4.0))
        );
        assert_eq!(figures.validation_s, 0.5);
        let error = figures.prediction_error.unwrap();
        assert!((error - 1.0 / 3.0).abs() < 1e-12, "{error}");
        assert_eq!((figures.later_plan_wait_s, figures.mean_gap), (0.25, None));
        let shares = figures.shares.unwrap();
        assert!((shares.compute - 0.6).abs() < 1e-12);
        assert!((shares.compute + shares.exchange + shares.wait - 1.0).abs() < 1e-12);
    }
}
