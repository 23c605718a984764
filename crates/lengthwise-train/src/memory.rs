//! The memory model of a rank's device: fixed bytes, and bytes for each of its tokens.
//!
//! The figures count the tensors that the executor holds at its fullest moment, the backward of a layer. They
//! are upper bounds: `tests/memory.rs` holds them against the bytes that devices counted.

use lengthwise_core::{Activations, Bytes, Degree, Strategy};
use lengthwise_tensor::{Backend, CpuBackend};

use crate::model::exchange::Shards;
use crate::model::{ModelConfig, ModelSpec};

/// Bytes of an element.
const ELEMENT: f64 = 4.0;

/// Bytes that every rank holds whatever it works on.
///
/// Its shard of parameters, gradients and both moments; what is gathered and what is to be scattered; and the scratch of
/// the backend's operations.
pub fn fixed_bytes(config: &ModelConfig, num_ranks: usize) -> f64 {
    let spec = ModelSpec::new(config);
    let shard = spec.num_parameters().div_ceil(num_ranks) + spec.units.len();
    let alone = Strategy::ulysses(Degree::ONE, Activations::Recompute);
    let one_token = token_elements(config, alone);
    let scratch = |vocab| {
        let scratch = CpuBackend::new(Bytes(0)).scratch_memory(config.head_dim, vocab);
        scratch.as_f64()
    };
    let units = WholeUnits::new(config, &spec, num_ranks);
    let at_output = ELEMENT * units.at_output as f64 + scratch(config.vocab);
    let in_layer = ELEMENT * units.in_layer as f64 + scratch(0);
    ELEMENT * (4.0 * shard as f64 + one_token) + at_output.max(in_layer)
}

/// Elements of whole units that a rank holds: gathered ones, and their gradients before they are scattered.
struct WholeUnits {
    at_output: usize,
    /// In the backward of a layer.
    in_layer: usize,
}

impl WholeUnits {
    fn new(config: &ModelConfig, spec: &ModelSpec, num_ranks: usize) -> Self {
        let layer = spec.units[ModelSpec::layer(0)].num_elements();
        let output = spec.units[spec.output()].num_elements();
        let table = spec.units[ModelSpec::EMBEDDING].num_elements();
        let with_table = if config.tied_output {
            output + table
        } else {
            output
        };
        // A rank gives a copy to a gather where its shard of the unit has several parts, as a table's never has. The
        // copy is there until all have read it, and so is that for the next gather.
        let piece = layer.div_ceil(num_ranks);
        if num_ranks == 1 {
            // The copy is what is gathered.
            return WholeUnits {
                at_output: layer + output + with_table + piece,
                in_layer: 2 * layer + piece,
            };
        }
        let output_piece = if config.tied_output {
            0
        } else {
            output.div_ceil(num_ranks)
        };
        WholeUnits {
            // The last layer's parameters, which its backward needs, and the output's with their gradient: first that and
            // its parameters, then, where it is joined from two, that and those two.
            at_output: layer + 2 * with_table + piece + output_piece,
            // Parameters and their gradients, and then these and what is joined from them. What the stage before has
            // scattered is there until the slowest rank has read it.
            in_layer: 2 * layer + with_table.max(layer) + 2 * piece,
        }
    }
}

/// Bytes that each token of a sequence adds on every device of a group with this strategy.
pub fn bytes_per_token(config: &ModelConfig, strategy: Strategy) -> f64 {
    ELEMENT * token_elements(config, strategy) / f64::from(strategy.degree().get())
}

/// Bytes that each token of a sequence adds in the memory of the host for every device of a group with this strategy.
///
/// What goes there are the inputs of all layers but the last. A rank may have up to one token more than its share.
pub fn host_bytes_per_token(config: &ModelConfig, strategy: Strategy) -> f64 {
    let moved = match strategy.activations() {
        Activations::Host => (config.layers - 1) as f64 * config.hidden as f64,
        Activations::Keep | Activations::Recompute => 0.0,
    };
    ELEMENT * moved / f64::from(strategy.degree().get())
}

/// Bytes on every device in forward passes alone: one layer's input, what it would save for its backward, and its output.
pub fn forward_bytes_per_token(config: &ModelConfig, degree: Degree) -> f64 {
    let held = 2.0 * config.hidden as f64 + OfHeads::new(config, degree).saved(config);
    ELEMENT * held / f64::from(degree.get())
}

/// Elements that the fullest rank of a group holds of heads, for each of its own tokens.
struct OfHeads {
    query_heads: f64,
    queries: f64,
    kv: f64,
    /// Queries and keys before the norms of heads.
    unnormed: f64,
    /// The output of attention, once more for the rank's own tokens: the same where there is nobody to exchange it
    /// with.
    context: f64,
}

impl OfHeads {
    fn new(config: &ModelConfig, degree: Degree) -> Self {
        // How many of the packed tokens' elements the rank with the most heads has, per token of its own.
        let ranks = degree.as_usize();
        let shards = Shards::new(config, ranks, ranks);
        let most =
            |heads: &dyn Fn(usize) -> usize| (0..ranks).map(heads).max().unwrap_or(0) * ranks;
        let query_heads = most(&|rank| shards.kv_head_of(rank).len());
        let kv_heads = most(&|rank| shards.num_kv_heads(rank));
        let own_queries = config.query_features() as f64;
        OfHeads {
            query_heads: query_heads as f64,
            queries: (query_heads * config.head_dim) as f64,
            kv: (kv_heads * config.head_dim) as f64,
            unnormed: if config.has_qk_norms() {
                own_queries + config.kv_features() as f64
            } else {
                0.0
            },
            context: if degree == Degree::ONE {
                0.0
            } else {
                own_queries
            },
        }
    }

    /// The tensors that a layer saves for its backward, beside its input.
    fn saved(&self, config: &ModelConfig) -> f64 {
        let (hidden, ffn) = (config.hidden as f64, config.ffn as f64);
        // normed, middle, middle_normed, context; q, attended, lse; k, v; gate, up, activated.
        3.0 * hidden
            + self.context
            + self.unnormed
            + 2.0 * self.queries
            + self.query_heads
            + 2.0 * self.kv
            + 3.0 * ffn
    }
}

/// Elements that a rank holds for each of its own tokens.
fn token_elements(config: &ModelConfig, strategy: Strategy) -> f64 {
    let of_heads = OfHeads::new(config, strategy.ulysses_degree());
    let saved = of_heads.saved(config);
    let OfHeads {
        query_heads,
        queries,
        kv,
        unnormed,
        ..
    } = of_heads;
    let (hidden, ffn) = (config.hidden as f64, config.ffn as f64);
    // Queries, and keys or values, of all heads for a token of one's own.
    let (own_queries, own_kv) = (config.query_features() as f64, config.kv_features() as f64);
    let below = (config.layers - 1) as f64;
    let kept = match strategy.activations() {
        // The input of every layer, and what the layers below this one saved beside theirs.
        Activations::Keep => hidden + below * (hidden + saved),
        Activations::Recompute => hidden + below * hidden,
        // Of the inputs that of the layer at hand, and one that leaves or comes.
        Activations::Host => hidden + below.min(1.0) * hidden,
    };
    // The MLP's backward holds all that was saved, but `activated`, with the gradients of the stream and of
    // `activated`, `gate` and `up`; later those of the stream and two of `middle_normed`. The output's stage holds three
    // of the stream too.
    let mlp = saved + (hidden + 2.0 * ffn).max(3.0 * hidden);
    // The attention's holds normed, q, k, v, attended and lse, with their gradients on their way to tokens.
    let attention =
        3.0 * hidden + own_queries + unnormed + 4.0 * queries + 5.0 * kv + 2.0 * query_heads;
    // In a ring it holds two gradients of the queries at a time. Of keys and values there are the block at hand and one that comes
    // or goes; of their gradients those of this block, those that come and those that go, and those of a second layout. Blocks
    // that a slow neighbour has not taken yet are still there in what follows.
    let is_ring = strategy.ring_degree() > Degree::ONE;
    let in_ring = if is_ring { queries + 7.0 * kv } else { 0.0 };
    let behind_ring = if is_ring { 4.0 * kv } else { 0.0 };
    // Behind it, the gradients of normed from queries, keys and values come beside that of the stream.
    let projections = 5.0 * hidden + own_queries + 2.0 * own_kv;
    kept + (attention + in_ring).max(mlp.max(projections) + behind_ring)
}
