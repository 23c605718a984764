//! The steps of a run, as `lengthwise train --metrics` writes them: one JSON object a line.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::source;
use crate::failure::Failure;
use crate::metrics::{StepMetrics, VERSION};

/// A run to report on; it has at least one step.
#[derive(Debug)]
pub(super) struct Run {
    /// What the report calls it.
    pub(super) name: String,
    /// The file that it is in.
    pub(super) path: PathBuf,
    pub(super) steps: Vec<StepMetrics>,
}

/// The runs of a file, in the order they began.
#[derive(Debug)]
pub(super) struct RunFile {
    pub(super) runs: Vec<Run>,
    /// What could not be read, each in a sentence.
    pub(super) unreadable: Vec<String>,
}

impl RunFile {
    /// Reads a file. Lines that runs were killed in are left out; any other that is not as `train` writes it is an error
    /// that names it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = source::read_bytes(path, "run")?;
        let lines = steps(&bytes).map_err(|problem| {
            let failure = Failure::input(format!("run {}{}", path.display(), problem.message));
            match problem.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        let runs = apart(lines.steps).into_iter().map(|steps| Run {
            name: source::stem(path),
            path: path.to_owned(),
            steps,
        });
        let unreadable = lines.torn.iter().map(|line| {
            format!(
                "{}, line {line} is torn and left out: a run ended while it wrote it",
                path.display()
            )
        });
        Ok(RunFile {
            runs: runs.collect(),
            unreadable: unreadable.collect(),
        })
    }
}

/// The steps of each run: those with one name, each as it was run last, or those without, up to one that is not counted on.
fn apart(steps: Vec<StepMetrics>) -> Vec<Vec<StepMetrics>> {
    let mut runs: Vec<Vec<StepMetrics>> = Vec::new();
    for step in steps {
        let same = runs.iter_mut().rev().find(|run| {
            let last = &run[run.len() - 1];
            match (&last.run, &step.run) {
                (None, None) => last.step < step.step,
                (last, this) => last == this,
            }
        });
        match same {
            Some(run) => {
                // A run that was killed has gone on from a checkpoint before: what it did again counts.
                run.retain(|earlier| earlier.step < step.step);
                run.push(step);
            }
            None => runs.push(vec![step]),
        }
    }
    runs
}

/// What is wrong with a file, to be put after its name.
#[derive(Debug)]
struct Problem {
    message: String,
    hint: Option<&'static str>,
    /// Whether a writer that was killed would leave it.
    is_torn: bool,
}

impl Problem {
    fn new(message: String) -> Self {
        Problem {
            message,
            hint: None,
            is_torn: false,
        }
    }
}

/// What writes the files that are expected.
const HINT: &str = "runs are what lengthwise train writes with --metrics";

/// The lines of a file.
#[derive(Debug)]
struct Lines {
    steps: Vec<StepMetrics>,
    /// The numbers of those that end too early.
    torn: Vec<usize>,
}

fn steps(bytes: &[u8]) -> Result<Lines, Problem> {
    let mut lines = Lines {
        steps: Vec::new(),
        torn: Vec::new(),
    };
    let mut first_torn = None;
    for (line, content) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if content.trim_ascii().is_empty() {
            continue;
        }
        let step = match std::str::from_utf8(content) {
            Ok(content) => step(content),
            Err(_) => Err(Problem {
                is_torn: true,
                ..Problem::new("it is not text in UTF-8".to_owned())
            }),
        };
        match step {
            Ok(step) => lines.steps.push(step),
            Err(problem) => {
                let problem = Problem {
                    message: format!(", line {line}: {}", problem.message),
                    ..problem
                };
                if !problem.is_torn {
                    return Err(problem);
                }
                lines.torn.push(line);
                first_torn.get_or_insert(problem);
            }
        }
    }
    if lines.steps.is_empty() {
        return Err(first_torn.unwrap_or(Problem {
            hint: Some(HINT),
            ..Problem::new(" holds no steps; a report needs at least one".to_owned())
        }));
    }
    Ok(lines)
}

fn step(line: &str) -> Result<StepMetrics, Problem> {
    let not_a_step = |message| Problem {
        hint: Some(HINT),
        ..Problem::new(message)
    };
    let value: Value = serde_json::from_str(line).map_err(|error| Problem {
        // A hole that a file was truncated over reads as zeros.
        is_torn: error.is_eof() || line.starts_with('\0'),
        ..not_a_step(format!("it is no JSON object: {}", in_line(&error)))
    })?;
    let fields = value
        .as_object()
        .ok_or_else(|| not_a_step("it is no JSON object".to_owned()))?;
    // Lines without a version are from before there was one, and lack keys only.
    if let Some(version) = fields.get("version")
        && version.as_u64() != Some(VERSION.into())
    {
        let message = format!("version {version} is not known; it must be {VERSION}");
        return Err(Problem {
            hint: Some("use the version of lengthwise that wrote it"),
            ..Problem::new(message)
        });
    }
    let step = StepMetrics::deserialize(&value).map_err(|error| not_a_step(error.to_string()))?;
    step.check().map_err(Problem::new)?;
    Ok(step)
}

/// What the parser says, which knows of one line only.
fn in_line(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A step of two micro-batches, the second of two groups.
    pub(in super::super) const LINE: &str = r#"{"version":1,"planner":"adaptive","step":3,"loss":5.25,
        "tokens":1000,"sequences":4,"predicted_s":2.0,"measured_s":2.5,"plan_wait_s":0.0,"lower_bound_s":1.9,"gap":0.05,
        "solve_s":0.001,"predicted_peak_memory_bytes":3000,"measured_peak_memory_bytes":2000,"groups_created":3,
        "plan":[{"predicted_s":1.25,"groups":[{"ranks":[0,1,2,3],"predicted_s":1.0,"seq_lens":[700]}]},
        {"predicted_s":0.75,"groups":[{"ranks":[0,1],"predicted_s":0.5,"seq_lens":[150]},
        {"ranks":[3],"predicted_s":0.25,"seq_lens":[90,60]}]}],
        "ranks":{"compute_s":[1.5,1.5,1.0,1.0],"exchange_s":[0.5,0.5,0.5,0.0],"wait_s":[0.5,0.5,1.0,1.5]}}"#;

    /// A step that took so long, of which nothing else is known.
    pub(in super::super) fn step(step: u64, measured_s: f64) -> StepMetrics {
        StepMetrics {
            step,
            measured_s,
            ..StepMetrics::default()
        }
    }

    /// The line of a step, on one line, with other figures.
    pub(in super::super) fn line(replacements: &[(&str, &str)]) -> String {
        let line = LINE.replace('\n', "");
        replacements.iter().fold(line, |line, (from, to)| {
            assert!(line.contains(from), "{from} is not in the line");
            line.replace(from, to)
        })
    }

    fn complaint(text: &str) -> String {
        steps(text.as_bytes()).unwrap_err().message
    }

    #[test]
    fn steps_are_read_and_older_ones_lack_keys_only() {
        let text = format!(
            "{}\n\n{}\n",
            line(&[]),
            r#"{"step":4,"loss":null,"tokens":9,"sequences":1,"predicted_s":1,"measured_s":1}"#
        );
        let steps = steps(text.as_bytes()).unwrap().steps;
        assert_eq!((steps[0].step, steps[0].plan.len()), (3, 2));
        assert_eq!((steps[1].step, steps[1].loss), (4, None));
        assert!(steps[1].plan.is_empty() && steps[1].ranks.wait_s.is_empty());
    }

    #[test]
    fn what_is_not_a_run_is_named_with_line_and_rule() {
        for (text, expected) in [
            (String::new(), "holds no steps"),
            ("\n \n".to_owned(), "holds no steps"),
            (
                "loss 5.2".to_owned(),
                "line 1: it is no JSON object: expected value at column 1",
            ),
            ("[]".to_owned(), "line 1: it is no JSON object"),
            ("{".to_owned(), "line 1: it is no JSON object"),
            (
                format!("{}\nloss", line(&[])),
                "line 2: it is no JSON object",
            ),
            (
                line(&[("\"version\":1", "\"version\":2")]),
                "line 1: version 2 is not known; it must be 1",
            ),
            (
                line(&[("\"version\":1", "\"version\":\"x\"")]),
                "version \"x\" is not known",
            ),
            (line(&[("\"step\":3", "\"stp\":3")]), "missing field `step`"),
            (
                line(&[("\"measured_s\":2.5", "\"measured_s\":-2.5")]),
                "measured_s is -2.5; times must not be negative",
            ),
            (
                line(&[("\"wait_s\":[0.5,", "\"wait_s\":[")]),
                "the lists of ranks differ in length",
            ),
            (
                line(&[("\"ranks\":[3]", "\"ranks\":[4294967295]")]),
                "rank 4294967295 must be below",
            ),
            (line(&[("\"ranks\":[3]", "\"ranks\":[]")]), "no ranks"),
        ] {
            let message = complaint(&text);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn runs_of_one_file_are_told_apart_and_torn_lines_are_left_out() {
        let of = |run: &str, step: &str| {
            let run = format!("\"version\":1,\"run\":\"{run}\"");
            let step = format!("\"step\":{step}");
            line(&[("\"version\":1", &run), ("\"step\":3", &step)])
        };
        let old = |step: &str| line(&[("\"step\":3", &format!("\"step\":{step}"))]);
        let lines = [
            old("1"),
            old("2"),
            old("1"),
            of("a", "1"),
            of("a", "2")[..50].to_owned(),
            of("b", "1"),
            of("a", "3"),
            format!("\0\0\0{}", of("a", "4")),
            of("b", "2"),
            of("b", "3")[..9].to_owned(),
        ];
        let lines = steps(lines.join("\n").as_bytes()).unwrap();
        assert_eq!(lines.torn, [5, 8, 10]);
        let numbers = apart(lines.steps).into_iter().map(|run| {
            let numbers = run.into_iter().map(|step| step.step);
            numbers.collect::<Vec<_>>()
        });
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            [vec![1, 2], vec![1], vec![1, 3], vec![1, 2]]
        );
    }
}
