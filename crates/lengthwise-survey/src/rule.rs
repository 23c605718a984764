//! How thoroughly costs are measured.

use std::time::Duration;

/// How thoroughly costs are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SurveyRule {
    /// The time that measuring should take; it may take a run longer.
    pub time_budget: Duration,
    /// Measuring ends where this relative error of typical micro-batches is expected.
    pub target_error: f64,
    /// Micro-batches are measured no more often than this to fit costs.
    pub most_rounds: u32,
    /// Whether every degree is measured, rather than powers of two.
    pub every_degree: bool,
    /// How many mixed micro-batches are held against the fit.
    pub num_held_out: u32,
    /// No run is started that may take longer.
    pub longest_run: Duration,
}

impl SurveyRule {
    /// Before training starts: some seconds.
    pub const BRIEF: SurveyRule = SurveyRule {
        time_budget: Duration::from_secs(4),
        target_error: 0.02,
        most_rounds: 24,
        every_degree: false,
        num_held_out: 0,
        longest_run: Duration::from_millis(1500),
    };

    /// For a profile, within a time budget.
    pub fn thorough(time_budget: Duration) -> Self {
        SurveyRule {
            time_budget,
            target_error: 0.005,
            most_rounds: 400,
            every_degree: true,
            num_held_out: 12,
            longest_run: time_budget / 12,
        }
    }

    /// The same with that many times the time.
    #[must_use]
    pub fn slower_by(self, factor: f64) -> Self {
        SurveyRule {
            time_budget: self.time_budget.mul_f64(factor),
            longest_run: self.longest_run.mul_f64(factor),
            ..self
        }
    }
}
