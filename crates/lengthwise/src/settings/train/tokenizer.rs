//! `data.tokenizer` and what goes with it: how text becomes ids.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lengthwise_data::{
    ByteTokenizer, DataError, SpecialTokens, TextEncoder, TokenizerFile, TokenizerOptions,
};
use lengthwise_train::TextTokenizer;

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// The name of the tokenizer that no file is needed for.
const BYTES: &str = "bytes";

/// How text becomes ids.
#[derive(Clone)]
pub struct ChosenTokenizer {
    /// What makes ids.
    pub encoder: Arc<dyn TextEncoder>,
    /// The file it is of; `None` where ids are bytes.
    pub path: Option<PathBuf>,
    /// In words that tell it from others, wherever its file is.
    pub described: String,
}

impl std::fmt::Debug for ChosenTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChosenTokenizer").field(&self.path).finish()
    }
}

impl ChosenTokenizer {
    /// Whether ids are the bytes of the text.
    pub fn is_bytes(&self) -> bool {
        self.path.is_none()
    }

    /// Lets go of its tables, which may take as much memory as a small model, once all text is encoded, held-out text too.
    pub fn release(&mut self) {
        self.encoder = Arc::new(ByteTokenizer);
    }

    /// What goes with a model that is trained on its ids, where the model to go on from has not brought it.
    pub fn of_text(&self, from: Option<&Setting<PathBuf>>) -> Option<TextTokenizer> {
        let file = self.path.as_ref()?;
        let of_model = from.and_then(|from| TokenizerFile::find(&from.value));
        (of_model.as_ref() != Some(file)).then(|| TextTokenizer {
            file: file.clone(),
            first: self.encoder.before_text(),
            end_of_text: self.encoder.end_of_text(),
        })
    }

    /// In words, for errors.
    pub fn name(&self) -> String {
        match &self.path {
            Some(path) => format!("the tokenizer {}", path.display()),
            None => "text of bytes".to_owned(),
        }
    }
}

/// The tokenizer that is named, else that of the model to go on from, else bytes.
pub fn tokenizer(
    reader: &mut Reader<'_>,
    from: Option<&Setting<PathBuf>>,
) -> Result<ChosenTokenizer, Failure> {
    let named = reader.optional::<PathBuf>("data.tokenizer")?;
    let end_of_text = reader.optional::<String>("data.end_of_text")?;
    let special_tokens = reader.optional::<SpecialTokens>("data.special_tokens")?;
    let path = match &named {
        Some(named) if named.value == Path::new(BYTES) => None,
        Some(named) => Some(reader.path(named, &named.value)?),
        None => from.and_then(|from| TokenizerFile::find(&from.value)),
    };
    let Some(path) = path else {
        let given = end_of_text
            .as_ref()
            .map(|given| given.breaks("text of bytes ends with 256"));
        let given = given.or_else(|| {
            let given = special_tokens.as_ref()?;
            Some(given.breaks("text of bytes has no special tokens"))
        });
        return match given {
            Some(failure) => {
                Err(failure.hint("name a tokenizer with data.tokenizer, or leave it out"))
            }
            None => Ok(ChosenTokenizer {
                encoder: Arc::new(ByteTokenizer),
                path: None,
                described: ByteTokenizer.fingerprint(),
            }),
        };
    };
    let options = TokenizerOptions {
        end_of_text: end_of_text.as_ref().map(|given| given.value.clone()),
        special_tokens: special_tokens.map_or(SpecialTokens::default(), |given| given.value),
    };
    let opened = TokenizerFile::open(&path, &options);
    let opened = opened.map_err(|error| {
        let failure = match (&error, &end_of_text, &named, from) {
            (DataError::NoSuchToken { .. }, Some(given), _, _) => given.breaks(&error),
            (_, _, Some(named), _) => named.breaks(&error),
            (_, _, None, Some(from)) => from.breaks(&error),
            (_, _, None, None) => Failure::input(error.to_string()),
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let name = opened.path().file_name().unwrap_or_default();
    Ok(ChosenTokenizer {
        described: format!("{} {}", name.display(), opened.fingerprint()),
        path: Some(opened.path().to_owned()),
        encoder: Arc::new(opened),
    })
}
