//! `lengthwise compare` as users and programs call it.

mod session;

use lengthwise_cost::ModelKind;
use serde_json::Value;
use session::{EASY_PROFILE, Session, example};

/// A session with a profile of 8 devices on 2 nodes, whose costs are easy to reckon with: 0.1 ms a token, 0.5 s a
/// micro-batch, and room for 8192 tokens on each device.
fn session() -> Session {
    let session = Session::new();
    let profile = EASY_PROFILE.replace("context_tokens = 100000", "context_tokens = 8000");
    session.file("profile.toml", profile);
    session.file("lengths.txt", "1000\n2000\n3000\n");
    session.file("long.txt", "1000\n2000\n60000\n");
    session.file("cluster.toml", CLUSTER);
    session.file("model.toml", MODEL);
    session
}

const CLUSTER: &str = r#"
name = "pair"
num_nodes = 2
devices_per_node = 4
[device]
kind = "a100-80"
[nic]
per_node = 1
bandwidth_bytes_per_s = 50e9
"#;

const MODEL: &str = r#"
name = "small"
num_layers = 8
hidden = 1024
num_heads = 8
ffn = 2816
vocabulary = 32000
"#;

const COMPARE: &str = "compare --profile profile.toml --lengths lengths.txt";

/// The rows that a command prints as JSON.
fn rows(session: &Session, line: &str) -> Vec<Value> {
    let output = session.output(&format!("{line} --format json"), b"");
    let printed = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {told}");
    serde_json::from_str(&printed).unwrap()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {row}"))
}

#[test]
fn a_step_takes_what_a_hand_calculation_gives() {
    let session = session();
    // A context of 8000 tokens fits one device. The three sequences are one micro-batch of three such devices at best;
    // packed as full as memory permits, they are one group.
    let rows = rows(
        &session,
        &format!("{COMPARE} --planners static,batch-adaptive,adaptive --batches 2"),
    );
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["planner"], "static:1");
    for row in &rows {
        let (simulated, predicted) = (number(row, "simulated_s"), number(row, "predicted_s"));
        assert!((simulated / predicted - 1.0).abs() < 1e-9, "{row}");
        let tokens_per_s = 6000.0 / simulated / 8.0;
        let told = number(row, "tokens_per_s_per_device");
        assert!((told / tokens_per_s - 1.0).abs() < 1e-9);
        let over_static = number(&rows[0], "simulated_s") / simulated;
        assert!((number(row, "speedup_over_static") / over_static - 1.0).abs() < 1e-9);
    }
    assert_eq!(number(&rows[0], "communication_share"), 0.0);
    // The longest alone on one device takes 0.3 s; all together on one, 0.6 s.
    let step = number(&rows[0], "simulated_s");
    assert!((0.8 - 1e-9..=1.1 + 1e-9).contains(&step), "{step}");
    assert!(number(&rows[2], "simulated_s") <= number(&rows[1], "simulated_s"));
}

#[test]
fn static_runs_out_of_memory_where_adaptive_does_not() {
    let session = session();
    // 100,000 tokens need 13 devices, 60,000 need 8.
    let line = "compare --profile profile.toml --lengths long.txt --context 8000,100k --planners static,adaptive";
    let rows = rows(&session, line);
    let of = |context: u64, planner: &str| {
        let found = rows.iter().find(|row| {
            row["context_tokens"] == context
                && row["planner"].as_str().unwrap().starts_with(planner)
        });
        found.unwrap()
    };
    assert_eq!(of(8000, "static")["out_of_memory"], false);
    assert_eq!(of(100_000, "static")["out_of_memory"], true);
    assert!(of(100_000, "static")["simulated_s"].is_null());
    assert!(number(of(100_000, "adaptive"), "simulated_s") > 0.5);
    let output = session.output(line, b"");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("static runs out of memory at context 100000"),
        "{table}"
    );
}

#[test]
fn more_devices_and_more_memory_are_swept() {
    let session = session();
    let line = "compare --cluster cluster.toml --model model.toml,llama-3-8b --lengths prolong --sequences 64 \
                --batches 1 --context 16k --planners batch-adaptive,adaptive --degrees 1,2,4,8 --devices 8,32 \
                --memory 40,80 --strategies ulysses --activations recompute";
    let rows = rows(&session, line);
    assert_eq!(rows.len(), 2 * 2 * 2 * 2);
    let adaptive = |model: &str, devices: u64, memory: f64| {
        let found = rows.iter().find(|row| {
            row["model"] == model
                && row["num_devices"] == devices
                && row["planner"] == "adaptive"
                && (number(row, "device_memory_gib") - memory).abs() < 0.1
        });
        found.unwrap_or_else(|| panic!("{model} {devices} {memory}"))
    };
    // Over described links a step is not what the additive costs predict, but not far from it.
    for row in &rows {
        let ratio = number(row, "simulated_s") / number(row, "predicted_s");
        assert!(ratio != 1.0 && (0.5..2.0).contains(&ratio), "{row}");
    }
    for model in ["small", "llama-3-8b"] {
        // Nine tenths of the memory are lent to training.
        let few = number(adaptive(model, 8, 36.0), "simulated_s");
        let many = number(adaptive(model, 32, 36.0), "simulated_s");
        assert!(many < few, "{model}: {few} {many}");
        let roomy = number(adaptive(model, 8, 72.0), "simulated_s");
        assert!(roomy <= few * 1.001, "{model}: {few} {roomy}");
    }
}

#[test]
fn every_known_model_runs_on_a_known_cluster() {
    let session = session();
    let models = ModelKind::ALL.map(ModelKind::name);
    let rows = rows(
        &session,
        &format!(
            "compare --cluster h200-8x8 --model {} --context 16k --sequences 64 --batches 1 --planners adaptive \
             --strategies ulysses --activations recompute",
            models.join(",")
        ),
    );
    let compared: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["model"].as_str())
        .collect();
    assert_eq!(compared, models);
    for row in &rows {
        assert_eq!(row["num_devices"], 64);
        assert!(number(row, "simulated_s") > 0.0, "{row}");
    }
}

#[test]
fn the_same_seed_gives_the_same_rows() {
    let session = session();
    let line =
        "compare --profile profile.toml --lengths lognormal:900:1.0 --sequences 40 --batches 3";
    let without_times = |line: &str| {
        let mut rows = rows(&session, line);
        for row in &mut rows {
            row.as_object_mut().unwrap().remove("solve_s");
        }
        rows
    };
    assert_eq!(without_times(line), without_times(line));
    assert_ne!(
        without_times(line),
        without_times(&format!("{line} --seed 5"))
    );
}

#[test]
fn csv_has_a_field_for_every_name() {
    let session = session();
    let output = session.output(
        "compare --profile profile.toml --lengths long.txt --context 100k --format csv",
        b"",
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = printed.lines();
    let names = lines.next().unwrap().split(',').count();
    let mut num_rows = 0;
    for line in lines {
        // The only fields with commas are quoted.
        let unquoted: String = line.split('"').step_by(2).collect();
        assert_eq!(unquoted.split(',').count(), names, "{line}");
        num_rows += 1;
    }
    assert_eq!(num_rows, 3);
}

#[test]
fn the_published_profiles_can_be_compared_under() {
    let session = session();
    let profile = example("profiles/a100-gpt-7b-384k.toml");
    let line = format!(
        "compare --profile {} --sequences 128 --batches 1 --planners static,flexsp,adaptive --flexsp-time 500ms",
        profile.display()
    );
    let rows = rows(&session, &line);
    assert_eq!(rows[0]["planner"], "static:64");
    assert!(number(&rows[2], "speedup_over_static") > 1.0);
    assert!(number(&rows[2], "simulated_s") <= number(&rows[1], "simulated_s"));
}

#[test]
fn what_cannot_be_compared_is_told() {
    let mut session = session();
    session.file(
        "bad.toml",
        CLUSTER.replace("num_nodes = 2", "num_nodes = 0"),
    );
    session.file(
        "heads.toml",
        MODEL.replace("num_heads = 8", "num_heads = 7"),
    );
    for line in [
        "compare",
        "compare --cluster cluster.toml",
        "compare --cluster cluster.toml --model llama-3",
        "compare --cluster cluster.toml --model heads.toml",
        "compare --cluster cluster.toml --model missing.toml",
        "compare --cluster bad.toml --model llama-3-8b",
        "compare --cluster missing.toml --model llama-3-8b",
        "compare --cluster h10-8x8 --model llama-3-8b",
        "compare --cluster a100-8x8 --model llama-3-8b",
        "compare --profile missing.toml",
        "compare --profile profile.toml --lengths wikipeda",
        "compare --profile profile.toml --lengths missing.txt",
        "compare --profile profile.toml --lengths lognormal:x",
        "compare --profile profile.toml --lengths long.txt --context 500",
        "compare --profile profile.toml --degrees 16",
        "compare --profile profile.toml --degrees 0",
        "compare --profile profile.toml --devices 0",
        "compare --profile profile.toml --memory -1",
        "compare --profile profile.toml --memory nan",
        "compare --profile profile.toml --planners best",
        "compare --profile profile.toml --sequences 0",
        "compare --profile profile.toml --format yaml",
        "compare --paper --profile profile.toml",
    ] {
        session.run(line);
    }
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn lengthwise_is_faster_than_simulated_flexsp_in_all_published_settings() {
    let session = session();
    let rows = rows(&session, "compare --paper --batches 1 --flexsp-time 300ms");
    assert_eq!(rows.len(), 18);
    for row in &rows {
        let flexsp = number(row, "flexsp_s");
        assert!(number(row, "adaptive_s") < flexsp, "{row}");
        assert!(number(row, "adaptive_same_degrees_s") < flexsp, "{row}");
        assert!(number(row, "flexsp_s") < number(row, "static_s"), "{row}");
    }
}
