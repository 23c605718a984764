//! README and pages say what is so: their links lead somewhere, and their commands print what stands behind them.

#![cfg(unix)] // Blocks are run by bash.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Stands in for `cargo run --release --`, so that blocks run the command that this test was built with.
const CARGO: &str = r#"
set -euo pipefail
cargo() {
    [ "$1 $2 $3" = "run --release --" ] || { echo "only cargo run --release -- is run here" >&2; exit 1; }
    shift 3
    "$LENGTHWISE" "$@"
}
"#;

/// Columns of tables that hold measured times.
const TIMES: [&str; 3] = ["solve time", "slowest", "a sequence"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The pages that users read, relative to the root.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "DESIGN.md", "CHANGELOG.md"]
        .map(PathBuf::from)
        .into();
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    pages.extend(docs.filter(|page| page.extension().is_some_and(|extension| extension == "md")));
    pages.sort();
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// Lines outside of code blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// The targets of links and pictures.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// What GitHub and mdBook make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut num_links = 0;
    for page in pages() {
        for link in links(&read(&page)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            num_links += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(path)
            };
            let leads = if fragment.is_empty() {
                root().join(&target).exists()
            } else {
                root().join(&target).exists() && anchors(&read(&target)).contains(fragment)
            };
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(num_links > 50, "only {num_links} links were found");
}

#[test]
fn the_book_has_every_page_once() {
    let listed = links(&read(Path::new("docs/SUMMARY.md")));
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed twice");
    for page in pages() {
        let Ok(name) = page.strip_prefix("docs") else {
            continue;
        };
        let name = name.to_str().unwrap().to_owned();
        assert!(
            name == "SUMMARY.md" || unique.contains(&name),
            "docs/SUMMARY.md lacks {name}"
        );
    }
}

/// A block that is to be run, and the table that stands behind it.
struct Block {
    line: usize,
    script: String,
    table: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks = Vec::new();
    for (start, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| **line == "```bash run")
    {
        let script = lines[start + 1..].iter().take_while(|line| **line != "```");
        let script: Vec<&str> = script.copied().collect();
        let behind = lines[start + script.len() + 2..].iter();
        let behind = behind.skip_while(|line| line.is_empty());
        let table = behind.take_while(|line| line.starts_with('|'));
        blocks.push(Block {
            line: start + 1,
            script: script.join("\n"),
            table: table.map(|line| (*line).to_owned()).collect(),
        });
    }
    blocks
}

/// The rows of a table without those columns that hold times.
fn untimed<'a>(rows: impl Iterator<Item = &'a str>) -> Vec<Vec<String>> {
    let cells = |row: &str| -> Vec<String> {
        let row = row.trim().trim_matches('|');
        row.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    let Some(header) = rows.first().cloned() else {
        return rows;
    };
    let is_kept = |column: usize| {
        !header
            .get(column)
            .is_some_and(|name| TIMES.contains(&&**name))
    };
    let kept = rows.into_iter().map(|row| {
        let row = row.into_iter().enumerate();
        row.filter(|(column, _)| is_kept(*column))
            .map(|(_, cell)| cell)
            .collect()
    });
    kept.collect()
}

#[test]
fn commands_print_the_tables_behind_them() {
    let mut num_run = 0;
    let mut num_rows = 0;
    for page in pages() {
        for block in blocks(&read(&page)) {
            let place = format!("{}:{}", page.display(), block.line);
            // What a block writes is not left in the repository.
            let directory = tempfile::tempdir().unwrap();
            let examples = root().canonicalize().unwrap().join("examples");
            std::os::unix::fs::symlink(examples, directory.path().join("examples")).unwrap();
            let output = Command::new("bash")
                .args(["-c", &format!("{CARGO}{}", block.script)])
                .current_dir(directory.path())
                .env("LENGTHWISE", env!("CARGO_BIN_EXE_lengthwise"))
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{place} fails:\n{errors}");
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(!printed.trim().is_empty(), "{place} prints nothing");
            let printed = untimed(printed.lines().filter(|line| line.starts_with('|')));
            for row in untimed(block.table.iter().map(String::as_str)) {
                assert!(
                    printed.contains(&row),
                    "{place} does not print {row:?}, but {printed:#?}"
                );
                num_rows += 1;
            }
            num_run += 1;
        }
    }
    assert!(
        num_run >= 5 && num_rows >= 20,
        "{num_run} blocks were run, {num_rows} rows compared"
    );
}
