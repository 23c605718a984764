//! Outputs on disks that fill, break and vanish.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lengthwise_outputs::{DirectorySeries, NewDirectory, Outputs, inject_faults};

const MODEL: &[&str] = &["config.json", "model.safetensors"];

/// A directory in which nothing unfinished may be left.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A fault of a file, and of the unfinished one beside it.
    fn fault(&self, name: &str, fault: &str) {
        inject_faults(&format!("{}/{name}={fault}", self.0.path().display()));
        inject_faults(&format!("{}/.{name}={fault}", self.0.path().display()));
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn an_output_is_no_input_and_no_other_output_through_links_either() {
    let folder = Folder::new();
    let input = folder.file("in.toml", "kept");
    fs::hard_link(&input, folder.path("hard")).unwrap();
    symlink("in.toml", folder.path("soft")).unwrap();
    symlink("new", folder.path("dangling")).unwrap();
    symlink(".", folder.path("loop")).unwrap();
    let mut outputs = Outputs::new();
    outputs.reads("the settings file", &input);
    let refused = |outputs: &mut Outputs, name: &str| {
        let path = folder.path(name);
        [
            outputs.file("--output", &path).unwrap_err().to_string(),
            outputs.stream("--metrics", &path).unwrap_err().to_string(),
        ]
    };
    for name in ["in.toml", "hard", "soft", "loop/in.toml", "loop/loop/soft"] {
        for error in refused(&mut outputs, name) {
            assert!(
                error.ends_with("it is the settings file; an output never replaces what is read"),
                "{error}"
            );
        }
    }
    let new = outputs.stream("--metrics", &folder.path("new")).unwrap();
    for name in ["new", "dangling", "loop/new"] {
        for error in refused(&mut outputs, name) {
            assert!(error.contains("--metrics is written to it"), "{error}");
        }
    }
    drop(new);
    // A directory, and the files that are to appear in it.
    fs::create_dir(folder.path("model")).unwrap();
    outputs
        .directory("--export", &folder.path("model"), MODEL)
        .unwrap();
    for error in refused(&mut outputs, "model/config.json") {
        assert!(error.contains("--export is written to it"), "{error}");
    }
    assert!(outputs.directory("--export", &input, MODEL).is_err());
    assert_eq!(text(&input), "kept");
    assert_eq!(
        folder.names(),
        ["dangling", "hard", "in.toml", "loop", "model", "soft"]
    );
}

#[test]
fn places_that_no_file_can_go_to_are_refused_before_anything_is_written() {
    let folder = Folder::new();
    folder.fault("full", "full");
    folder.fault("broken", "eio");
    folder.fault("unsynced", "sync");
    let there = folder.file("full-too", "kept");
    let mut outputs = Outputs::new();
    for (name, expected) in [
        ("", "it is a directory"),
        ("no/file", "its directory does not exist"),
        ("full", "No space left"),
        ("full-too", "No space left"),
        ("broken", "Input/output error"),
        ("unsynced", "Input/output error"),
    ] {
        let error = outputs.file("--output", &folder.path(name)).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(error.hint().is_some());
    }
    assert_eq!(text(&there), "kept");
    assert_eq!(folder.names(), ["full-too"]);
    for device in ["/dev/null", "/dev/full", "/dev/stdout"] {
        outputs.file("--output", Path::new(device)).unwrap();
        outputs.file("--trace", Path::new(device)).unwrap();
    }
}

#[test]
fn a_file_is_whole_or_as_it_was_and_what_can_not_be_written_goes_elsewhere() {
    for fault in ["full@3", "eio@3", "sync", "rename"] {
        for had_file in [false, true] {
            let folder = Folder::new();
            if had_file {
                folder.file("costs.toml", "before");
            }
            let mut outputs = Outputs::new();
            let output = outputs
                .file("--output", &folder.path("costs.toml"))
                .unwrap();
            folder.fault("costs.toml", fault);
            let saved = output.write(b"name = \"a\"").unwrap();
            assert_eq!(text(&saved.path), "name = \"a\"");
            if had_file {
                assert_eq!(text(&folder.path("costs.toml")), "before");
                let beside = usize::from(saved.path.starts_with(folder.0.path()));
                assert_eq!(folder.names().len(), 1 + beside, "{:?}", folder.names());
            }
            if saved.path == folder.path("costs.toml") {
                assert_eq!(fault, "rename");
                assert_eq!(saved.elsewhere("the profile"), None);
                continue;
            }
            let message = saved.elsewhere("the profile").unwrap();
            assert!(
                message.starts_with("the profile is in "),
                "{fault}: {message}"
            );
            fs::remove_file(saved.path).unwrap();
        }
    }
}

#[test]
fn short_writes_lose_nothing() {
    let folder = Folder::new();
    folder.fault("costs.toml", "short");
    folder.fault("run.jsonl", "short");
    let mut outputs = Outputs::new();
    let output = outputs
        .file("--output", &folder.path("costs.toml"))
        .unwrap();
    let _ = output.write(&[b'x'; 1000]).unwrap();
    assert_eq!(text(&folder.path("costs.toml")), "x".repeat(1000));
    let mut stream = outputs
        .stream("--metrics", &folder.path("run.jsonl"))
        .unwrap()
        .open()
        .unwrap();
    stream.write_line(&"y".repeat(100)).unwrap();
    let _ = stream.finish().unwrap();
    assert_eq!(text(&folder.path("run.jsonl")), "y".repeat(100) + "\n");
}

#[test]
fn modes_are_those_of_new_files_or_of_the_file_that_was_there() {
    let folder = Folder::new();
    let mode = |name: &str| {
        fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    let usual = {
        folder.file("usual", "");
        mode("usual")
    };
    folder.file("secret", "");
    fs::set_permissions(folder.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut outputs = Outputs::new();
    for (name, expected) in [("new", usual), ("secret", 0o600)] {
        let output = outputs.file("--output", &folder.path(name)).unwrap();
        let _ = output.write(b"text").unwrap();
        assert_eq!(mode(name), expected, "{name}");
    }
    let mut model = NewDirectory::claim("--export", &folder.path("model"), MODEL, 9).unwrap();
    model.write("model.safetensors", b"weights").unwrap();
    model.write("config.json", b"{}").unwrap();
    let _ = model.publish().unwrap();
    assert_eq!(mode("model/model.safetensors"), usual);
    assert_eq!(mode("model/config.json"), usual);
}

#[test]
fn what_killed_writers_leave_is_removed_and_what_others_write_is_not() {
    let folder = Folder::new();
    folder.file(".costs.toml.99-0.lengthwise-part", "half");
    let mine = folder.file(".costs.toml.98-0.lengthwise-part", "grows");
    folder.file(".costs.toml.notes.lengthwise-part", "a user's");
    folder.file(".other.toml.99-0.lengthwise-part", "another's");
    let writer = fs::File::open(&mine).unwrap();
    writer.lock().unwrap();
    let mut outputs = Outputs::new();
    let output = outputs
        .file("--output", &folder.path("costs.toml"))
        .unwrap();
    let _ = output.write(b"whole").unwrap();
    assert_eq!(
        folder.names(),
        [
            ".costs.toml.98-0.lengthwise-part",
            ".costs.toml.notes.lengthwise-part",
            ".other.toml.99-0.lengthwise-part",
            "costs.toml"
        ]
    );
}

#[test]
fn lines_are_added_by_one_run_at_a_time_behind_whole_lines() {
    let folder = Folder::new();
    let path = folder.file("run.jsonl", "one\ntw");
    let open = || Outputs::new().stream("--metrics", &path).unwrap().open();
    let mut stream = open().unwrap();
    let error = open().unwrap_err();
    assert!(
        error.to_string().ends_with("another run is writing to it"),
        "{error}"
    );
    stream.write_line("three").unwrap();
    // Somebody empties it: what comes begins where it ends.
    fs::write(&path, "").unwrap();
    stream.write_line("four").unwrap();
    let _ = stream.finish().unwrap();
    assert_eq!(text(&path), "four\n");
    let mut stream = open().unwrap();
    stream.write_line("five").unwrap();
    drop(stream);
    assert_eq!(text(&path), "four\nfive\n");
    fs::write(&path, "one\ntw").unwrap();
    open().unwrap().write_line("three").unwrap();
    assert_eq!(text(&path), "one\ntw\nthree\n");
    // A run that says nothing leaves nothing.
    drop(
        Outputs::new()
            .stream("--metrics", &folder.path("none"))
            .unwrap()
            .open()
            .unwrap(),
    );
    assert_eq!(folder.names(), ["run.jsonl"]);
}

#[test]
fn lines_that_a_full_disk_does_not_take_are_written_once_it_does() {
    let folder = Folder::new();
    let path = folder.file("run.jsonl", "");
    let stream = Outputs::new().stream("--metrics", &path).unwrap();
    folder.fault("run.jsonl", "full@10x2");
    let mut stream = stream.open().unwrap();
    stream.write_line("one").unwrap();
    // Only the first failure is told, and half a line is never left.
    assert!(stream.write_line("two two").is_err());
    assert_eq!(text(&path), "one\n");
    stream.write_line("three").unwrap();
    assert_eq!((text(&path).as_str(), stream.num_kept()), ("one\n", 2));
    stream.write_line("four").unwrap();
    assert_eq!(stream.finish().unwrap().elsewhere("metrics"), None);
    assert_eq!(text(&path), "one\ntwo two\nthree\nfour\n");
}

#[test]
fn lines_that_are_never_taken_go_elsewhere() {
    let folder = Folder::new();
    let path = folder.file("run.jsonl", "");
    let stream = Outputs::new().stream("--metrics", &path).unwrap();
    inject_faults(&format!("{}=full@4x4", path.display()));
    let mut stream = stream.open().unwrap();
    stream.write_line("one").unwrap();
    assert!(stream.write_line("two").is_err());
    stream.write_line("three").unwrap();
    let saved = stream.finish().unwrap();
    assert_eq!(text(&path), "one\n");
    assert!(
        saved
            .elsewhere("the rest")
            .unwrap()
            .contains("No space left")
    );
    assert_eq!(text(&saved.path), "two\nthree\n");
    // Its directory did not take them either, so that they are where the tests run.
    fs::remove_file(&saved.path).unwrap();
}

#[test]
fn lines_of_a_file_that_is_removed_are_written_again() {
    let folder = Folder::new();
    let path = folder.file("gone.jsonl", "old\n");
    let stream = Outputs::new().stream("--metrics", &path).unwrap();
    let mut stream = stream.open().unwrap();
    stream.write_line("one").unwrap();
    fs::remove_file(&path).unwrap();
    stream.write_line("two").unwrap();
    assert_eq!(stream.finish().unwrap().elsewhere("metrics"), None);
    assert_eq!(text(&path), "old\none\ntwo\n");
}

#[test]
fn a_model_appears_whole_and_never_over_another() {
    let folder = Folder::new();
    let claim = |name: &str| NewDirectory::claim("--export", &folder.path(name), MODEL, 9);
    let mut model = claim("model").unwrap();
    let busy = claim("model").unwrap_err();
    assert!(
        busy.to_string().ends_with("another run is writing to it"),
        "{busy}"
    );
    model.write("model.safetensors", b"weights").unwrap();
    assert!(!folder.path("model/model.safetensors").exists());
    model.write("config.json", b"{}").unwrap();
    assert_eq!(model.publish().unwrap().path, folder.path("model"));
    let error = claim("model").unwrap_err().to_string();
    assert!(
        error.ends_with("config.json is there already; a model is never overwritten"),
        "{error}"
    );
    // One that appears meanwhile, of a writer who knows no locks.
    let mut model = claim("other").unwrap();
    model.write("model.safetensors", b"weights").unwrap();
    model.write("config.json", b"{}").unwrap();
    folder.file("other/config.json", "theirs");
    let saved = model.publish().unwrap();
    assert_eq!(saved.path, folder.path("other.2"));
    assert_eq!(text(&folder.path("other/config.json")), "theirs");
    assert_eq!(text(&folder.path("other.2/model.safetensors")), "weights");
    let left = fs::read_dir(folder.path("other")).unwrap().count();
    assert_eq!(left, 1);
    // A run that ends early leaves no directory.
    drop(claim("none").unwrap());
    assert_eq!(folder.names(), ["model", "other", "other.2"]);
}

#[test]
fn a_model_goes_where_it_can() {
    for fault in ["full@8200", "eio@8200", "sync", "rename"] {
        let folder = Folder::new();
        let mut model = NewDirectory::claim("--export", &folder.path("model"), MODEL, 9).unwrap();
        inject_faults(&format!("{}/={fault}", folder.path("model").display()));
        model.write("model.safetensors", &[7; 8000]).unwrap();
        model.write("config.json", &[8; 8000]).unwrap();
        let saved = model.publish().unwrap();
        assert_eq!(saved.path, folder.path("model.2"), "{fault}");
        assert!(saved.elsewhere("the model").is_some());
        assert_eq!(
            fs::read(saved.path.join("model.safetensors")).unwrap(),
            [7; 8000]
        );
        assert_eq!(fs::read(saved.path.join("config.json")).unwrap(), [8; 8000]);
        assert_eq!(folder.names(), ["model.2"]);
    }
    // A directory that somebody removes comes again.
    let folder = Folder::new();
    let mut model = NewDirectory::claim("--export", &folder.path("a/b"), MODEL, 9).unwrap();
    fs::remove_dir_all(folder.path("a")).unwrap();
    model.write("config.json", b"{}").unwrap();
    assert_eq!(model.publish().unwrap().path, folder.path("a/b"));
}

#[test]
fn a_model_that_is_larger_than_the_disk_is_refused() {
    let folder = Folder::new();
    let error = NewDirectory::claim("--export", &folder.path("model"), MODEL, u64::MAX);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("MiB are free"), "{error}");
    assert!(folder.names().is_empty());
}

#[test]
fn directories_appear_whole_one_after_another() {
    let folder = Folder::new();
    let path = folder.path("series");
    let series = DirectorySeries::claim("--checkpoints", &path, 1).unwrap();
    let busy = DirectorySeries::claim("--checkpoints", &path, 1).unwrap_err();
    assert!(
        busy.to_string().contains("another run is writing to it"),
        "{busy}"
    );
    let write = |name: &str| {
        let was_there = path.join(name).exists();
        let directory = series.begin(name).unwrap();
        let mut file = directory.create("state").unwrap();
        file.write_all(b"state").unwrap();
        file.finish().unwrap();
        assert_eq!(
            path.join(name).exists(),
            was_there,
            "it is there before it is whole"
        );
        directory
    };
    assert_eq!(write("one").publish().unwrap(), path.join("one"));
    assert_eq!(fs::read(path.join("one/state")).unwrap(), b"state");
    // What is there is not replaced.
    assert!(write("one").publish().is_err());
    drop(write("two"));
    write("three").publish().unwrap();
    series.remove("one").unwrap();
    // As a run that was killed leaves it.
    fs::create_dir(path.join(".four.1-1.lengthwise-part")).unwrap();
    fs::write(path.join(".four.1-1.lengthwise-part/state"), b"half").unwrap();
    drop(series);
    drop(DirectorySeries::claim("--checkpoints", &path, 1).unwrap());
    let left: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|one| one.unwrap().file_name())
        .collect();
    assert_eq!(left, ["three"]);
    let error = DirectorySeries::claim("--checkpoints", &path, u64::MAX).unwrap_err();
    assert!(
        error.to_string().contains("MiB are to be written"),
        "{error}"
    );
    // Where nothing was, a claim leaves nothing.
    drop(DirectorySeries::claim("--checkpoints", &folder.path("new"), 1).unwrap());
    assert!(!folder.path("new").exists());
}
