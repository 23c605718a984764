//! Commands that succeed as they are, to be given one bad value each.

/// A command with what it needs.
pub struct Known {
    /// Its name.
    pub words: &'static [&'static str],
    /// Its arguments: names and values, positional ones by the names of their fields.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Whether it takes no time without a bad value.
    pub runs_alone: bool,
}

/// A model on a described cluster instead of a profile.
const DESCRIBED: [(&str, &str); 2] = [("--cluster", "h100-1x8"), ("--model", "llama-3.1-8b")];

/// Options that need a described cluster.
const OF_CLUSTERS: [&str; 10] = [
    "--cluster",
    "--model",
    "--tensor-parallel",
    "--pipeline-parallel",
    "--strategies",
    "--activations",
    "--logits",
    "--no-prefetch",
    "--overlap-scatters",
    "--overhead",
];

pub const COMMANDS: &[Known] = &[
    Known {
        words: &["plan"],
        arguments: &[("--lengths", "lengths.txt"), ("--profile", "profile.toml")],
        runs_alone: true,
    },
    Known {
        words: &["simulate"],
        arguments: &[("--lengths", "lengths.txt"), ("--profile", "profile.toml")],
        runs_alone: true,
    },
    Known {
        words: &["verify"],
        arguments: &[
            ("certificate", "certificate.json"),
            ("--profile", "profile.toml"),
        ],
        runs_alone: true,
    },
    Known {
        words: &["checkpoint"],
        arguments: &[("checkpoint", "no-checkpoint")],
        runs_alone: false,
    },
    Known {
        words: &["checkpoint", "export"],
        arguments: &[
            ("checkpoint", "no-checkpoint"),
            ("model_directory", "new-model"),
        ],
        runs_alone: false,
    },
    Known {
        words: &["compare"],
        arguments: &[
            ("--lengths", "lengths.txt"),
            ("--profile", "profile.toml"),
            ("--batches", "1"),
            ("--planners", "static"),
        ],
        runs_alone: true,
    },
    Known {
        words: &["bench", "plan"],
        arguments: &[
            ("batches", "batch.json"),
            ("--profiles", "."),
            ("--planners", "static"),
            ("--repetitions", "1"),
        ],
        runs_alone: true,
    },
    Known {
        words: &["bench", "scaling"],
        arguments: &[
            ("--distribution", "distribution.toml"),
            ("--profile", "profile.toml"),
            ("--sizes", "4x4"),
            ("--batches", "1"),
        ],
        runs_alone: true,
    },
    Known {
        words: &["bench", "contexts"],
        arguments: &[("--models", "llama-3-8b"), ("--clusters", "h100-1x2")],
        runs_alone: true,
    },
    Known {
        words: &["bench", "emulated"],
        arguments: &[("config", "settings.toml"), ("--emulate", "cluster.toml")],
        runs_alone: false,
    },
    Known {
        words: &["profile"],
        arguments: &[
            ("config", "settings.toml"),
            ("--output", "new.toml"),
            ("--time-budget", "1s"),
        ],
        runs_alone: false,
    },
    Known {
        words: &["report"],
        arguments: &[("runs", "run.jsonl"), ("--output", "page.html")],
        runs_alone: true,
    },
    Known {
        words: &["train"],
        arguments: &[("config", "settings.toml"), ("--show-settings", "")],
        runs_alone: true,
    },
];

/// The words of a run.
#[derive(Clone, Debug)]
pub struct Run {
    words: Vec<String>,
    arguments: Vec<(String, String)>,
}

/// The same where a file that an option names must be opened.
pub fn base_that_opens(command: &Known, option: &str) -> Run {
    base(command, option).without("--show-settings")
}

/// A command as it succeeds, where one of its options is to be tried.
pub fn base(command: &Known, option: &str) -> Run {
    let mut arguments: Vec<(&str, &str)> = command.arguments.to_vec();
    let is_of_lengths = ["plan", "simulate", "compare"].contains(&command.words[0]);
    if is_of_lengths && OF_CLUSTERS.contains(&option) {
        arguments.retain(|(name, _)| *name != "--profile");
        arguments.extend(DESCRIBED);
    }
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Run {
        words: command.words.iter().map(|&word| word.to_owned()).collect(),
        arguments: arguments.into_iter().map(owned).collect(),
    }
}

impl Run {
    /// The same with another value of an option.
    pub fn with(&self, name: &str, value: &str) -> Run {
        let mut run = self.clone();
        run.arguments.retain(|(known, _)| known != name);
        run.arguments.push((name.to_owned(), value.to_owned()));
        run
    }

    /// The same without an option.
    pub fn without(&self, name: &str) -> Run {
        let mut run = self.clone();
        run.arguments.retain(|(known, _)| known != name);
        run
    }

    /// What is typed.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.words.clone();
        for (name, value) in &self.arguments {
            match (name.starts_with("--"), value.as_str()) {
                (true, "") if ["--show-settings"].contains(&name.as_str()) => {
                    words.push(name.clone())
                }
                (true, "=yes") => words.push(format!("{name}=yes")),
                (true, _) => words.push(format!("{name}={value}")),
                (false, _) => {}
            }
        }
        // Behind a pair of dashes nothing is an option.
        words.push("--".to_owned());
        let positional = self
            .arguments
            .iter()
            .filter(|(name, _)| !name.starts_with("--"));
        words.extend(positional.map(|(_, value)| value.clone()));
        words
    }
}
