//! Ring attention: each place of a ring keeps its queries, and the keys and values of all places go around.
//!
//! ```text
//! 3 places      pieces of a sequence      hop 0      hop 1      hop 2        what place 1 attends to
//! place 0       0 and 5                   KV of 0    KV of 2    KV of 1
//! place 1       1 and 4                   KV of 1    KV of 0    KV of 2
//! place 2       2 and 3                   KV of 2    KV of 1    KV of 0
//! ```
//!
//! A sequence of a ring of r places is cut into 2r pieces, and place i has pieces i and 2r-1-i, so that causal work is even
//! whatever the length; pieces differ by a token at most, and longer ones go to the places with the fewest tokens so far.
//! Blocks are sent on before they are attended to, and received after: a hop takes the longer of sending and computing. What each block gives is merged by the log-sum-exps (Liu et al., 2023). In the backward, the
//! gradients of a block follow it around, one hop behind, and end where it began.

use std::ops::Range;

use lengthwise_comm::{Communicator, Pending};
use lengthwise_tensor::{AttentionLayout, AttentionSpan, Backend, Tensor};

use super::exchange::TensorOf;
use crate::TrainError;

/// Sequences, packed one after the other, over the places of a ring.
#[derive(Clone, Debug)]
pub struct Places {
    num_places: usize,
    /// Of each sequence, where its pieces begin, and its end.
    boundaries: Vec<Vec<usize>>,
}

impl Places {
    /// The places of a ring; without one, a single place has all tokens.
    pub fn new(seq_lens: impl IntoIterator<Item = usize>, num_places: usize) -> Self {
        let num_pieces = 2 * num_places;
        let mut num_tokens = vec![0; num_places];
        let cut = |seq_len: usize| {
            let mut pieces = vec![seq_len / num_pieces; num_pieces];
            let mut by_load: Vec<usize> = (0..num_places).collect();
            by_load.sort_by_key(|&place| num_tokens[place]);
            // A place gets a second token more only when all have one, so that places never differ by more than one.
            let mirrored = by_load.iter().map(|place| num_pieces - 1 - place);
            let longer = by_load.iter().copied().chain(mirrored);
            for piece in longer.take(seq_len % num_pieces) {
                pieces[piece] += 1;
            }
            for (piece, len) in pieces.iter().enumerate() {
                num_tokens[piece.min(num_pieces - 1 - piece)] += len;
            }
            let ends = pieces.iter().scan(0, |end, len| {
                *end += len;
                Some(*end)
            });
            std::iter::once(0).chain(ends).collect()
        };
        Places {
            boundaries: seq_lens.into_iter().map(cut).collect(),
            num_places,
        }
    }

    /// The tokens of a place: for each sequence, in order, where they are in it. They are one run, or two with a gap between.
    pub fn runs(&self, place: usize) -> impl Iterator<Item = Vec<Range<usize>>> + '_ {
        let mirrored = 2 * self.num_places - 1 - place;
        self.boundaries.iter().map(move |boundaries| {
            let piece = |index: usize| boundaries[index]..boundaries[index + 1];
            let (first, last) = (piece(place), piece(mirrored));
            if first.end == last.start {
                return std::iter::once(first.start..last.end).collect();
            }
            vec![first, last]
        })
    }

    /// The number of tokens of a place.
    pub fn num_tokens(&self, place: usize) -> usize {
        self.runs(place).flatten().map(|run| run.len()).sum()
    }

    /// The attention of the tokens of `place` to those of `source`, with the heads and the window of `heads`: one layout, or
    /// several whose results are merged.
    pub fn attention(
        &self,
        place: usize,
        source: usize,
        heads: &AttentionLayout,
    ) -> Vec<AttentionLayout> {
        let empty = AttentionLayout {
            spans: Vec::new(),
            num_queries: self.num_tokens(place),
            num_keys: self.num_tokens(source),
            ..heads.clone()
        };
        let mut layouts: Vec<AttentionLayout> = Vec::new();
        let (mut query_row, mut key_row) = (0, 0);
        for (queries, keys) in self.runs(place).zip(self.runs(source)) {
            let [queries, keys] = [(queries, &mut query_row), (keys, &mut key_row)].map(with_rows);
            let spans = match heads.window {
                Some(window) => windowed_spans(&queries, &keys, window),
                None => vec![spans(&queries, &keys, place == source)],
            };
            for (index, spans) in spans.into_iter().enumerate() {
                if index == layouts.len() {
                    layouts.push(empty.clone());
                }
                layouts[index].spans.extend(spans);
            }
        }
        layouts.retain(|layout| !layout.spans.is_empty());
        if layouts.is_empty() && place == source {
            // Somebody has to say that there is nothing to see.
            layouts.push(empty);
        }
        layouts
    }
}

/// Successive tokens of a sequence, and the rows they are in.
struct Run {
    tokens: Range<usize>,
    rows: Range<usize>,
}

/// Runs that have the rows from `row` on.
fn with_rows((runs, row): (Vec<Range<usize>>, &mut usize)) -> Vec<Run> {
    let runs = runs.into_iter().map(|tokens| {
        let start = *row;
        *row += tokens.len();
        Run {
            tokens,
            rows: start..*row,
        }
    });
    runs.filter(|run| !run.tokens.is_empty()).collect()
}

/// A span for each run of queries that sees keys: those of all runs before it, whose rows are adjacent. Runs of a place and of
/// another never overlap. Runs that see the same keys share a span, for which keys are prepared once.
fn spans(queries: &[Run], keys: &[Run], is_own: bool) -> Vec<AttentionSpan> {
    let (Some(first), Some(last), Some(first_keys)) =
        (queries.first(), queries.last(), keys.first())
    else {
        return Vec::new();
    };
    if is_own {
        return vec![AttentionSpan::whole(first.rows.start..last.rows.end)];
    }
    let mut spans: Vec<AttentionSpan> = Vec::new();
    for run in queries {
        let seen = keys
            .iter()
            .take_while(|keys| keys.tokens.end <= run.tokens.start);
        let Some(end) = seen.last().map(|keys| keys.rows.end) else {
            continue;
        };
        match spans.last_mut() {
            Some(span) if span.keys.end == end => span.queries.end = run.rows.end,
            _ => spans.push(AttentionSpan {
                queries: run.rows.clone(),
                keys: first_keys.rows.start..end,
                // At least as many as there are keys: all of them are seen.
                lead: run.tokens.start - first_keys.tokens.start,
            }),
        }
    }
    spans
}

/// The same with a window, for which distances count: in several lists, each of which has a run of queries once at most.
fn windowed_spans(queries: &[Run], keys: &[Run], window: usize) -> Vec<Vec<AttentionSpan>> {
    let mut lists: Vec<Vec<AttentionSpan>> = Vec::new();
    for run in queries {
        let seen = keys.iter().filter(|keys| {
            let comes_before = keys.tokens.start <= run.tokens.start;
            comes_before && run.tokens.start < (keys.tokens.end - 1).saturating_add(window)
        });
        for (index, keys) in seen.enumerate() {
            if index == lists.len() {
                lists.push(Vec::new());
            }
            lists[index].push(AttentionSpan {
                queries: run.rows.clone(),
                keys: keys.rows.clone(),
                lead: run.tokens.start - keys.tokens.start,
            });
        }
    }
    lists
}

/// Keys and values of a place, or their gradients: `[tokens, key/value heads x head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeyValues<T> {
    pub k: T,
    pub v: T,
}

/// Attention of a place's queries to the keys of all places: `(out, lse)` as [`Backend::attention`] gives them.
///
/// `layouts` has the attention to each place, by [`Places::attention`]. A rank without a ring is a place of its own.
pub fn forward<C: Communicator>(
    backend: &C::Backend,
    ring: Option<&C>,
    layouts: &[Vec<AttentionLayout>],
    q: &TensorOf<C>,
    mine: &KeyValues<TensorOf<C>>,
) -> Result<(TensorOf<C>, TensorOf<C>), TrainError> {
    let mut block = mine.clone();
    let mut merged: Option<(TensorOf<C>, TensorOf<C>)> = None;
    for Hop { source, is_last } in hops(ring) {
        let next = match ring {
            Some(ring) if !is_last => Some(Passing::start(ring, &block)?),
            _ => None,
        };
        for layout in &layouts[source] {
            let (other, other_lse) = backend.attention(q, &block.k, &block.v, layout)?;
            match &mut merged {
                Some((out, lse)) => backend.merge_attention(out, lse, &other, &other_lse)?,
                none => *none = Some((other, other_lse)),
            }
        }
        if let Some(next) = next {
            block = next.finish()?;
        }
    }
    Ok(merged.unwrap_or_else(|| unreachable!("a place attends to itself")))
}

/// Results of a forward and the gradient of its output.
pub struct Attended<'a, T> {
    pub out: &'a T,
    pub lse: &'a T,
    pub d_out: &'a T,
}

/// `(d_q, gradients of keys and values)` of [`forward`].
pub fn backward<C: Communicator>(
    backend: &C::Backend,
    ring: Option<&C>,
    layouts: &[Vec<AttentionLayout>],
    q: &TensorOf<C>,
    mine: KeyValues<TensorOf<C>>,
    attended: Attended<'_, TensorOf<C>>,
) -> Result<(TensorOf<C>, KeyValues<TensorOf<C>>), TrainError> {
    let Attended { out, lse, d_out } = attended;
    let mut block = mine;
    let mut d_q: Option<TensorOf<C>> = None;
    // Of the block at hand, from those who have had it before.
    let mut coming: Option<Passing<C>> = None;
    let mut d_mine = None;
    for Hop { source, is_last } in hops(ring) {
        let next = match ring {
            Some(ring) if !is_last => Some(Passing::start(ring, &block)?),
            _ => None,
        };
        let mut d_block: Option<KeyValues<TensorOf<C>>> = None;
        let add = |sum: &mut TensorOf<C>, part: &TensorOf<C>| backend.add_assign(sum, part);
        for layout in &layouts[source] {
            let (d_q_part, d_k, d_v) =
                backend.attention_backward(q, &block.k, &block.v, out, lse, d_out, layout)?;
            match &mut d_q {
                Some(d_q) => add(d_q, &d_q_part)?,
                none => *none = Some(d_q_part),
            }
            match &mut d_block {
                Some(sum) => {
                    add(&mut sum.k, &d_k)?;
                    add(&mut sum.v, &d_v)?;
                }
                none => *none = Some(KeyValues { k: d_k, v: d_v }),
            }
        }
        let before = coming.take().map(Passing::finish).transpose()?;
        let d_block = match (d_block, before) {
            (Some(mut sum), Some(before)) => {
                add(&mut sum.k, &before.k)?;
                add(&mut sum.v, &before.v)?;
                sum
            }
            (Some(d_block), None) | (None, Some(d_block)) => d_block,
            (None, None) => unreachable!("a place attends to itself first"),
        };
        match ring {
            // The last one has the gradients that belong to the next place.
            Some(ring) => coming = Some(Passing::start(ring, &d_block)?),
            None => d_mine = Some(d_block),
        }
        if let Some(next) = next {
            block = next.finish()?;
        }
    }
    let d_mine = match coming {
        Some(coming) => Some(coming.finish()?),
        None => d_mine,
    };
    let (Some(d_q), Some(d_mine)) = (d_q, d_mine) else {
        unreachable!("a place attends to itself")
    };
    Ok((d_q, d_mine))
}

/// A turn of all blocks by one place.
struct Hop {
    /// Whose block is here.
    source: usize,
    is_last: bool,
}

fn hops<C: Communicator>(ring: Option<&C>) -> impl Iterator<Item = Hop> + use<C> {
    let (place, num_places) = ring.map_or((0, 1), |ring| (ring.rank().index(), ring.size()));
    (0..num_places).map(move |hop| Hop {
        source: (place + num_places - hop) % num_places,
        is_last: hop + 1 == num_places,
    })
}

/// A block on its way to the next place, and another on its way here.
struct Passing<C: Communicator> {
    ring: C,
    k: C::PendingExchange,
    v: C::PendingExchange,
}

impl<C: Communicator> Passing<C> {
    /// Sends `block` to the next place.
    fn start(ring: &C, block: &KeyValues<TensorOf<C>>) -> Result<Self, TrainError> {
        let (num_places, next) = (ring.size(), (ring.rank().index() + 1) % ring.size());
        let start = |tensor: &TensorOf<C>| {
            let parts = (0..num_places).map(|place| match place == next {
                true => Ok(tensor.clone()),
                false => ring.backend().zeros(0, tensor.cols()),
            });
            Ok::<_, TrainError>(ring.start_all_to_all_v(parts.collect::<Result<_, _>>()?)?)
        };
        Ok(Passing {
            k: start(&block.k)?,
            v: start(&block.v)?,
            ring: ring.clone(),
        })
    }

    /// The block that the place before this one has sent, on this rank's device.
    fn finish(self) -> Result<KeyValues<TensorOf<C>>, TrainError> {
        let Passing { ring, k, v } = self;
        let before = (ring.rank().index() + ring.size() - 1) % ring.size();
        let finish = |pending: C::PendingExchange| {
            let received = pending.wait()?.swap_remove(before);
            Ok::<_, TrainError>(ring.backend().concat_rows(&[received])?)
        };
        Ok(KeyValues {
            k: finish(k)?,
            v: finish(v)?,
        })
    }
}

#[cfg(test)]
mod overlap;

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(window: Option<usize>) -> AttentionLayout {
        AttentionLayout {
            window,
            ..AttentionLayout::packed([], vec![0], 1, 1)
        }
    }

    /// The pairs of tokens that attend and are attended to, over all places, each as often as it is found.
    fn pairs(places: &Places, window: Option<usize>) -> Vec<(usize, usize, usize)> {
        let tokens = |place: usize| -> Vec<(usize, usize)> {
            let runs = places.runs(place).enumerate();
            let tokens = runs.flat_map(|(sequence, runs)| {
                runs.into_iter()
                    .flatten()
                    .map(move |token| (sequence, token))
            });
            tokens.collect()
        };
        let mut pairs = Vec::new();
        for place in 0..places.num_places {
            for source in 0..places.num_places {
                for layout in places.attention(place, source, &heads(window)) {
                    for span in layout.spans {
                        for (ahead, query) in span.queries.enumerate() {
                            for (key, row) in span.keys.clone().enumerate() {
                                let distance = (ahead + span.lead).checked_sub(key);
                                if distance.is_some_and(|d| d < window.unwrap_or(usize::MAX)) {
                                    let (sequence, token) = tokens(place)[query];
                                    let (other, key) = tokens(source)[row];
                                    assert_eq!(sequence, other);
                                    pairs.push((sequence, token, key));
                                }
                            }
                        }
                    }
                }
            }
        }
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn every_token_attends_once_to_each_that_it_sees() {
        let seq_lens = [1, 2, 0, 3, 7, 23];
        for num_places in 1..=5 {
            for window in [None, Some(1), Some(2), Some(5), Some(22), Some(100)] {
                let places = Places::new(seq_lens.iter().copied(), num_places);
                let expected = seq_lens.iter().enumerate().flat_map(|(sequence, &len)| {
                    (0..len).flat_map(move |token| {
                        let first = (token + 1).saturating_sub(window.unwrap_or(usize::MAX));
                        (first..=token).map(move |key| (sequence, token, key))
                    })
                });
                let expected: Vec<_> = expected.collect();
                assert_eq!(
                    pairs(&places, window),
                    expected,
                    "{num_places} places, {window:?}"
                );
            }
        }
    }

    #[test]
    fn places_differ_by_a_token_at_most() {
        for num_places in 1..=7 {
            for seq_lens in [
                vec![1; 20],
                (1..30).collect(),
                vec![13, 1, 9, 1, 8, 1],
                vec![],
            ] {
                let places = Places::new(seq_lens.iter().copied(), num_places);
                let tokens: Vec<usize> = (0..num_places).map(|at| places.num_tokens(at)).collect();
                assert_eq!(tokens.iter().sum::<usize>(), seq_lens.iter().sum::<usize>());
                let (least, most) = (tokens.iter().min().unwrap(), tokens.iter().max().unwrap());
                assert!(most - least <= 1, "{tokens:?} of {seq_lens:?}");
            }
        }
    }

    #[test]
    fn causal_work_is_even() {
        let places = Places::new([4096], 4);
        let work = |place: usize| -> usize {
            let tokens = places.runs(place).flatten().flatten();
            tokens.map(|token| token + 1).sum()
        };
        let all: Vec<usize> = (0..4).map(work).collect();
        assert!(all.iter().all(|&one| one == all[0]), "{all:?}");
    }
}
