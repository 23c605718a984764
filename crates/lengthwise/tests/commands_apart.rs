//! Commands use nothing of each other: what several need stands below them.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a directory and all below it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The module of a file below `src`: `commands/plan/table.rs` is `commands`, `plan`, `table`.
fn module(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    let names = names.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod").collect()
}

/// The name that a path goes on with.
fn name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

/// The paths in a file of `module` that lead into a command it is no part of.
fn strays(module: &[String], text: &str, commands: &[String]) -> Vec<String> {
    let own = (module[0] == "commands").then(|| module.get(1)).flatten();
    let is_other = |name: &str| {
        let is_command = commands.iter().any(|command| command == name);
        is_command && own.is_none_or(|own| own != name)
    };
    let mut strays = Vec::new();
    for (at, _) in text.match_indices("commands::") {
        let rest = &text[at + "commands::".len()..];
        // A list in braces could name anything.
        if rest.starts_with('{') || is_other(name(rest)) {
            strays.push(format!("commands::{}", name(rest)));
        }
    }
    for (at, _) in text.match_indices("super::") {
        let chain = &text[at..];
        let num_supers = (0..).take_while(|&n| chain[7 * n..].starts_with("super::"));
        let num_supers = num_supers.count();
        let name = name(&chain[7 * num_supers..]);
        if own.is_some() && num_supers + 1 == module.len() && is_other(name) {
            strays.push(format!("{}{name}", "super::".repeat(num_supers)));
        }
    }
    strays
}

#[test]
fn commands_use_nothing_of_each_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let commands: Vec<String> = fs::read_dir(source.join("commands"))
        .unwrap()
        .map(|entry| module(Path::new(&entry.unwrap().file_name())))
        .filter_map(|module| module.into_iter().next())
        .collect();
    assert!(commands.len() >= 7, "{commands:?}");
    let mut found = Vec::new();
    for path in files(&source) {
        let file = path.strip_prefix(&source).unwrap();
        // What can be typed, and who is called for it.
        if ["cli.rs", "commands/mod.rs"].map(Path::new).contains(&file) {
            continue;
        }
        let strays = strays(
            &module(file),
            &fs::read_to_string(&path).unwrap(),
            &commands,
        );
        found.extend(
            strays
                .iter()
                .map(|stray| format!("{} uses {stray}", file.display())),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn paths_into_other_commands_are_found() {
    let commands = ["plan", "report"].map(str::to_owned);
    let found = |file: &str, text: &str| strays(&module(Path::new(file)), text, &commands);
    let table = "commands/plan/table.rs";
    assert_eq!(found(table, "use crate::commands::report::Run;").len(), 1);
    assert_eq!(
        found(table, "use crate::commands::{report, plan};").len(),
        1
    );
    assert_eq!(found(table, "use super::super::report::Run;").len(), 1);
    assert_eq!(
        found("commands/plan/mod.rs", "super::report::run()").len(),
        1
    );
    assert_eq!(
        found("quantity.rs", "use crate::commands::plan::bytes;").len(),
        1
    );
    for (file, text) in [
        (table, "use super::report::Report;"),
        (table, "use crate::commands::plan::PlanArgs;"),
        ("commands/plan/mod.rs", "use self::report::Report;"),
        ("lib.rs", "commands::run(cli.command)"),
    ] {
        assert!(found(file, text).is_empty(), "{file}: {text}");
    }
}
