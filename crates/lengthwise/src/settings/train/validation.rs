//! `data.validation`: what is held out of training, and how often its loss is computed.

use std::num::NonZero;
use std::path::PathBuf;

use lengthwise_core::Tokens;
use lengthwise_core::limits::STEPS;

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// What a run is validated on.
#[derive(Debug)]
pub struct ValidationSettings {
    /// The held-out files.
    pub paths: Setting<Vec<PathBuf>>,
    /// How much of them counts; `None` for all.
    pub tokens: Option<Tokens>,
    /// After so many steps each, and after the last.
    pub every: NonZero<u64>,
}

/// The held-out data, if there is some, of a run of so many steps.
pub fn validation(
    reader: &mut Reader<'_>,
    steps: u64,
) -> Result<Option<ValidationSettings>, Failure> {
    let Some(mut paths) = reader.optional::<Vec<PathBuf>>("data.validation")? else {
        let tokens = reader.optional::<Tokens>("data.validation_tokens")?;
        let tokens = tokens.map(|setting| setting.breaks(NO_EFFECT));
        let every = reader.optional::<u64>("train.validate_every")?;
        let every = every.map(|setting| setting.breaks(NO_EFFECT));
        return match tokens.or(every) {
            Some(failure) => Err(failure.hint("name held-out files with data.validation")),
            None => Ok(None),
        };
    };
    paths.must(
        !paths.value.is_empty(),
        "there must be a path",
        "name files that are not trained on, or leave it out",
    )?;
    let expanded: Result<_, Failure> = (paths.value.iter())
        .map(|path| reader.path(&paths, path))
        .collect();
    paths.value = expanded?;
    let tokens = reader.optional::<Tokens>("data.validation_tokens")?;
    if let Some(tokens) = &tokens {
        tokens.must(
            tokens.value.0 > 0,
            "it must be at least 1",
            "leave it out to validate on all that data.validation holds",
        )?;
    }
    let every = reader.get("train.validate_every", steps.div_ceil(10))?;
    every.must(
        STEPS.holds(every.value),
        format!("it must be {STEPS}"),
        "the loss of held-out data is computed after so many steps each, and after the last",
    )?;
    let every = NonZero::new(every.value).unwrap_or(NonZero::<u64>::MIN);
    Ok(Some(ValidationSettings {
        tokens: tokens.map(|tokens| tokens.value),
        paths,
        every,
    }))
}

const NO_EFFECT: &str = "it has no effect without data.validation";
