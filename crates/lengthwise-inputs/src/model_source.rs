//! The model that costs follow from, by name or as a file describes it.

use std::path::Path;

use lengthwise_core::Tokens;
use lengthwise_cost::{Architecture, ModelKind};

use crate::InputError;

/// A model that is known by name, or described by a file.
#[derive(Clone, Debug)]
pub(crate) enum ModelSource {
    Known(ModelKind),
    File(Box<Architecture>),
}

impl ModelSource {
    /// The model of a name, or of a file in TOML.
    pub(crate) fn named(text: &str) -> Result<Self, InputError> {
        let path = Path::new(text);
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let architecture =
                Architecture::read(path).map_err(|error| InputError::hardware(path, error))?;
            return Ok(ModelSource::File(Box::new(architecture)));
        }
        match text.parse() {
            Ok(kind) => Ok(ModelSource::Known(kind)),
            Err(_) => Err(InputError::UnknownModel {
                name: text.to_owned(),
            }),
        }
    }

    /// The model, for sequences up to `context`.
    pub(crate) fn architecture(&self, context: Tokens) -> Architecture {
        match self {
            ModelSource::Known(kind) => kind.architecture(context.0),
            ModelSource::File(architecture) => (**architecture).clone().with_context(context.0),
        }
    }
}
