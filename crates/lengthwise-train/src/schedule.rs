//! The learning rate over time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::OptimizerConfig;

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls by half a cosine (Loshchilov & Hutter, 2017).
    Cosine {
        /// The rate of the last step.
        min_learning_rate: f64,
    },
    /// It falls in a straight line.
    Linear {
        /// The rate of the last step.
        min_learning_rate: f64,
    },
    /// It stays, and falls by half a cosine in the last steps: warm-up, stable, decay (Hu et al., 2024).
    WarmupStableDecay {
        /// The rate of the last step.
        min_learning_rate: f64,
        /// Steps in which it falls.
        decay_steps: u64,
    },
}

impl Schedule {
    /// The smallest learning rate after the warm-up; 0 where it never falls.
    pub fn min_learning_rate(self) -> f64 {
        match self {
            Schedule::Constant => 0.0,
            Schedule::Cosine { min_learning_rate }
            | Schedule::Linear { min_learning_rate }
            | Schedule::WarmupStableDecay {
                min_learning_rate, ..
            } => min_learning_rate,
        }
    }

    /// The part that is left of the way from the smallest learning rate to the largest, at a step after the warm-up.
    fn part(self, step: u64, warmup_steps: u64, steps: u64) -> f64 {
        let progress = |decay_steps: u64| {
            let stable = steps.saturating_sub(decay_steps);
            let gone = step.saturating_sub(stable) as f64;
            (gone / decay_steps.max(1) as f64).min(1.0)
        };
        let decay_steps = steps.saturating_sub(warmup_steps);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine { .. } => half_cosine(progress(decay_steps)),
            Schedule::Linear { .. } => 1.0 - progress(decay_steps),
            Schedule::WarmupStableDecay { decay_steps, .. } => half_cosine(progress(decay_steps)),
        }
    }
}

/// `cosine to 0.001`, or `wsd to 0 in 100 steps`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Constant => f.write_str("constant"),
            Schedule::Cosine { min_learning_rate } => write!(f, "cosine to {min_learning_rate}"),
            Schedule::Linear { min_learning_rate } => write!(f, "linear to {min_learning_rate}"),
            Schedule::WarmupStableDecay {
                min_learning_rate,
                decay_steps,
            } => write!(f, "wsd to {min_learning_rate} in {decay_steps} steps"),
        }
    }
}

fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// The learning rate of a step, counted from 1, of a run of `steps`: a linear warm-up, then what the schedule says.
///
/// The schedules of transformers give it for the same number, which they count from 0: they begin with a learning rate of 0.
pub fn learning_rate(config: &OptimizerConfig, step: u64, steps: u64) -> f64 {
    if step <= config.warmup_steps {
        return config.learning_rate * step as f64 / config.warmup_steps as f64;
    }
    let least = config.schedule.min_learning_rate();
    least + (config.learning_rate - least) * config.schedule.part(step, config.warmup_steps, steps)
}

/// The factor that brings a gradient of this norm down to the largest one allowed; 1 where it is below.
pub fn clip_scale(norm: f64, clip_norm: Option<f64>) -> f64 {
    clip_norm.map_or(
        1.0,
        |largest| if norm > largest { largest / norm } else { 1.0 },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoDecay;

    const STEPS: u64 = 20;

    fn config(schedule: Schedule) -> OptimizerConfig {
        OptimizerConfig {
            learning_rate: 1.0,
            warmup_steps: 4,
            schedule,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: None,
        }
    }

    fn rates(schedule: Schedule) -> Vec<f64> {
        let config = config(schedule);
        (1..=STEPS)
            .map(|step| learning_rate(&config, step, STEPS))
            .collect()
    }

    const COSINE: Schedule = Schedule::Cosine {
        min_learning_rate: 0.1,
    };

    #[test]
    fn the_rate_rises_to_its_peak_and_ends_at_its_smallest() {
        let rates = rates(COSINE);
        assert_eq!(rates[..4], [0.25, 0.5, 0.75, 1.0]);
        assert!(rates[3..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!(
            (rates[11] - 0.55).abs() < 1e-12,
            "half-way is {}",
            rates[11]
        );
        assert!((rates[19] - 0.1).abs() < 1e-12);
        let no_warmup = OptimizerConfig {
            warmup_steps: 0,
            ..config(COSINE)
        };
        assert!((learning_rate(&no_warmup, 1, 1) - 0.1).abs() < 1e-12);
    }
    #[test]
    fn rates_are_those_of_transformers() {
        // The rates that transformers 5.24 gives after as many calls of its scheduler's `step`, of 20 steps with 4 of
        // warm-up and a learning rate of 1: get_cosine_with_min_lr_schedule_with_warmup with min_lr_rate = 0.1,
        // get_wsd_schedule with num_decay_steps = 6, get_linear_schedule_with_warmup and
        // get_constant_schedule_with_warmup.
        let cosine = [
            0.25,
            0.5,
            0.75,
            1.0,
            0.9913533761814537,
            0.9657457896300791,
            0.9241613255361454,
            0.8681980515339464,
            0.800006604858821,
            0.7222075445642904,
            0.6377906449072578,
            0.55,
            0.4622093550927423,
            0.3777924554357096,
            0.2999933951411791,
            0.23180194846605365,
            0.1758386744638546,
            0.13425421036992097,
            0.10864662381854631,
            0.1,
        ];
        let mut wsd = [1.0; 20];
        wsd[..3].copy_from_slice(&[0.25, 0.5, 0.75]);
        wsd[14..].copy_from_slice(&[
            0.9330127018922194,
            0.75,
            0.5,
            0.2500000000000001,
            0.06698729810778065,
            0.0,
        ]);
        let linear = [
            0.25, 0.5, 0.75, 1.0, 0.9375, 0.875, 0.8125, 0.75, 0.6875, 0.625, 0.5625, 0.5, 0.4375,
            0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625, 0.0,
        ];
        let mut constant = [1.0; 20];
        constant[..3].copy_from_slice(&[0.25, 0.5, 0.75]);
        let min_learning_rate = 0.0;
        for (schedule, expected) in [
            (COSINE, cosine),
            (
                Schedule::WarmupStableDecay {
                    min_learning_rate,
                    decay_steps: 6,
                },
                wsd,
            ),
            (Schedule::Linear { min_learning_rate }, linear),
            (Schedule::Constant, constant),
        ] {
            for (rate, expected) in rates(schedule).iter().zip(expected) {
                assert!(
                    (rate - expected).abs() < 1e-12,
                    "{schedule:?}: {rate}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn a_decay_may_take_all_steps_or_none_after_the_warm_up() {
        let wsd = |decay_steps| Schedule::WarmupStableDecay {
            min_learning_rate: 0.1,
            decay_steps,
        };
        assert_eq!(rates(wsd(16)), rates(COSINE));
        assert_eq!(rates(wsd(0)), rates(Schedule::Constant));
    }

    #[test]
    fn clipping_only_ever_shrinks() {
        assert_eq!(clip_scale(4.0, Some(1.0)), 0.25);
        assert_eq!(clip_scale(0.5, Some(1.0)), 1.0);
        assert_eq!(clip_scale(4.0, None), 1.0);
    }
}
