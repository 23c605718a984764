//! Files of which one value is bad.

use super::bench::{Bench, CLUSTER, PROFILE, STEP};
use super::commands::{COMMANDS, Run, base};

/// What stands for a number in TOML, and can't be a cost, a size or a count.
const IN_TOML: [&str; 10] = [
    "-1",
    "nan",
    "inf",
    "1e308",
    "1e400",
    "\"1\"",
    "[]",
    "{}",
    "1979-05-27",
    "99999999999999999999999999",
];

fn command(words: &[&str]) -> Run {
    base(COMMANDS.iter().find(|one| one.words == words).unwrap(), "")
}

/// The text once for each key that has a number and for each bad one.
fn altered(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        if value.starts_with(['"', '{']) {
            continue;
        }
        for bad in IN_TOML {
            let mut lines = lines.clone();
            let line = format!("{key} = {bad}");
            lines[at] = &line;
            all.push((key.to_owned(), lines.join("\n")));
        }
    }
    all
}

/// Profiles that can't be planned with.
pub fn profile_files(bench: &Bench) -> Vec<(Run, bool)> {
    let runs = altered(PROFILE)
        .into_iter()
        .enumerate()
        .map(|(index, (_, text))| {
            let name = format!("profile-{index}.toml");
            bench.file(&name, text.as_bytes());
            (command(&["plan"]).with("--profile", &name), true)
        });
    let mut runs: Vec<_> = runs.collect();
    let slow = PROFILE.replace("2 = 8e9", "2 = 1e-300");
    bench.file("profile-slow.toml", slow.as_bytes());
    runs.push((
        command(&["plan"]).with("--profile", "profile-slow.toml"),
        true,
    ));
    runs
}

/// Clusters that can't be simulated on.
pub fn cluster_files(bench: &Bench) -> Vec<(Run, bool)> {
    let runs = altered(CLUSTER)
        .into_iter()
        .enumerate()
        .map(|(index, (key, text))| {
            let name = format!("cluster-{index}.toml");
            bench.file(&name, text.as_bytes());
            // Devices and links may be as fast as one likes.
            let may_be_large = key.contains("per_s");
            (
                command(&["simulate"]).with("--cluster", &name),
                !may_be_large,
            )
        });
    let mut runs: Vec<_> = runs.collect();
    for (index, rate) in ["= 1e12", "= 1e11", "= 1e10"].into_iter().enumerate() {
        let name = format!("cluster-slow-{index}.toml");
        bench.file(&name, CLUSTER.replace(rate, "= 1e-300").as_bytes());
        runs.push((command(&["simulate"]).with("--cluster", &name), true));
    }
    runs
}

/// Plans that contradict themselves, or the devices they are simulated on.
pub fn plan_files(bench: &Bench) -> Vec<(Run, bool)> {
    let good = std::fs::read_to_string(bench.path().join("plan.json")).unwrap();
    let group = |body: &str| {
        format!(
            r#"{{"version":1,"seq_lens_tokens":[900,100],"micro_batches":[{{"groups":[{body}]}}]}}"#
        )
    };
    let one = |degree: &str, ranks: &str, sequences: &str| {
        let strategy = r#"{"ulysses":2,"ring":1,"activations":"recompute"}"#;
        group(&format!(
            r#"{{"degree":{degree},"ranks":{ranks},"strategy":{strategy},"sequences":{sequences}}}"#
        ))
    };
    let texts = [
        one("3", "[0,1]", "[0,1]"),
        one("2", "[0]", "[0,1]"),
        one("2", "[0,0]", "[0,1]"),
        one("2", "[0,1]", "[0]"),
        one("2", "[0,1]", "[0,0,1]"),
        one("2", "[0,1]", "[0,1,2]"),
        one("2", "[0,4294967295]", "[0,1]"),
        one("2", "[0,7]", "[0,1]"),
        one("-2", "[0,1]", "[0,1]"),
        one("2", "[0,1]", "[]"),
        group(""),
        good.replace("recompute", "keep"),
        good.replace("recompute", "\\u001b[31m"),
        good.replace("[900,", "[999999999,"),
        good.replace("[900,", "[18446744073709551615,"),
        good.replace("[900,", "[0,"),
        good.replace("\"version\":1", "\"version\":7"),
        good[..good.len() / 2].to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "[".repeat(100_000),
    ];
    let mut runs = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        let name = format!("plan-{index}.json");
        bench.file(&name, text.as_bytes());
        let simulate = simulated(&name);
        runs.push((simulate, true));
        runs.push((
            command(&["report"]).with("--plan", &name),
            index != 7 && index != 11 && index != 13,
        ));
    }
    runs
}

fn simulated(plan: &str) -> Run {
    command(&["simulate"])
        .without("--lengths")
        .with("plan", plan)
}

/// Runs that contradict themselves.
pub fn run_files(bench: &Bench) -> Vec<(Run, bool)> {
    let texts = [
        STEP.replace("\"measured_s\":2.5", "\"measured_s\":-1"),
        STEP.replace("\"measured_s\":2.5", "\"measured_s\":1e999"),
        STEP.replace("\"step\":3", "\"step\":-3"),
        STEP.replace("\"ranks\":[3]", "\"ranks\":[4294967295]"),
        STEP.replace("\"ranks\":[3]", "\"ranks\":[]"),
        STEP.replace("\"version\":1", "\"version\":7"),
        STEP.replace("\"wait_s\":[0.5,", "\"wait_s\":["),
        STEP.replace("\"tokens\":1000", "\"tokens\":1001"),
        STEP.replace("\"sequences\":4", "\"sequences\":5"),
        STEP.replace("\"ranks\":[3]", "\"ranks\":[1]"),
    ];
    let runs = texts.into_iter().enumerate().map(|(index, text)| {
        let name = format!("run-{index}.jsonl");
        bench.file(&name, text.as_bytes());
        (command(&["report"]).with("runs", &name), true)
    });
    runs.collect()
}
