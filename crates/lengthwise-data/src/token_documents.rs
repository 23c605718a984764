//! The documents of files of ids: those that users name, and those that are kept of other files.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;

use lengthwise_outputs::FileIdentity;

use crate::files::{Files, has_extension};
use crate::token_cache::{
    BackgroundCheck, DocumentSource, EncodingProgress, HashedFiles, TokenCache,
};
use crate::token_files::{TokenFiles, prefix_of, with_ending};
use crate::{DataError, TokenSequence};

/// The documents of several files of ids.
#[derive(Debug)]
pub struct TokenDocuments {
    files: Vec<TokenFiles>,
    /// For each file the documents up to its end.
    ends: Vec<usize>,
    vocab_size: usize,
    num_repeated_files: u64,
    check: Option<BackgroundCheck>,
}

/// The documents of some paths, and what it took to open them.
#[derive(Debug)]
pub struct OpenedTokens {
    /// The documents.
    pub documents: TokenDocuments,
    /// How many files of ids had to be made.
    pub num_made: usize,
    /// What was wrong with files that had to be made again.
    pub warnings: Vec<String>,
    /// Bytes of kept ids that were removed, since the files that they were made of have changed.
    pub num_removed_bytes: u64,
}

/// Paths that follow one another and are of one kind.
enum Section {
    /// A pair of files of ids, by what their names begin with.
    Pair(PathBuf),
    /// Files that have to be encoded.
    Files(Vec<PathBuf>),
}

impl TokenDocuments {
    /// Whether one of some paths, such as [`TokenDocuments::find_files`] finds, is a pair of `.bin` and `.idx`: by its prefix
    /// or one of its files.
    pub fn are_named_in(paths: &[PathBuf]) -> bool {
        paths.iter().any(|path| prefix_of(path).is_some())
    }

    /// The files that `paths` lead to, unread: as [`TokenDocuments::open`] finds them.
    ///
    /// # Errors
    ///
    /// What can't be read, or a directory without documents.
    pub fn find_files(paths: &[PathBuf], extensions: &[String]) -> Result<Vec<PathBuf>, DataError> {
        let (sections, _) = sections(paths, extensions)?;
        let files = sections.into_iter().flat_map(|section| match section {
            Section::Pair(prefix) => ["bin", "idx"]
                .map(|ending| with_ending(&prefix, ending))
                .into(),
            Section::Files(files) => files,
        });
        Ok(files.collect())
    }

    /// The documents of `paths`, in their order: pairs of `.bin` and `.idx` as they are, and what `source` makes of other
    /// files, and of all with one of `extensions` below directories. What is not in the cache yet is encoded.
    ///
    /// # Errors
    ///
    /// What can't be found, read, encoded or kept, or contradicts itself.
    pub fn open<S: DocumentSource>(
        paths: &[PathBuf],
        extensions: &[String],
        source: &S,
        cache: &TokenCache,
        vocab_size: usize,
        progress: &mut dyn FnMut(EncodingProgress),
    ) -> Result<OpenedTokens, DataError> {
        let (sections, num_repeated) = sections(paths, extensions)?;
        let (mut files, mut num_made, mut warnings) = (Vec::new(), 0, Vec::new());
        let mut num_removed_bytes = 0;
        for section in sections {
            match section {
                Section::Pair(prefix) => files.push(TokenFiles::open(&prefix)?),
                Section::Files(paths) => {
                    let cached = cache.open(&paths, source, progress)?;
                    files.extend(cached.files);
                    num_made += cached.num_made;
                    num_removed_bytes += cached.num_removed_bytes;
                    warnings.extend(cached.warnings);
                }
            }
        }
        let documents = TokenDocuments {
            num_repeated_files: num_repeated,
            ..TokenDocuments::new(files, vocab_size)?
        };
        Ok(OpenedTokens {
            documents,
            num_made,
            warnings,
            num_removed_bytes,
        })
    }

    /// The documents of files in their order, whose ids must be below `vocab_size`.
    ///
    /// # Errors
    ///
    /// There are more than can be numbered.
    pub fn new(files: Vec<TokenFiles>, vocab_size: usize) -> Result<Self, DataError> {
        let mut end = 0usize;
        let ends: Vec<usize> = files
            .iter()
            .map(|file| {
                end = end.saturating_add(file.num_documents());
                end
            })
            .collect();
        if u32::try_from(end).is_err() {
            return Err(DataError::TooManyDocuments);
        }
        Ok(TokenDocuments {
            files,
            ends,
            vocab_size,
            num_repeated_files: 0,
            check: None,
        })
    }

    /// Begins to check in the background that kept ids are those that were written; batches end where they are not.
    #[must_use]
    pub fn checked_in_background(mut self) -> Self {
        self.check = Some(BackgroundCheck::begin(HashedFiles::of(&self.files)));
        self
    }

    /// Checks that kept ids are those that were written.
    ///
    /// # Errors
    ///
    /// They are not, or can't be read.
    pub fn check(&self) -> Result<(), DataError> {
        HashedFiles::of(&self.files).check(&|| true)
    }

    /// The files of ids.
    pub fn files(&self) -> &[TokenFiles] {
        &self.files
    }

    pub(crate) fn num_documents(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// The file of a document, and its number there.
    fn find(&self, document: usize) -> Option<(&TokenFiles, usize)> {
        let file = self.ends.partition_point(|&end| end <= document);
        let before = file.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some((self.files.get(file)?, document - before))
    }

    pub(crate) fn num_repeated_files(&self) -> u64 {
        self.num_repeated_files
    }

    pub(crate) fn num_targets(&self, document: usize) -> u64 {
        let found = self.find(document);
        found.map_or(0, |(file, document)| file.num_targets(document))
    }

    pub(crate) fn place(&self, document: usize) -> Option<String> {
        let (file, document) = self.find(document)?;
        file.place(document)
    }

    pub(crate) fn skipped(&self) -> (u64, Option<&str>) {
        let abouts = || self.files.iter().filter_map(TokenFiles::about);
        let example = abouts().find_map(|about| about.skipped_example.as_deref());
        (abouts().map(|about| about.num_skipped).sum(), example)
    }

    pub(crate) fn read(
        &self,
        document: usize,
        targets: Range<u64>,
    ) -> Result<TokenSequence, DataError> {
        if let Some(error) = self.check.as_ref().and_then(BackgroundCheck::take_error) {
            return Err(error);
        }
        match self.find(document) {
            Some((file, document)) => file.read(document, targets, self.vocab_size),
            None => Err(DataError::Exhausted),
        }
    }

    pub(crate) fn num_sources(&self) -> usize {
        let num = |file: &TokenFiles| file.about().map_or(1, |about| about.sources.len());
        self.files.iter().map(num).sum()
    }
}

/// What paths lead to, each file once, and how often one was met again.
fn sections(paths: &[PathBuf], extensions: &[String]) -> Result<(Vec<Section>, u64), DataError> {
    let mut sections = Vec::new();
    let (mut met, mut num_repeated) = (HashSet::new(), 0);
    let is_pair = |path: &PathBuf| prefix_of(path).is_some();
    for run in paths.chunk_by(|a, b| is_pair(a) == is_pair(b)) {
        if is_pair(&run[0]) {
            sections.extend(
                run.iter()
                    .filter_map(|path| prefix_of(path))
                    .map(Section::Pair),
            );
            continue;
        }
        let found = Files::find(run, extensions)?;
        num_repeated += found.num_repeated;
        let of_ids = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            has_extension(name, &["bin".to_owned(), "idx".to_owned()])
        };
        for files in found.paths.chunk_by(|a, b| !of_ids(a) && !of_ids(b)) {
            sections.push(match (of_ids(&files[0]), prefix_of(&files[0])) {
                (true, Some(prefix)) => Section::Pair(prefix),
                _ => Section::Files(files.to_vec()),
            });
        }
    }
    // One kind of path meets each file once by itself.
    if sections.len() > 1 {
        let mut is_new = |path: &PathBuf| {
            let is_new = FileIdentity::of(path).map_or(true, |identity| met.insert(identity));
            num_repeated += u64::from(!is_new);
            is_new
        };
        for section in &mut sections {
            if let Section::Files(files) = section {
                files.retain(&mut is_new);
            }
        }
        let mut pairs = HashSet::new();
        sections.retain(|section| match section {
            Section::Pair(prefix) => pairs.insert(prefix.clone()),
            Section::Files(files) => !files.is_empty(),
        });
    }
    Ok((sections, num_repeated))
}
