//! `[train]`: steps, optimiser and schedule.

use std::time::Duration;

use lengthwise_comm::WorldOptions;
use lengthwise_core::Seconds;
use lengthwise_core::limits::{DURATION_S, STEPS, is_waitable};
use lengthwise_core::words::shown;
use lengthwise_train::{NoDecay, OptimizerConfig};

use super::schedule::schedule;
use crate::failure::Failure;
use crate::settings::reader::Reader;
use crate::settings::value::ClipNorm;

/// How many steps there are, and what each does.
pub fn optimizer(reader: &mut Reader<'_>) -> Result<(u64, OptimizerConfig), Failure> {
    let steps = reader.get("train.steps", 100u64)?;
    steps.must(
        STEPS.holds(steps.value),
        format!("it must be {STEPS}"),
        "each step trains on one global batch",
    )?;
    let learning_rate = reader.get("train.learning_rate", 1e-3)?;
    learning_rate.must(
        learning_rate.value > 0.0,
        "a learning rate must be above 0",
        "1e-3 suits small models, 3e-4 larger ones",
    )?;
    let warmup_steps = reader.get("train.warmup_steps", steps.value.div_ceil(10).min(1000))?;
    warmup_steps.must(
        warmup_steps.value <= steps.value,
        format!("the warm-up can't outlast train.steps = {}", steps.value),
        "leave it out to warm up over a tenth of the steps",
    )?;
    let (schedule, min_learning_rate) =
        schedule(reader, steps.value, warmup_steps.value, &learning_rate)?;
    let weight_decay = reader.get("train.weight_decay", 0.1)?;
    weight_decay.must(
        weight_decay.value >= 0.0,
        "it must be 0 or more",
        "0 switches it off",
    )?;
    let no_decay = no_decay(reader)?;
    let betas = reader.get("train.betas", vec![0.9, 0.95])?;
    let &[beta1, beta2] = betas.value.as_slice() else {
        return Err(betas
            .breaks("there must be two numbers")
            .hint("like [0.9, 0.95]"));
    };
    let decays = [beta1, beta2].iter().all(|beta| (0.0..1.0).contains(beta));
    betas.must(
        decays,
        "both must be 0 or more and below 1",
        "like [0.9, 0.95]",
    )?;
    let epsilon = reader.get("train.epsilon", 1e-8)?;
    epsilon.must(
        epsilon.value > 0.0,
        "it must be above 0",
        "1e-8 is customary",
    )?;
    let clip_norm = reader.get("train.clip_norm", ClipNorm(Some(1.0)))?;
    clip_norm.must(
        clip_norm.value.0.is_none_or(|norm| norm > 0.0),
        "it must be above 0",
        r#"write "none" to leave gradients as they are"#,
    )?;
    let config = OptimizerConfig {
        learning_rate: learning_rate.value,
        warmup_steps: warmup_steps.value,
        schedule,
        beta1,
        beta2,
        epsilon: epsilon.value,
        weight_decay: weight_decay.value,
        no_decay,
        clip_norm: clip_norm.value.0,
    };
    // What holds as it is written need not hold as it is used.
    config.check().map_err(|error| {
        let setting = match error.key {
            "learning_rate" => &learning_rate,
            "min_learning_rate" => min_learning_rate.as_ref().unwrap_or(&learning_rate),
            "epsilon" => &epsilon,
            "weight_decay" => &weight_decay,
            "clip_norm" => return clip_norm.breaks(error),
            _ => return betas.breaks(error),
        };
        setting.breaks(error)
    })?;
    Ok((steps.value, config))
}

/// What weight decay leaves alone.
fn no_decay(reader: &mut Reader<'_>) -> Result<NoDecay, Failure> {
    let usual = ["norm", "bias"].map(str::to_owned).to_vec();
    let names = reader.get("train.no_decay", usual)?;
    let mut no_decay = NoDecay {
        norm: false,
        bias: false,
        embedding: false,
    };
    for name in &names.value {
        match name.as_str() {
            "norm" => no_decay.norm = true,
            "bias" => no_decay.bias = true,
            "embedding" => no_decay.embedding = true,
            _ => {
                let rule = format!("{} is no kind of parameters", shown(name));
                let hint = r#"name some of "norm", "bias" and "embedding""#;
                return Err(names.breaks(rule).hint(hint));
            }
        }
    }
    Ok(no_decay)
}

/// For how long a rank waits in one call for others.
pub fn longest_wait(reader: &mut Reader<'_>) -> Result<Duration, Failure> {
    let usual = WorldOptions::LONGEST_WAIT.as_secs_f64();
    let wait = reader.get("train.longest_wait_s", usual)?;
    let seconds = Seconds::new(wait.value).unwrap_or_default();
    wait.must(
        is_waitable(seconds),
        format!("it must be above 0 and at most {DURATION_S}"),
        "it is how long a rank waits for the others before the run fails, in seconds",
    )?;
    Ok(Duration::from_secs_f64(seconds.get()))
}
