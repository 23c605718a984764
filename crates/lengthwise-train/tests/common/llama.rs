//! A LLaMA as published, in plain `f64`, from the files of a checkpoint: tensors by their names, shapes by `config.json`.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

/// Rows of numbers, by position.
type Rows = Vec<Vec<f64>>;

/// A model that was read from files.
pub struct Llama {
    pub config: Value,
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Llama {
    pub fn read(directory: &Path) -> Self {
        let config = std::fs::read(directory.join("config.json")).unwrap();
        let bytes = std::fs::read(directory.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter().map(|(name, tensor)| {
            let elements = tensor.data().chunks_exact(4);
            let elements: Vec<f64> = elements
                .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
                .collect();
            (name, (tensor.shape().to_vec(), elements))
        });
        Llama {
            config: serde_json::from_slice(&config).unwrap(),
            tensors: tensors.collect(),
        }
    }

    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The elements of a tensor.
    pub fn elements(&self, name: &str) -> &[f64] {
        &self.tensors[name].1
    }

    /// The logits behind each of `ids`.
    pub fn logits(&self, ids: &[u32]) -> Rows {
        let table = "model.embed_tokens.weight";
        let mut x: Rows = ids.iter().map(|&id| self.row(table, id as usize)).collect();
        for layer in 0..self.number("num_hidden_layers") as usize {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let normed = self.normed(&x, &name("input_layernorm"));
            let heads = self.attention(
                &self.turned(self.project(&normed, &name("self_attn.q_proj"))),
                &self.turned(self.project(&normed, &name("self_attn.k_proj"))),
                &self.project(&normed, &name("self_attn.v_proj")),
            );
            add(&mut x, &self.project(&heads, &name("self_attn.o_proj")));
            let normed = self.normed(&x, &name("post_attention_layernorm"));
            let mut inner = self.project(&normed, &name("mlp.gate_proj"));
            let up = self.project(&normed, &name("mlp.up_proj"));
            for (gate, up) in inner.iter_mut().flatten().zip(up.iter().flatten()) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            add(&mut x, &self.project(&inner, &name("mlp.down_proj")));
        }
        let normed = self.normed(&x, "model.norm.weight");
        let is_tied = self.config["tie_word_embeddings"].as_bool().unwrap();
        self.project(&normed, if is_tied { table } else { "lm_head.weight" })
    }

    /// The losses of a sequence, summed: of each id but the first, after those before it.
    pub fn loss(&self, ids: &[u32]) -> f64 {
        let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
        let losses = self.logits(inputs).into_iter().zip(targets);
        losses
            .map(|(logits, &target)| {
                let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
                sum.ln() - logits[target as usize]
            })
            .sum()
    }

    fn number(&self, name: &str) -> f64 {
        self.config[name].as_f64().unwrap()
    }

    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let (shape, elements) = &self.tensors[name];
        elements[row * shape[1]..][..shape[1]].to_vec()
    }

    fn project(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let (shape, elements) = &self.tensors[name];
        let product = |x: &Vec<f64>| {
            assert_eq!(x.len(), shape[1], "{name}");
            let rows = elements.chunks_exact(shape[1]);
            rows.map(|row| dot(row, x)).collect()
        };
        x.iter().map(product).collect()
    }

    fn normed(&self, x: &[Vec<f64>], name: &str) -> Rows {
        let (shape, weight) = &self.tensors[name];
        let normed = |x: &Vec<f64>| {
            assert_eq!(*shape, [x.len()], "{name}");
            let rms = (dot(x, x) / x.len() as f64 + self.number("rms_norm_eps")).sqrt();
            x.iter()
                .zip(weight)
                .map(|(x, weight)| x / rms * weight)
                .collect()
        };
        x.iter().map(normed).collect()
    }

    /// Turns every pair of a head's features, half a head apart, by an angle that grows with the position.
    fn turned(&self, mut x: Rows) -> Rows {
        let dim = self.number("head_dim") as usize;
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(dim) {
                for i in 0..dim / 2 {
                    let frequency = self.number("rope_theta").powf(-2.0 * i as f64 / dim as f64);
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (a, b) = (head[i], head[i + dim / 2]);
                    head[i] = a * cos - b * sin;
                    head[i + dim / 2] = b * cos + a * sin;
                }
            }
        }
        x
    }

    fn attention(&self, q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Rows {
        let dim = self.number("head_dim") as usize;
        let heads = self.number("num_attention_heads") as usize;
        let heads_per_kv = heads / self.number("num_key_value_heads") as usize;
        let of_token = |(token, q): (usize, &Vec<f64>)| {
            let of_head = |head: usize| {
                let (query, kv) = (&q[head * dim..][..dim], head / heads_per_kv * dim);
                let scores = k[..=token].iter();
                let weights: Vec<f64> = scores
                    .map(|k| (dot(query, &k[kv..][..dim]) / (dim as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = weights.iter().sum();
                let feature = move |i: usize| {
                    let values = weights.iter().zip(v);
                    values
                        .map(|(weight, v)| weight / sum * v[kv + i])
                        .sum::<f64>()
                };
                (0..dim).map(feature).collect::<Vec<f64>>()
            };
            (0..heads).flat_map(of_head).collect()
        };
        q.iter().enumerate().map(of_token).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [Vec<f64>], y: &[Vec<f64>]) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}
