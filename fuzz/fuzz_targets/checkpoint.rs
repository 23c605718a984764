//! Any bytes as `trainer.json`, and any change of a checkpoint's files: an error or a checkpoint; never a panic.
//!
//! Sizes and checksums are brought in line with what was changed, so that what is behind them is tried as well.
//!
//! `cargo +nightly fuzz run checkpoint`

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use lengthwise_data::{ContentFingerprint, DataFingerprint};
use lengthwise_train::checkpoint::{
    Checkpoint, CheckpointFile, RECORD_FILE, StateKind, TrainerRecord,
};
use lengthwise_train::{ModelSpec, NoDecay, OptimizerConfig, PretrainedConfig, Schedule};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// As `trainer.json`.
    Record(&'a [u8]),
    /// The same with the checksum that it needs.
    Summed(&'a str),
    /// Of a shard: bytes at places, and how many of the last ones are left out.
    Shard(Vec<(u16, u8)>, u8),
    /// The same with the size and the checksum that it has then.
    ListedShard(Vec<(u16, u8)>, u8),
    /// A header in the place of the shard's own.
    Header(&'a str),
}

const SHARD: &str = "shard-00001-model-00001-of-00003.safetensors";

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 3,
    "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 8,
    "rope_theta": 10000.0, "tie_word_embeddings": true}"#;

/// A checkpoint of one rank, written here.
static WHOLE: LazyLock<(TempDir, Vec<u8>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), CONFIG).unwrap();
    let config = PretrainedConfig::read(directory.path()).unwrap();
    let spec = ModelSpec::new(&config.model);
    let (mut header, mut places, mut end) = (Map::new(), Map::new(), 0);
    for parameter in spec.units.iter().flat_map(|unit| &unit.parameters) {
        for kind in StateKind::ALL {
            let name = kind.tensor_name(&parameter.name);
            let start = end;
            end += 4 * parameter.num_elements();
            let shape = parameter.shape();
            let offsets = vec![0; shape.len()];
            let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
            places.insert(name.clone(), json!({ "saved_offsets": offsets }));
            header.insert(name, entry);
        }
    }
    let about = json!({ "DCP_SHARDING_INFO": Value::Object(places).to_string() });
    header.insert("__metadata__".to_owned(), about);
    let header = Value::Object(header).to_string();
    let mut shard = (header.len() as u64).to_le_bytes().to_vec();
    shard.extend(header.as_bytes());
    shard.extend(vec![0; end]);
    write(directory.path(), &shard, &shard);
    Checkpoint::open(directory.path())
        .unwrap()
        .verify()
        .unwrap();
    (directory, shard)
});

/// Writes a shard, and a record that lists another one in its place.
fn write(directory: &Path, shard: &[u8], listed: &[u8]) {
    let file = |name: &str, bytes: &[u8]| CheckpointFile {
        name: name.to_owned(),
        num_bytes: bytes.len() as u64,
        crc32: crc32fast::hash(bytes),
    };
    let record = TrainerRecord {
        version: TrainerRecord::VERSION,
        program: "0.1.0".to_owned(),
        run: "run".to_owned(),
        step: 3,
        steps: 9,
        epoch: 1,
        num_drawn: 2,
        data: DataFingerprint {
            num_documents: 1,
            num_sequences: 1,
            num_tokens: 8,
            lengths_crc32: 0,
            context: 8,
            overlong: "split".to_owned(),
            min_tokens: 1,
            batch_tokens: Some(8),
            batch_sequences: None,
            seed: Some(0),
            shares: Vec::new(),
            content: ContentFingerprint::default(),
        },
        seed: 0,
        num_ranks: 1,
        optimizer: OptimizerConfig {
            learning_rate: 1e-3,
            warmup_steps: 0,
            schedule: Schedule::Cosine {
                min_learning_rate: 1e-4,
            },
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: None,
        },
        costs: None,
        settings: String::new(),
        save_s: 0.0,
        files: vec![file("config.json", CONFIG.as_bytes()), file(SHARD, listed)],
    };
    fs::write(directory.join(SHARD), shard).unwrap();
    fs::write(directory.join(RECORD_FILE), record.to_json().unwrap()).unwrap();
}

fn changed(shard: &[u8], changes: &[(u16, u8)], num_cut: u8) -> Vec<u8> {
    let mut changed = shard.to_vec();
    for &(place, byte) in changes {
        let place = usize::from(place) % changed.len();
        changed[place] = byte;
    }
    changed.truncate(shard.len() - usize::from(num_cut).min(shard.len()));
    changed
}

fn open(directory: &Path) -> bool {
    Checkpoint::open(directory).is_ok_and(|checkpoint| checkpoint.verify().is_ok())
}

fuzz_target!(|input: Input<'_>| {
    let (directory, whole) = &*WHOLE;
    let directory = directory.path();
    match input {
        Input::Record(bytes) => drop(TrainerRecord::parse(bytes)),
        Input::Summed(text) => {
            let checksum = crc32fast::hash(text.as_bytes());
            let text = format!("{text},\n  \"checksum\": \"{checksum:08x}\"\n}}\n");
            drop(TrainerRecord::parse(text.as_bytes()));
        }
        Input::Shard(changes, num_cut) => {
            let shard = changed(whole, &changes, num_cut);
            write(directory, &shard, whole);
            assert_eq!(open(directory), shard == *whole, "a change was not noticed");
        }
        Input::ListedShard(changes, num_cut) => {
            let shard = changed(whole, &changes, num_cut);
            write(directory, &shard, &shard);
            open(directory);
        }
        Input::Header(header) => {
            let mut shard = (header.len() as u64).to_le_bytes().to_vec();
            shard.extend(header.as_bytes());
            shard.extend(&whole[whole.len().saturating_sub(64)..]);
            write(directory, &shard, &shard);
            open(directory);
        }
    }
});
