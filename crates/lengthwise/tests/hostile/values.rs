//! What to try, by what an option takes.

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Flag,
    /// A whole number, or a number of tokens.
    Count,
    /// A time with its unit.
    Time,
    /// One of some names, or a file.
    Name,
    /// Any text.
    Text,
    /// A file to read.
    Input,
    /// A file to write.
    Output,
    /// A directory to write, made where there is none.
    OutputDirectory,
    /// `key=value`.
    Assignment,
}

/// Every option of every command by its name, and every positional argument by the name of its field.
pub const OPTIONS: &[(&str, Kind)] = &[
    ("--activations", Kind::Name),
    ("--aligned-powers-of-two", Kind::Flag),
    ("--batches", Kind::Count),
    ("--cache", Kind::OutputDirectory),
    ("--certificate", Kind::Output),
    ("--checkpoints", Kind::OutputDirectory),
    ("--checkpoint-every", Kind::Count),
    ("--export", Kind::OutputDirectory),
    ("--chat-template", Kind::Input),
    ("--clock", Kind::Name),
    ("--cluster", Kind::Name),
    ("--clusters", Kind::Name),
    ("--completion", Kind::Text),
    ("--context", Kind::Count),
    ("--core-fraction", Kind::Count),
    ("--corrupt", Kind::Name),
    ("--degrees", Kind::Count),
    ("--device-memory-mib", Kind::Count),
    ("--devices", Kind::Count),
    ("--distribution", Kind::Input),
    ("--emulate", Kind::Input),
    ("--flexsp-time", Kind::Time),
    ("--format", Kind::Name),
    ("--from", Kind::Input),
    ("--inject-failure", Kind::Name),
    ("--json", Kind::Flag),
    ("--layers", Kind::Count),
    ("--learning-rate", Kind::Count),
    ("--lengths", Kind::Input),
    ("--logits", Kind::Name),
    ("--max-communicators", Kind::Count),
    ("--max-sequences-per-group", Kind::Count),
    ("--max-tokens-per-rank", Kind::Count),
    ("--measuring-time", Kind::Count),
    ("--memory", Kind::Count),
    ("--messages", Kind::Text),
    ("--metrics", Kind::Output),
    ("--micro-batches-multiple-of", Kind::Count),
    ("--min-degree", Kind::Count),
    ("--model", Kind::Name),
    ("--models", Kind::Name),
    ("--multiple-of", Kind::Count),
    ("--no-idle-ranks", Kind::Flag),
    ("--no-prefetch", Kind::Flag),
    ("--output", Kind::Output),
    ("--overhead", Kind::Time),
    ("--overlap-scatters", Kind::Flag),
    ("--paper", Kind::Flag),
    ("--pipeline-parallel", Kind::Count),
    ("--plan", Kind::Input),
    ("--planner", Kind::Name),
    ("--planners", Kind::Name),
    ("--profile", Kind::Input),
    ("--profiles", Kind::Input),
    ("--ranks", Kind::Count),
    ("--prompt", Kind::Text),
    ("--refine", Kind::Name),
    ("--repetitions", Kind::Count),
    ("--seed", Kind::Count),
    ("--resume", Kind::Input),
    ("--sequences", Kind::Count),
    ("--set", Kind::Assignment),
    ("--show-settings", Kind::Flag),
    ("--sizes", Kind::Name),
    ("--slow", Kind::Name),
    ("--step", Kind::Count),
    ("--steps", Kind::Count),
    ("--strategies", Kind::Name),
    ("--tensor-parallel", Kind::Count),
    ("--text", Kind::Text),
    ("--threads", Kind::Count),
    ("--time-budget", Kind::Time),
    ("--time-budget-ms", Kind::Count),
    ("--title", Kind::Text),
    ("--tokenizer", Kind::Input),
    ("--tokens", Kind::Count),
    ("--tokens-replace-memory", Kind::Flag),
    ("--type", Kind::Name),
    ("--trace", Kind::Output),
    ("--trace-steps", Kind::Count),
    ("--verify-cache", Kind::Flag),
    ("batches", Kind::Input),
    ("certificate", Kind::Input),
    ("checkpoint", Kind::Input),
    ("config", Kind::Input),
    ("model_directory", Kind::OutputDirectory),
    ("plan", Kind::Input),
    ("runs", Kind::Input),
];

/// Settings of data that break a rule.
pub const ASSIGNMENTS: &[&str] = &[
    "data.paths=[]",
    "data.paths=[\"\"]",
    "data.sources=",
    "data.sources=[",
    "data.sources=[]",
    "data.sources=[{}]",
    "data.sources=[1]",
    "data.sources=[[]]",
    "data.sources={paths=[\"corpus\"]}",
    "data.sources=[{paths=\"corpus\"}]",
    "data.sources=[{paths=[]}]",
    "data.sources=[{paths=[1]}]",
    "data.sources=[{paths=[\"corpus\"],weight=0}]",
    "data.sources=[{paths=[\"corpus\"],weight=-1}]",
    "data.sources=[{paths=[\"corpus\"],weight=nan}]",
    "data.sources=[{paths=[\"corpus\"],weight=inf}]",
    "data.sources=[{paths=[\"corpus\"],weight=1e400}]",
    "data.sources=[{paths=[\"corpus\"],weight=\"1\"}]",
    "data.sources=[{paths=[\"corpus\"],text=1}]",
    "data.sources=[{paths=[\"corpus\"],text=\"\"}]",
    "data.sources=[{paths=[\"corpus\"],text=\"a\",prompt=\"b\"}]",
    "data.sources=[{paths=[\"corpus\"],prompt=\"a\"}]",
    "data.sources=[{paths=[\"corpus\"],prompt=\"a\",completion=\"a\"}]",
    "plan.strategies=",
    "plan.strategies=[]",
    "plan.strategies=[1]",
    "plan.strategies=all,ring",
    "plan.strategies=ring,ring",
    "train.activations=[]",
    "train.activations=keep,",
    "cluster.host_memory_mib=0",
    "cluster.host_memory_mib=18446744073709551615",
    "data.sources=[{paths=[\"corpus\"],tools=\"a\"}]",
    "data.sources=[{paths=[\"corpus\"],messages=\"a\",tools=\"a\"}]",
    "data.sources=[{paths=[\"corpus\"],\u{1b}=1}]",
    "data.sources=[{paths=[\"corpus\"],seed=1}]",
    "data.sources=[{paths=[\"corpus\"]},{}]",
    "data.sources=[{paths=[\"corpus\"]}]\nx=1",
    "data.text=",
    "data.prompt=prompt",
    "data.completion=completion",
    "data.tools=tools",
    "data.messages=",
    "data.chat_template=template.jinja",
    "data.corrupt=ignore",
    "data.end_of_text=<|endoftext|>",
    "data.special_tokens=recognise",
    "data.tokenizer=no-such-file",
    "data.tokenizer=corpus",
    "data.tokenizer=zeros",
    "data.tokenizer=deep.json",
    "data.tokenizer=/dev/zero",
    "data.cache=empty",
    "data.extensions=[]",
    "data.extensions=[\"\"]",
    "data.overlong=drop",
    "data.validation=[]",
    "data.validation_tokens=10",
    "train.validate_every=1",
];

/// No number, no name and no file.
fn nonsense() -> Vec<String> {
    let mut all: Vec<String> = [
        "-",
        "--",
        "\u{1b}[31mred",
        "nonsense",
        "null",
        "{}",
        "[",
        "\u{202e}1",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("x".repeat(10_000));
    all
}

impl Kind {
    /// Values that every option of this kind must refuse.
    pub fn bad(self) -> Vec<String> {
        let list = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        match self {
            Kind::Flag => list(&["=yes"]),
            Kind::Text => Vec::new(),
            Kind::Assignment => list(&[
                "",
                "x",
                "=",
                "a=b",
                "train.steps",
                "train.stesp=3",
                "\u{1b}=1",
            ]),
            Kind::Count => {
                let numbers = ["-1", "nan", "inf", "-0.5", "1e400", "\u{ff11}", "1 2", "0x"];
                let numbers = numbers.map(str::to_owned).into_iter();
                let mut all: Vec<String> = numbers.chain(nonsense()).collect();
                all.push("9".repeat(301));
                all
            }
            Kind::Time => {
                let times = [
                    "10",
                    "0s",
                    "-1s",
                    "nans",
                    "infs",
                    "1e300s",
                    "1h",
                    "s",
                    "99999999999min",
                ];
                times
                    .map(str::to_owned)
                    .into_iter()
                    .chain(nonsense())
                    .collect()
            }
            Kind::Name => nonsense().into_iter().filter(|name| name != "-").collect(),
            Kind::Input => {
                let mut all = list(&[
                    "no-such-file",
                    "corpus",
                    "empty",
                    "zeros",
                    "binary",
                    "control",
                    "deep.json",
                    "/dev/zero",
                    "wide",
                ]);
                all.push("x".repeat(5000));
                all
            }
            Kind::OutputDirectory => list(&["corpus/a.txt", "corpus/a.txt/model", "/dev/null"]),
            Kind::Output => list(&["corpus", "no-such-directory/file", "corpus/a.txt/file"]),
        }
    }

    /// Values that some options of this kind take: whatever comes of them comes soon, and clearly.
    pub fn odd(self) -> Vec<String> {
        let list = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        match self {
            Kind::Count => list(&[
                "",
                "0",
                "1",
                "3",
                "1,1",
                "1,0",
                "4294967295",
                "4294967296",
                "18446744073709551615",
                "1e18",
                "99999999999999k",
                "18446744073709551616",
                "1.5",
                "1e-300",
                "1e308",
            ]),
            Kind::Time => list(&["1us", "1e-9s"]),
            Kind::Name => list(&[
                "",
                "static:0",
                "static:4294967295",
                "adaptive,",
                "ring,",
                "all,all",
                "h100-0x8",
                "h100-4294967295x8",
                "99999999999x8",
                "0x0",
                "3=1e300",
                "4294967295=2",
                "lognormal:1e308:1",
                "../../..",
            ]),
            Kind::Input => list(&["", "/dev/null", "bom-only"]),
            Kind::Text => vec![
                String::new(),
                "<script>\u{1b}".to_owned(),
                "x".repeat(10_000),
            ],
            Kind::Flag | Kind::Output | Kind::OutputDirectory | Kind::Assignment => Vec::new(),
        }
    }
}
