//! Plans that a file holds: they must not contradict themselves, nor the devices that are to run them.

use lengthwise_core::{PlanRules, TokenCap, Tokens};
use lengthwise_inputs::{CostChanges, CostSource, OwnedProblem, PlanFile};

/// 4 devices of 1 GiB, of which each token takes 20000 bytes.
const PROFILE: &str = r#"
version = 1
name = "tiny"
context_tokens = 1000000

[cluster]
num_devices = 4
devices_per_node = 4
memory_gib = 1.0

[model]
num_heads = 4
sharded_bytes = 1e8
fixed_bytes = 1e6

[overhead]
micro_batch_s = 0.01
step_s = 0.001

[[costs]]
exchange = "ulysses"
activations = "recompute"
quadratic_s_per_token2 = 1e-9
linear_s_per_token = 1e-6
exchanged_bytes_per_token = 65536
one_node_bandwidth_bytes_per_s = { 2 = 8e9, 4 = 6e9 }
memory_bytes_per_token = 20000
"#;

fn group(fields: &str, ulysses: u32, activations: &str) -> String {
    let strategy = format!(r#"{{"ulysses":{ulysses},"ring":1,"activations":"{activations}"}}"#);
    format!(r#"{{{fields},"strategy":{strategy}}}"#)
}

fn file(micro_batches: &[&[String]], seq_lens: &[u64]) -> String {
    let micro_batches: Vec<String> = micro_batches
        .iter()
        .map(|groups| format!(r#"{{"groups":[{}]}}"#, groups.join(",")))
        .collect();
    let micro_batches = micro_batches.join(",");
    format!(r#"{{"version":1,"seq_lens_tokens":{seq_lens:?},"micro_batches":[{micro_batches}]}}"#)
}

fn two(ranks: &str, sequences: &str) -> String {
    group(
        &format!(r#""degree":2,"ranks":{ranks},"sequences":{sequences}"#),
        2,
        "recompute",
    )
}

#[test]
fn plans_that_contradict_themselves_are_refused_with_their_file() {
    let lens = [900, 100];
    let good = file(&[&[two("[0,1]", "[0]"), two("[2,3]", "[1]")]], &lens);
    PlanFile::parse(good.as_bytes(), "p.json").unwrap();
    let marked = [b"\xef\xbb\xbf", good.as_bytes()].concat();
    PlanFile::parse(&marked, "p.json").unwrap();

    let wrong_degree = good.replacen("\"degree\":2", "\"degree\":3", 1);
    for (text, word) in [
        (
            wrong_degree.as_str(),
            "degree is 3, and the strategy's is 2",
        ),
        (&file(&[&[two("[0]", "[0,1]")]], &lens), "rank"),
        (&file(&[&[two("[0,0]", "[0,1]")]], &lens), "rank"),
        (
            &file(&[&[two("[0,1]", "[0]"), two("[1,2]", "[1]")]], &lens),
            "rank 1",
        ),
        (&file(&[&[two("[0,1]", "[0,0,1]")]], &lens), "sequence 0"),
        (
            &file(&[&[two("[0,1]", "[0,1]")], &[two("[0,1]", "[1]")]], &lens),
            "sequence 1",
        ),
        (&file(&[&[two("[0,1]", "[0]")]], &lens), "sequence 1"),
        (&file(&[&[two("[0,1]", "[0,1,2]")]], &lens), "sequence 2"),
        (&file(&[&[]], &lens), "micro-batch 0"),
        (
            &file(&[&[two("[0,4294967295]", "[0,1]")]], &lens),
            "rank 4294967295",
        ),
    ] {
        let error = PlanFile::parse(text.as_bytes(), "p.json").map(|_| ());
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("p.json"), "{message}");
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

/// The error of a plan on the devices of the profile.
fn checked(text: &str, rules: PlanRules) -> Result<(), (String, Option<String>)> {
    let file = PlanFile::parse(text.as_bytes(), "p.json").unwrap();
    let costs = CostSource::profile_text("tiny", PROFILE).unwrap();
    let costs = costs.costs(CostChanges::default(), None).unwrap();
    let problem = OwnedProblem::new(costs, file.lengths.clone()).unwrap();
    problem
        .check_plan(&file.plan, rules)
        .map_err(|error| (error.to_string(), error.hint()))
}

#[test]
fn plans_are_held_against_the_devices_that_are_to_run_them() {
    let any = PlanRules::default();
    let of_one = |seq_len| file(&[&[two("[0,1]", "[0]")]], &[seq_len]);
    // Two devices have room for some 100000 tokens.
    assert_eq!(checked(&of_one(90_000), any), Ok(()));
    let (message, hint) = checked(&of_one(200_000), any).unwrap_err();
    assert!(
        message.starts_with("p.json: ") && message.contains("GiB"),
        "{message}"
    );
    assert!(hint.unwrap().contains("planned for"));

    // Where the plan's rules let tokens take the place of memory, memory is not looked at.
    let instead = |replaces_memory| PlanRules {
        token_cap: Some(TokenCap {
            tokens_per_rank: Tokens(100_000),
            replaces_memory,
        }),
        ..PlanRules::default()
    };
    assert_eq!(checked(&of_one(200_000), instead(true)), Ok(()));
    assert!(checked(&of_one(200_000), instead(false)).is_err());
    assert!(checked(&of_one(200_001), instead(true)).is_err());

    let beyond = file(&[&[two("[0,4]", "[0]")]], &[900]);
    let (message, _) = checked(&beyond, any).unwrap_err();
    assert!(message.contains("rank 4"), "{message}");

    let kept = group(r#""ranks":[0,1],"sequences":[0]"#, 2, "keep");
    let (message, hint) = checked(&file(&[&[kept]], &[900]), any).unwrap_err();
    assert!(
        message.starts_with("p.json: the costs say nothing of"),
        "{message}"
    );
    assert!(hint.is_some());
}
