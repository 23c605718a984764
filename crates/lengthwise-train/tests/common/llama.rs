//! A LLaMA, Mistral, Qwen2 or Qwen3 as published, in plain `f64`, from the files of a model: tensors by their names, shapes
//! by `config.json`.

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

    /// Moves an element of a tensor.
    pub fn shift(&mut self, name: &str, index: usize, by: f64) {
        let tensor = self.tensors.get_mut(name).unwrap();
        tensor.1[index] += by;
    }

    /// The logits behind each of `ids`.
    pub fn logits(&self, ids: &[u32]) -> Rows {
        let table = "model.embed_tokens.weight";
        let mut x: Rows = ids.iter().map(|&id| self.row(table, id as usize)).collect();
        for layer in 0..self.number("num_hidden_layers") as usize {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let normed = self.normed(&x, &name("input_layernorm"));
            let q = self.project(&normed, &name("self_attn.q_proj"));
            let k = self.project(&normed, &name("self_attn.k_proj"));
            let heads = self.attention(
                layer,
                &self.turned(self.normed_heads(q, &name("self_attn.q_norm"))),
                &self.turned(self.normed_heads(k, &name("self_attn.k_norm"))),
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
        self.losses(ids).iter().sum()
    }

    /// The loss of each id of a sequence but the first.
    pub fn losses(&self, ids: &[u32]) -> Vec<f64> {
        let (inputs, targets) = (&ids[..ids.len() - 1], &ids[1..]);
        let losses = self.logits(inputs).into_iter().zip(targets);
        losses
            .map(|(logits, &target)| {
                let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
                sum.ln() - logits[target as usize]
            })
            .collect()
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
        let bias = self.tensors.get(&name.replace(".weight", ".bias"));
        let product = |x: &Vec<f64>| {
            assert_eq!(x.len(), shape[1], "{name}");
            let rows = elements.chunks_exact(shape[1]).enumerate();
            rows.map(|(row, weights)| dot(weights, x) + bias.map_or(0.0, |bias| bias.1[row]))
                .collect()
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

    /// Each head with a norm of its own, where the model has such norms.
    fn normed_heads(&self, x: Rows, name: &str) -> Rows {
        if !self.tensors.contains_key(name) {
            return x;
        }
        let dim = self.number("head_dim") as usize;
        let of_token = |x: &Vec<f64>| {
            let heads: Rows = x.chunks_exact(dim).map(<[f64]>::to_vec).collect();
            self.normed(&heads, name).concat()
        };
        x.iter().map(of_token).collect()
    }

    /// Radians a position of every pair, and the factor on what was turned.
    fn frequencies(&self) -> (Vec<f64>, f64) {
        let dim = self.number("head_dim");
        let theta = self.number("rope_theta");
        let plain = (0..dim as usize / 2).map(|i| theta.powf(-2.0 * i as f64 / dim));
        let scaling = &self.config["rope_scaling"];
        let number = |key: &str| scaling[key].as_f64().unwrap();
        match scaling["rope_type"].as_str() {
            None => (plain.collect(), 1.0),
            Some("linear") => (plain.map(|f| f / number("factor")).collect(), 1.0),
            Some("llama3") => {
                let context = number("original_max_position_embeddings");
                let (low, high) = (number("low_freq_factor"), number("high_freq_factor"));
                let scaled = plain.map(|f| {
                    let length = std::f64::consts::TAU / f;
                    if length < context / high {
                        f
                    } else if length > context / low {
                        f / number("factor")
                    } else {
                        let smooth = (context / length - low) / (high - low);
                        (1.0 - smooth) * f / number("factor") + smooth * f
                    }
                });
                (scaled.collect(), 1.0)
            }
            Some("yarn") => {
                let context = number("original_max_position_embeddings");
                let place = |turns: f64| {
                    let turned = context / (turns * std::f64::consts::TAU);
                    dim * turned.ln() / (2.0 * theta.ln())
                };
                let low = place(number("beta_fast")).floor().max(0.0);
                let high = place(number("beta_slow")).ceil().min(dim - 1.0);
                let scaled = plain.enumerate().map(|(i, f)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    f / number("factor") * ramp + f * (1.0 - ramp)
                });
                (scaled.collect(), number("attention_factor"))
            }
            Some(other) => panic!("{other} has no reference"),
        }
    }

    /// The first key that a token of a layer attends to.
    fn first_seen(&self, layer: usize, token: usize) -> usize {
        let config = &self.config;
        let slides = match config["layer_types"].as_array() {
            Some(types) => types[layer] == "sliding_attention",
            None => true,
        };
        match config["sliding_window"].as_u64() {
            Some(window) if slides => (token + 1).saturating_sub(window as usize),
            _ => 0,
        }
    }

    /// Turns every pair of a head's features, half a head apart, by an angle that grows with the position.
    fn turned(&self, mut x: Rows) -> Rows {
        let dim = self.number("head_dim") as usize;
        let (frequencies, scale) = self.frequencies();
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(dim) {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    let (sin, cos) = (sin * scale, cos * scale);
                    let (a, b) = (head[i], head[i + dim / 2]);
                    head[i] = a * cos - b * sin;
                    head[i + dim / 2] = b * cos + a * sin;
                }
            }
        }
        x
    }

    fn attention(&self, layer: usize, q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>]) -> Rows {
        let dim = self.number("head_dim") as usize;
        let heads = self.number("num_attention_heads") as usize;
        let heads_per_kv = heads / self.number("num_key_value_heads") as usize;
        let of_token = |(token, q): (usize, &Vec<f64>)| {
            let first = self.first_seen(layer, token);
            let of_head = |head: usize| {
                let (query, kv) = (&q[head * dim..][..dim], head / heads_per_kv * dim);
                let scores = k[first..=token].iter();
                let weights: Vec<f64> = scores
                    .map(|k| (dot(query, &k[kv..][..dim]) / (dim as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = weights.iter().sum();
                let feature = move |i: usize| {
                    let values = weights.iter().zip(&v[first..]);
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
