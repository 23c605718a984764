//! `[data]` and `[batch]`: the corpus, and how much of it makes a step.

use std::env;
use std::path::{Path, PathBuf};

use lengthwise_core::Tokens;
use lengthwise_core::limits::{BATCH_SEQUENCES, BATCH_TOKENS};
use lengthwise_data::{BatchSize, CutRule, Overlong};

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// Paths, extensions, what documents become, and the seed of their order.
pub type Data = (Setting<Vec<PathBuf>>, Vec<String>, CutRule, u64);

/// The corpus.
pub fn data(reader: &mut Reader<'_>, context: &Setting<Tokens>) -> Result<Data, Failure> {
    let paths = reader.required::<Vec<PathBuf>>("data.paths")?;
    paths.must(
        !paths.value.is_empty(),
        "there must be a path",
        "name text files, JSONL files, or directories of them",
    )?;
    let extensions = reader.get(
        "data.extensions",
        ["txt", "md", "jsonl"].map(str::to_owned).to_vec(),
    )?;
    let named = extensions
        .value
        .iter()
        .all(|extension| !extension.trim_matches('.').is_empty());
    extensions.must(
        named && !extensions.value.is_empty(),
        "there must be an extension, and none may be empty",
        "a file without extension can be named in data.paths itself",
    )?;
    let overlong = reader.get("data.overlong", Overlong::default())?;
    let min_tokens = reader.get("data.min_tokens", Tokens(1))?;
    min_tokens.must(
        min_tokens.value <= context.value,
        format!(
            "no sequence is longer than model.context = {}",
            context.value
        ),
        "raise model.context, or lower data.min_tokens",
    )?;
    let rule = CutRule {
        context: context.value,
        overlong: overlong.value,
        min_tokens: min_tokens.value,
    };
    let seed = reader.get("data.seed", 0)?.value;
    Ok((paths, extensions.value, rule, seed))
}

/// Where ids are kept: what is named, or a directory of the user's caches.
pub fn cache(reader: &mut Reader<'_>) -> Result<Option<PathBuf>, Failure> {
    if let Some(cache) = reader.optional::<PathBuf>("data.cache")? {
        let directory = reader.path(&cache, &cache.value)?;
        let there = directory.ancestors().find(|path| path.exists());
        cache.must(
            there.is_none_or(Path::is_dir),
            format!("{} is no directory", there.unwrap_or(&directory).display()),
            "name a directory; it is made where there is none",
        )?;
        return Ok(Some(directory));
    }
    let variable = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let caches = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA").filter(|_| cfg!(windows)))
        .or_else(|| Some(env::home_dir()?.join(".cache")));
    Ok(caches.map(|caches| caches.join("lengthwise")))
}

/// When a batch is full.
pub fn batch(reader: &mut Reader<'_>) -> Result<BatchSize, Failure> {
    const HINT: &str = "give one of batch.tokens and batch.sequences, 1 or more";
    let tokens = reader.optional::<Tokens>("batch.tokens")?;
    let sequences = reader.optional::<usize>("batch.sequences")?;
    if let (Some(tokens), Some(sequences)) = (&tokens, &sequences)
        && tokens.place.layer() == sequences.place.layer()
    {
        let rule = format!("batch.tokens = {} is given too", tokens.written);
        return Err(sequences.breaks(rule).hint(HINT));
    }
    // The one that was given closer to the command line counts.
    let sequences = sequences.filter(|sequences| {
        tokens
            .as_ref()
            .is_none_or(|tokens| sequences.place.layer() > tokens.place.layer())
    });
    if let Some(sequences) = sequences {
        sequences.must(
            BATCH_SEQUENCES.holds(sequences.value as u64),
            format!("it must be {BATCH_SEQUENCES}"),
            HINT,
        )?;
        return Ok(BatchSize::Sequences(sequences.value));
    }
    let tokens = match tokens {
        Some(tokens) => tokens,
        None => reader.get("batch.tokens", Tokens(65_536))?,
    };
    tokens.must(
        BATCH_TOKENS.holds(tokens.value.0),
        format!("it must be {BATCH_TOKENS}"),
        HINT,
    )?;
    Ok(BatchSize::Tokens(tokens.value))
}
