//! From which of several sources the next sequence comes.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Sequences of several sources in the order in which they are drawn, without end.
///
/// Each source has a share of all tokens that are drawn, and comes in its own epochs, each in another order. The next sequence
/// is that of the source with which, of all that could come next, the tokens of all sources are closest to their shares: the
/// sum of squares of what each has more or less than its share is least.
#[derive(Clone, Debug)]
pub(crate) struct Blend {
    sources: Vec<Source>,
    seed: u64,
    num_tokens: u64,
}

#[derive(Clone, Debug)]
struct Source {
    /// Of all tokens; all shares are 1 together.
    share: f64,
    /// The lengths of its sequences are those from here on, of all.
    first: u32,
    /// Its sequences, counted from its first, in the order of its epoch.
    in_order: Vec<u32>,
    epoch: u64,
    num_drawn: usize,
    num_tokens: u64,
}

impl Blend {
    /// Sources with these weights and numbers of sequences, each at least 1 and one after another in all lengths.
    pub(crate) fn new(sources: &[(f64, u32)], seed: u64) -> Self {
        let total: f64 = sources.iter().map(|(weight, _)| weight).sum();
        let mut first = 0;
        let source = |&(weight, num_sequences): &(f64, u32)| {
            let source = Source {
                share: weight / total,
                first,
                in_order: (0..num_sequences).collect(),
                epoch: 0,
                num_drawn: 0,
                num_tokens: 0,
            };
            first += num_sequences;
            source
        };
        let mut blend = Blend {
            sources: sources.iter().map(source).collect(),
            seed,
            num_tokens: 0,
        };
        blend.restart();
        blend
    }

    /// Goes back to where nothing is drawn.
    pub(crate) fn restart(&mut self) {
        self.num_tokens = 0;
        for (index, source) in (0..).zip(&mut self.sources) {
            source.num_tokens = 0;
            source.begin_epoch(1, index, self.seed);
        }
    }

    /// The source and the sequence that come next; `seq_len` tells lengths.
    pub(crate) fn next(&self, seq_len: impl Fn(u32) -> u64) -> (usize, u32) {
        let all = self.num_tokens as f64;
        let missing = |source: &Source| source.share * all - source.num_tokens as f64;
        let (mut shared, mut squares) = (0.0, 0.0);
        for source in &self.sources {
            shared += missing(source) * source.share;
            squares += source.share * source.share;
        }
        // With a sequence of source s, of n tokens, each source j misses d_j + share_j n, and s n less than that. Of the sum of
        // their squares this is what depends on s.
        let cost = |source: &Source| {
            let num = seq_len(source.next()) as f64;
            num * (2.0 * (shared - missing(source)) + num * (squares - 2.0 * source.share + 1.0))
        };
        let mut best = (0, f64::INFINITY);
        for (index, source) in self.sources.iter().enumerate() {
            let cost = cost(source);
            if cost < best.1 {
                best = (index, cost);
            }
        }
        (best.0, self.sources[best.0].next())
    }

    /// Draws what comes next of a source, which has `num_tokens`.
    pub(crate) fn draw(&mut self, index: usize, num_tokens: u64) {
        let source = &mut self.sources[index];
        self.num_tokens += num_tokens;
        source.num_tokens += num_tokens;
        source.num_drawn += 1;
        if source.num_drawn == source.in_order.len() {
            source.begin_epoch(source.epoch + 1, index as u64, self.seed);
        }
    }

    /// How often all sources have been begun.
    pub(crate) fn epoch(&self) -> u64 {
        self.sources
            .iter()
            .map(|source| source.epoch)
            .min()
            .unwrap_or(1)
    }

    /// What tells one blend from another, in words.
    pub(crate) fn described(&self) -> impl Iterator<Item = String> + '_ {
        let described = |source: &Source| {
            let num_sequences = source.in_order.len();
            format!(
                "{num_sequences} sequences for {} of all tokens",
                source.share
            )
        };
        self.sources.iter().map(described)
    }

    /// Of each source, its share and the tokens drawn from it.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.sources
            .iter()
            .map(|source| (source.share, source.num_tokens))
    }
}

impl Source {
    fn begin_epoch(&mut self, epoch: u64, index: u64, seed: u64) {
        self.epoch = epoch;
        self.num_drawn = 0;
        for (sequence, place) in (0..).zip(&mut self.in_order) {
            *place = sequence;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Sources of the same documents come in orders of their own.
        rng.set_stream((index << 40) + epoch);
        self.in_order.shuffle(&mut rng);
    }

    fn next(&self) -> u32 {
        self.first + self.in_order[self.num_drawn]
    }
}
