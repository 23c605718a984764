//! Models that are read are those that were written, whatever the ranks, files and types; what is broken is one error.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;

use std::fs;
use std::path::Path;

use common::{batch, on_ranks, plan, tiny_model, variants};
use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Activations, Bytes};
use lengthwise_data::TokenBatch;
use lengthwise_train::{Executor, ExportWriter, ModelConfig, PretrainedModel, WeightType};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

fn write(config: &ModelConfig, directory: &Path) {
    on_ranks(1, Bytes::from_mib(64), |world| {
        common::write(&Executor::new(config.clone(), world, 3)?, directory, 256)
    });
}

/// A directory with a small model.
fn written(config: &ModelConfig) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(config, directory.path());
    directory
}

/// The loss and the gradients of a model that is read, or of the random one that was written.
fn gradients(
    num_ranks: usize,
    config: &ModelConfig,
    read: Option<&PretrainedModel>,
    batch: &TokenBatch,
) -> (f64, Vec<Vec<f32>>) {
    let plan = plan(&[&[(num_ranks as u32, &[0, 1])]], Activations::Keep);
    let mut results = on_ranks(num_ranks, Bytes::from_mib(64), |world| {
        let mut executor = match read {
            Some(model) => Executor::pretrained(model, world.clone())?,
            None => Executor::new(config.clone(), world.clone(), 3)?,
        };
        let loss = executor.accumulate_gradients(&plan, batch)?;
        let loss = world.all_reduce_values(&[loss], ReduceOp::Sum)?[0];
        Ok((loss, executor.gathered_gradients()?))
    });
    results.swap_remove(0)
}

#[test]
fn a_model_that_is_read_is_bit_for_bit_what_was_written() {
    for (name, config) in variants() {
        let directory = written(&config);
        let model = PretrainedModel::open(directory.path()).unwrap();
        let batch = batch(&[20, 9], config.vocab);
        for num_ranks in [1, 2, 3, 5] {
            let read = gradients(num_ranks, &config, Some(&model), &batch);
            let written = gradients(num_ranks, &config, None, &batch);
            assert!(read == written, "{name} on {num_ranks} ranks");
        }
    }
}

/// All tensors of the one file of a directory: names, shapes, elements.
fn tensors(directory: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(directory.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, tensor)| {
            let elements = tensor.data().as_chunks::<4>().0.iter();
            let elements = elements.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (name, tensor.shape().to_vec(), elements)
        })
        .collect()
}

fn store(path: &Path, dtype: Dtype, tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let stored: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, elements)| {
            let bytes = |x: &f32| match dtype {
                Dtype::BF16 => half::bf16::from_f32(*x).to_le_bytes().to_vec(),
                Dtype::F16 => half::f16::from_f32(*x).to_le_bytes().to_vec(),
                Dtype::F64 => f64::from(*x).to_le_bytes().to_vec(),
                _ => x.to_le_bytes().to_vec(),
            };
            elements.iter().flat_map(bytes).collect()
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&stored)
        .map(|((name, shape, _), bytes)| {
            (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
        });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn narrow_types_and_several_files_are_read() {
    let config = tiny_model(6, 2, false);
    let batch = batch(&[20, 9], config.vocab);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let directory = written(&config);
        let tensors = tensors(directory.path());
        let single = directory.path().join("model.safetensors");
        store(&single, dtype, &tensors);
        let model = PretrainedModel::open(directory.path()).unwrap();
        let whole = gradients(2, &config, Some(&model), &batch);
        let exact = gradients(2, &config, None, &batch).0;
        let tolerance = if dtype == Dtype::F32 { 0.0 } else { 2e-2 };
        assert!(
            (whole.0 - exact).abs() <= tolerance,
            "{dtype:?}: {} for {exact}",
            whole.0
        );
        assert!(
            dtype == Dtype::F32 || whole.0 != exact,
            "{dtype:?} is narrow"
        );

        fs::remove_file(single).unwrap();
        let mut map = serde_json::Map::new();
        for (index, part) in tensors.chunks(4).enumerate() {
            let name = format!("model-{index}.safetensors");
            store(&directory.path().join(&name), dtype, part);
            map.extend(
                part.iter()
                    .map(|(tensor, ..)| (tensor.clone(), name.clone().into())),
            );
        }
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
        fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
        let model = PretrainedModel::open(directory.path()).unwrap();
        assert!(gradients(3, &config, Some(&model), &batch).0 - whole.0 < 1e-4);
    }
}

/// The error of opening a model after it was changed in a way that breaks it.
fn refusal(break_it: impl FnOnce(&Path)) -> String {
    let directory = written(&tiny_model(4, 2, true));
    break_it(directory.path());
    let error = PretrainedModel::open(directory.path()).unwrap_err();
    error
        .to_string()
        .replace(&*directory.path().to_string_lossy(), "DIR")
}

/// Replaces the header of the weights.
fn with_header(directory: &Path, change: impl FnOnce(&mut Value)) {
    let path = directory.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + len..]);
    fs::write(path, changed).unwrap();
}

fn with_bytes(directory: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = directory.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn with_tensors(
    directory: &Path,
    dtype: Dtype,
    change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>),
) {
    let mut all = tensors(directory);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut all);
    store(&directory.join("model.safetensors"), dtype, &all);
}

fn with_index(directory: &Path, change: impl FnOnce(&mut Value)) {
    let names = tensors(directory).into_iter().map(|(name, ..)| name);
    let part = "part.safetensors";
    fs::rename(directory.join("model.safetensors"), directory.join(part)).unwrap();
    let map: serde_json::Map<String, Value> = names.map(|name| (name, part.into())).collect();
    let mut index = json!({ "weight_map": map });
    change(&mut index);
    fs::write(
        directory.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn broken_weights_are_one_error_each() {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let refusals = [
        refusal(|dir| fs::remove_file(dir.join("config.json")).unwrap()),
        refusal(|dir| fs::write(dir.join("config.json"), [0xff, 0xfe]).unwrap()),
        refusal(|dir| fs::remove_file(dir.join("model.safetensors")).unwrap()),
        refusal(|dir| {
            fs::remove_file(dir.join("model.safetensors")).unwrap();
            fs::create_dir(dir.join("model.safetensors")).unwrap();
        }),
        refusal(|dir| with_bytes(dir, Vec::clear)),
        refusal(|dir| with_bytes(dir, |bytes| bytes.truncate(7))),
        refusal(|dir| with_bytes(dir, |bytes| bytes.truncate(8))),
        refusal(|dir| with_bytes(dir, |bytes| bytes.truncate(100))),
        refusal(|dir| with_bytes(dir, |bytes| bytes.truncate(bytes.len() - 1))),
        refusal(|dir| with_bytes(dir, |bytes| bytes.push(0))),
        refusal(|dir| with_bytes(dir, |bytes| bytes[..8].fill(0xff))),
        refusal(|dir| with_bytes(dir, |bytes| bytes[8] = b'[')),
        refusal(|dir| {
            with_header(dir, |header| {
                header[EMBEDDING]["data_offsets"] = json!([8, 4])
            })
        }),
        refusal(|dir| {
            with_header(dir, |header| {
                header[EMBEDDING]["data_offsets"][1] = json!(u64::MAX)
            })
        }),
        refusal(|dir| {
            with_header(dir, |header| {
                header[EMBEDDING]["shape"] = json!([u64::MAX, u64::MAX])
            })
        }),
        refusal(|dir| with_header(dir, |header| header[EMBEDDING]["dtype"] = json!("F33"))),
        refusal(|dir| with_header(dir, |header| header[EMBEDDING]["shape"] = json!([16, 61]))),
        refusal(|dir| with_tensors(dir, Dtype::F64, |_| {})),
        refusal(|dir| with_tensors(dir, Dtype::F32, |all| drop(all.remove(0)))),
        refusal(|dir| with_tensors(dir, Dtype::F32, |all| all.truncate(3))),
        refusal(|dir| {
            with_tensors(dir, Dtype::F32, |all| {
                all.push(("score.weight".into(), vec![1], vec![0.0]))
            })
        }),
        refusal(|dir| {
            with_tensors(dir, Dtype::F32, |all| {
                all.push(("lm_head.weight".into(), vec![61, 16], vec![0.0; 61 * 16]));
            });
        }),
        refusal(|dir| with_index(dir, |index| *index = json!([]))),
        refusal(|dir| with_index(dir, |index| index["weight_map"] = json!({ "a": 3 }))),
        refusal(|dir| {
            with_index(dir, |index| {
                index["weight_map"][EMBEDDING] = json!("other.safetensors")
            })
        }),
        refusal(|dir| {
            with_index(dir, |index| {
                index["weight_map"][EMBEDDING] = json!("../part.safetensors")
            })
        }),
        refusal(|dir| {
            with_index(dir, |index| {
                index["weight_map"][EMBEDDING] = json!("/etc/passwd")
            })
        }),
        refusal(|dir| {
            with_index(dir, |index| {
                index["weight_map"]["score.weight"] = json!("part.safetensors")
            })
        }),
        refusal(|dir| {
            with_index(dir, |index| {
                index["weight_map"]
                    .as_object_mut()
                    .unwrap()
                    .remove(EMBEDDING);
            });
        }),
    ];
    insta::assert_snapshot!(refusals.join("\n"));
}

#[test]
fn what_models_store_without_need_is_accepted_if_it_is_right() {
    let config = tiny_model(4, 2, true);
    let directory = written(&config);
    with_tensors(directory.path(), Dtype::F32, |all| {
        let table = all.iter().find(|one| one.0 == "model.embed_tokens.weight");
        let table = table.unwrap().clone();
        all.push(("lm_head.weight".into(), table.1, table.2));
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
        all.push((name.into(), vec![2], vec![1.0, 0.01]));
    });
    PretrainedModel::open(directory.path()).unwrap();
}

#[test]
fn an_exported_model_keeps_config_and_tokenizer_of_where_it_comes_from() {
    let directory = written(&tiny_model(4, 2, true));
    let source = directory.path();
    let config = source.join("config.json");
    let mut keys: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    keys.as_object_mut().unwrap().remove("torch_dtype");
    keys["dtype"] = "float32".into();
    keys["pad_token_id"] = 7.into();
    fs::write(&config, keys.to_string()).unwrap();
    fs::write(source.join("tokenizer.json"), "{}").unwrap();
    fs::write(source.join("notes.txt"), "mine").unwrap();
    let model = PretrainedModel::open(source).unwrap();
    let exported = tempfile::tempdir().unwrap();
    let claim = |path, spec: &_| ExportWriter::claim(path, spec);
    on_ranks(2, Bytes::from_mib(64), |world| {
        let executor = Executor::pretrained(&model, world.clone())?;
        // A model is never overwritten, not by itself either.
        assert!(claim(source, executor.spec()).is_err());
        let is_first = world.rank().index() == 0;
        let claimed = is_first.then(|| claim(exported.path(), executor.spec()).unwrap());
        let saved = executor.export(claimed, 99, WeightType::Bf16, (&model).into())?;
        assert_eq!(saved.is_some_and(|saved| saved.is_ok()), is_first);
        Ok(())
    });
    let read = |name| fs::read(exported.path().join(name));
    let written: Value = serde_json::from_slice(&read("config.json").unwrap()).unwrap();
    keys["dtype"] = "bfloat16".into();
    assert_eq!(written, keys);
    assert_eq!(read("tokenizer.json").unwrap(), b"{}");
    assert!(read("notes.txt").is_err());
    let bytes = read("model.safetensors").unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape, elements) in tensors(source) {
        let tensor = file.tensor(&name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::BF16, &shape[..]));
        let rounded = elements.iter().map(|&x| half::bf16::from_f32(x));
        let rounded: Vec<u8> = rounded.flat_map(half::bf16::to_le_bytes).collect();
        assert_eq!(tensor.data(), rounded, "{name}");
    }
    PretrainedModel::open(exported.path()).unwrap();
}

#[test]
fn no_cut_or_changed_byte_of_the_header_makes_the_reader_panic() {
    let directory = written(&tiny_model(2, 1, true));
    let path = directory.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let len = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in 0..8 + len {
        for byte in [b'9', b'"', 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            fs::write(&path, bytes).unwrap();
            let _ = PretrainedModel::open(directory.path());
        }
    }
}
