//! The learning rate over time.

use crate::OptimizerConfig;

/// The learning rate of a step, counted from 1, of a run of `steps`: linear warm-up, then half a cosine
/// (Loshchilov & Hutter, 2017) that ends at the smallest rate with the last step.
pub fn learning_rate(config: &OptimizerConfig, step: u64, steps: u64) -> f64 {
    if step <= config.warmup_steps {
        return config.learning_rate * step as f64 / config.warmup_steps as f64;
    }
    let decaying = steps.saturating_sub(config.warmup_steps).max(1);
    let progress = ((step - config.warmup_steps) as f64 / decaying as f64).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * cosine
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

    #[test]
    fn the_rate_rises_to_its_peak_and_ends_at_its_smallest() {
        let config = OptimizerConfig {
            learning_rate: 1.0,
            min_learning_rate: 0.1,
            warmup_steps: 4,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: None,
        };
        let rates: Vec<f64> = (1..=20)
            .map(|step| learning_rate(&config, step, 20))
            .collect();
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
            ..config
        };
        assert!((learning_rate(&no_warmup, 1, 1) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn clipping_only_ever_shrinks() {
        assert_eq!(clip_scale(4.0, Some(1.0)), 0.25);
        assert_eq!(clip_scale(0.5, Some(1.0)), 1.0);
        assert_eq!(clip_scale(4.0, None), 1.0);
    }
}
