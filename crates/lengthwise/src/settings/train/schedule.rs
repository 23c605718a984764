//! `train.schedule`: the learning rate over the steps.

use std::fmt;
use std::str::FromStr;

use lengthwise_train::Schedule;

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// A schedule by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleName {
    /// The learning rate stays.
    Constant,
    /// It falls by half a cosine.
    Cosine,
    /// It falls in a straight line.
    Linear,
    /// It falls in the last steps only.
    Wsd,
}

impl ScheduleName {
    const ALL: [(ScheduleName, &'static str); 4] = [
        (ScheduleName::Constant, "constant"),
        (ScheduleName::Cosine, "cosine"),
        (ScheduleName::Linear, "linear"),
        (ScheduleName::Wsd, "wsd"),
    ];
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::ALL.iter();
        names
            .filter(|(one, _)| one == self)
            .try_for_each(|(_, name)| f.write_str(name))
    }
}

impl FromStr for ScheduleName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let named = Self::ALL.into_iter().find(|(_, name)| *name == text);
        named.map(|(one, _)| one).ok_or(())
    }
}

/// What the learning rate does after `warmup_steps`, and the smallest one where it was read.
pub fn schedule(
    reader: &mut Reader<'_>,
    steps: u64,
    warmup_steps: u64,
    learning_rate: &Setting<f64>,
) -> Result<(Schedule, Option<Setting<f64>>), Failure> {
    let name = reader.get("train.schedule", ScheduleName::Cosine)?;
    let no_effect = format!("it has no effect with train.schedule = {}", name.written);
    if name.value != ScheduleName::Wsd
        && let Some(setting) = reader.optional::<u64>("train.decay_steps")?
    {
        let hint = "leave it out, or choose the schedule \"wsd\"";
        return Err(setting.breaks(no_effect).hint(hint));
    }
    if name.value == ScheduleName::Constant {
        if let Some(setting) = reader.optional::<f64>("train.min_learning_rate")? {
            let hint = "leave it out, or choose a schedule by which the learning rate falls";
            return Err(setting.breaks(no_effect).hint(hint));
        }
        return Ok((Schedule::Constant, None));
    }
    let least = reader.get("train.min_learning_rate", learning_rate.value / 10.0)?;
    least.must(
        (0.0..=learning_rate.value).contains(&least.value),
        format!(
            "it must be 0 to train.learning_rate = {}",
            learning_rate.written
        ),
        "the learning rate falls from train.learning_rate to it",
    )?;
    let min_learning_rate = least.value;
    let schedule = match name.value {
        ScheduleName::Constant => Schedule::Constant,
        ScheduleName::Cosine => Schedule::Cosine { min_learning_rate },
        ScheduleName::Linear => Schedule::Linear { min_learning_rate },
        ScheduleName::Wsd => {
            let room = steps - warmup_steps;
            let decay_steps = reader.get("train.decay_steps", steps.div_ceil(10).min(room))?;
            decay_steps.must(
                decay_steps.value <= room,
                format!(
                    "train.steps = {steps} leaves {room} behind train.warmup_steps = {warmup_steps}"
                ),
                "leave it out to decay in the last tenth of the steps",
            )?;
            Schedule::WarmupStableDecay {
                min_learning_rate,
                decay_steps: decay_steps.value,
            }
        }
    };
    Ok((schedule, Some(least)))
}
