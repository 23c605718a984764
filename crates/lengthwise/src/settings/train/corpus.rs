//! `[data]` and `[batch]`: the corpus, and how much of it makes a step.

use std::env;
use std::path::{Path, PathBuf};

use lengthwise_core::Tokens;
use lengthwise_core::limits::{BATCH_SEQUENCES, BATCH_TOKENS};
use lengthwise_data::records::{CorruptRows, Fields};
use lengthwise_data::{BatchSize, CutRule, Overlong};

use super::sources::{Source, sources};
use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// Files below a directory that hold text.
const EXTENSIONS: [&str; 8] = [
    "txt",
    "md",
    "jsonl",
    "txt.gz",
    "txt.zst",
    "jsonl.gz",
    "jsonl.zst",
    "parquet",
];

/// Those whose records have fields.
const RECORD_EXTENSIONS: [&str; 4] = ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"];

/// What is trained on.
#[derive(Debug)]
pub struct Data {
    /// The paths of all sources.
    pub paths: Setting<Vec<PathBuf>>,
    /// Where documents come from; at least one.
    pub sources: Vec<Source>,
    /// Which fields of records are meant where a source says nothing else.
    pub fields: Fields,
    /// Which files below a directory belong to it.
    pub extensions: Vec<String>,
    /// What becomes of rows that are no record.
    pub corrupt: CorruptRows,
    /// The template of conversations, where it is not that of the model.
    pub chat_template: Option<Setting<PathBuf>>,
    /// What documents become.
    pub cut: CutRule,
    /// Of the order of sequences.
    pub seed: u64,
}

/// The corpus.
pub fn data(reader: &mut Reader<'_>, context: &Setting<Tokens>) -> Result<Data, Failure> {
    let (paths, sources, fields) = sources(reader)?;
    let mut chat_template = reader.optional::<PathBuf>("data.chat_template")?;
    if let Some(template) = &mut chat_template {
        let has_messages = |source: &Source| source.fields.may_have_messages();
        template.must(
            sources.iter().any(has_messages),
            "there are no conversations to write with it",
            "name the field of their messages with data.messages, or data.prompt and data.completion",
        )?;
        template.value = reader.path(template, &template.value)?;
    }
    let corrupt = reader.get("data.corrupt", CorruptRows::default())?.value;
    let is_masked = sources.iter().all(|source| source.fields.is_masked());
    let extensions = match is_masked {
        true => &RECORD_EXTENSIONS[..],
        false => &EXTENSIONS,
    };
    let extensions: Vec<String> = extensions.iter().map(|&one| one.to_owned()).collect();
    let extensions = reader.get("data.extensions", extensions)?;
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
    Ok(Data {
        paths,
        sources,
        fields,
        extensions: extensions.value,
        corrupt,
        chat_template,
        cut: rule,
        seed,
    })
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
