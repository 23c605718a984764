//! The files of a corpus, in a fixed order.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lengthwise_outputs::FileIdentity;
use walkdir::{DirEntry, WalkDir};

use crate::DataError;
use crate::pattern::Pattern;

/// The files of a corpus.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// In the order of the paths; below a directory in the order of their names, byte by byte.
    pub paths: Vec<PathBuf>,
    /// How often a file was met again, through another path or a link; it is taken once.
    pub num_repeated: u64,
}

impl Files {
    /// The named files, whatever their extension, and all files below the named directories that have one of
    /// `extensions`. A path that is not there and has `*`, `?` or `[` stands for all that match it. Links are followed; those that lead back to a directory above them are not.
    pub fn find(paths: &[PathBuf], extensions: &[String]) -> Result<Self, DataError> {
        let mut files = Files::default();
        let mut met = HashSet::new();
        for path in paths {
            let kind = match (fs::metadata(path), Pattern::of(path)) {
                (Ok(kind), _) => kind,
                (Err(_), Some(pattern)) => {
                    files.expand(&pattern?, extensions, &mut met)?;
                    continue;
                }
                (Err(source), None) => {
                    let path = path.clone();
                    return Err(DataError::Read { path, source });
                }
            };
            if kind.is_dir() {
                let found = files.paths.len() as u64 + files.num_repeated;
                files.walk(path, extensions, &mut met)?;
                if files.paths.len() as u64 + files.num_repeated == found {
                    return Err(DataError::NoFiles {
                        path: path.clone(),
                        extensions: extensions.to_vec(),
                    });
                }
            } else if kind.is_file() {
                files.take(path.clone(), &mut met)?;
            } else {
                return Err(DataError::NeitherFileNorDirectory { path: path.clone() });
            }
        }
        Ok(files)
    }

    /// Takes what matches a pattern: files whatever their extension, and below directories those that have one.
    fn expand(
        &mut self,
        pattern: &Pattern,
        extensions: &[String],
        met: &mut HashSet<FileIdentity>,
    ) -> Result<(), DataError> {
        let found = self.paths.len() as u64 + self.num_repeated;
        for path in pattern.matches()? {
            if path.is_dir() {
                self.walk(&path, extensions, met)?;
            } else {
                self.take(path, met)?;
            }
        }
        match self.paths.len() as u64 + self.num_repeated == found {
            true => Err(pattern.matches_nothing()),
            false => Ok(()),
        }
    }

    fn walk(
        &mut self,
        directory: &Path,
        extensions: &[String],
        met: &mut HashSet<FileIdentity>,
    ) -> Result<(), DataError> {
        let entries = WalkDir::new(directory)
            .follow_links(true)
            .sort_by_file_name();
        for entry in entries {
            match entry {
                Ok(entry) if is_document(&entry, extensions) => {
                    self.take(entry.into_path(), met)?
                }
                Ok(_) => {}
                Err(error) if is_harmless(&error, extensions) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(directory).to_owned();
                    let source = error
                        .into_io_error()
                        .unwrap_or_else(|| io::Error::other("it can't be walked"));
                    return Err(DataError::Read { path, source });
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf, met: &mut HashSet<FileIdentity>) -> Result<(), DataError> {
        let identity = FileIdentity::of(&path).map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
        if met.insert(identity) {
            self.paths.push(path);
        } else {
            self.num_repeated += 1;
        }
        Ok(())
    }
}

fn is_document(entry: &DirEntry, extensions: &[String]) -> bool {
    entry.file_type().is_file() && has_extension(entry.file_name(), extensions)
}

/// Whether what can't be walked would not have been a document: a link into a loop, or a dangling link of another name.
fn is_harmless(error: &walkdir::Error, extensions: &[String]) -> bool {
    let dangling = error
        .io_error()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
    let other_name = error
        .path()
        .and_then(Path::file_name)
        .is_some_and(|name| !has_extension(name, extensions));
    error.loop_ancestor().is_some() || (error.depth() > 0 && dangling && other_name)
}

/// Whether a name ends in a dot and one of `extensions`, which may bring the dot. Case makes no difference.
pub(crate) fn has_extension(name: &OsStr, extensions: &[String]) -> bool {
    let name = name.as_encoded_bytes();
    extensions.iter().any(|extension| {
        let extension = extension.trim_start_matches('.').as_bytes();
        name.len()
            .checked_sub(extension.len() + 1)
            .is_some_and(|dot| name[dot] == b'.' && name[dot + 1..].eq_ignore_ascii_case(extension))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(paths: &[PathBuf], extensions: &[&str]) -> Result<Files, DataError> {
        let extensions: Vec<String> = extensions.iter().map(|&one| one.to_owned()).collect();
        Files::find(paths, &extensions)
    }

    fn names(root: &Path, files: &Files) -> Vec<String> {
        let relative = |path: &PathBuf| {
            path.strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        files.paths.iter().map(relative).collect()
    }

    #[test]
    fn directories_are_searched_in_a_fixed_order_and_files_are_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("b/c")).unwrap();
        for name in [
            "z.txt",
            "b/y.TXT",
            "b/c/x.txt",
            "a.txt",
            "b/notes.md",
            "txt",
            "b/atxt",
            "odd",
        ] {
            fs::write(path(name), name).unwrap();
        }
        let everything = [path("odd"), root.path().to_owned(), path("b")];
        let files = find(&everything, &[".txt"]).unwrap();
        assert_eq!(
            names(root.path(), &files),
            ["odd", "a.txt", "b/c/x.txt", "b/y.TXT", "z.txt"]
        );
        assert_eq!(files.num_repeated, 2);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        fs::write(elsewhere.path().join("blob"), "text").unwrap();
        fs::write(path("sub/real.txt"), "text").unwrap();
        symlink(elsewhere.path().join("blob"), path("linked.txt")).unwrap();
        symlink(path("sub/real.txt"), path("sub/twin.txt")).unwrap();
        fs::hard_link(path("sub/real.txt"), path("sub/second.txt")).unwrap();
        symlink(root.path(), path("sub/up")).unwrap();
        symlink(path("nowhere"), path("dangling.md")).unwrap();
        let files = find(&[root.path().to_owned()], &["txt"]).unwrap();
        assert_eq!(names(root.path(), &files), ["linked.txt", "sub/real.txt"]);
        assert_eq!(files.num_repeated, 2);

        symlink(path("nowhere"), path("dangling.txt")).unwrap();
        let error = find(&[root.path().to_owned()], &["txt"]).unwrap_err();
        assert!(error.to_string().contains("dangling.txt"), "{error}");
    }

    #[test]
    fn patterns_stand_for_what_matches_them() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("b/deep")).unwrap();
        for name in [
            "a1.jsonl",
            "a2.jsonl",
            "b/a3.jsonl",
            "b/deep/x.txt",
            "[odd].txt",
            ".a0.jsonl",
        ] {
            fs::write(path(name), name).unwrap();
        }
        let found = |patterns: &[&str]| {
            let patterns: Vec<PathBuf> = patterns.iter().map(|pattern| path(pattern)).collect();
            find(&patterns, &["txt"]).map(|files| names(root.path(), &files))
        };
        assert_eq!(found(&["a?.jsonl"]).unwrap(), ["a1.jsonl", "a2.jsonl"]);
        assert_eq!(
            found(&["**/a*.jsonl"]).unwrap(),
            ["a1.jsonl", "a2.jsonl", "b/a3.jsonl"]
        );
        // A directory that matches is searched for files with an extension.
        assert_eq!(found(&["b*"]).unwrap(), ["b/deep/x.txt"]);
        assert_eq!(found(&["[odd].txt"]).unwrap(), ["[odd].txt"]);
        assert_eq!(found(&["[[]*"]).unwrap(), ["[odd].txt"]);
        for nothing in ["c*", "a[3-9].jsonl", "a1.jsonl/*"] {
            let error = found(&[nothing]).unwrap_err();
            assert!(matches!(error, DataError::NoMatch { .. }), "{error}");
        }
        let error = found(&["a***"]).unwrap_err();
        assert!(matches!(error, DataError::BadPattern { .. }), "{error}");
    }

    #[test]
    fn a_path_without_documents_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = find(&[root.path().join("missing")], &["txt"]).unwrap_err();
        assert!(matches!(error, DataError::Read { .. }), "{error}");
        let error = find(&[root.path().to_owned()], &["txt", "md"]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has one of the extensions txt, md"),
            "{error}"
        );
    }
}
