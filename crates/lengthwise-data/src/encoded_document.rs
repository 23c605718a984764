//! A document as ids.

/// The ids of a document, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedDocument {
    /// All of them, with what stands after the document.
    pub ids: Vec<u32>,
    /// Whether each id, as a target, is trained on; `None` where all are.
    pub is_label: Option<Vec<bool>>,
}

impl EncodedDocument {
    /// A document of which all is trained on.
    pub fn new(ids: Vec<u32>) -> Self {
        EncodedDocument {
            ids,
            is_label: None,
        }
    }
}
