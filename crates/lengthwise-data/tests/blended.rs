//! Batches of several sources: shares, epochs and places to go on from.

use std::collections::HashMap;

use lengthwise_core::Tokens;
use lengthwise_data::{
    BatchSchedule, BatchSize, CutRule, DataError, Excerpt, Overlong, Position, WeightedDocuments,
};
use proptest::prelude::*;

const CONTEXT: u64 = 40;

fn rule() -> CutRule {
    CutRule {
        context: Tokens(CONTEXT),
        overlong: Overlong::Split,
        min_tokens: Tokens(1),
    }
}

fn any_source() -> impl Strategy<Value = WeightedDocuments> {
    let documents = prop::collection::vec(0u64..100, 0..30);
    // Of very different sizes of documents and weights.
    (documents, 1u64..100, 0.01f64..10.0).prop_map(|(rest, first, weight)| WeightedDocuments {
        documents: std::iter::once(first).chain(rest).map(Tokens).collect(),
        weight,
    })
}

fn any_sources() -> impl Strategy<Value = Vec<WeightedDocuments>> {
    prop::collection::vec(any_source(), 1..5)
}

fn any_size() -> impl Strategy<Value = BatchSize> {
    prop_oneof![
        (1u64..200).prop_map(|tokens| BatchSize::Tokens(Tokens(tokens))),
        (1usize..9).prop_map(BatchSize::Sequences),
    ]
}

fn schedule(sources: &[WeightedDocuments], size: BatchSize, seed: u64) -> BatchSchedule {
    BatchSchedule::blended(sources.to_vec(), rule(), size, seed).unwrap()
}

/// The source of a document.
fn source_of(sources: &[WeightedDocuments], document: u64) -> usize {
    let mut end = 0;
    let ends = sources.iter().map(|source| {
        end += source.documents.len() as u64;
        end
    });
    ends.collect::<Vec<_>>()
        .iter()
        .position(|&end| document < end)
        .unwrap()
}

/// All pieces of the documents of a source, whose first has the number `first`.
fn pieces(source: &WeightedDocuments, first: u64) -> Vec<Excerpt> {
    let mut pieces = Vec::new();
    for (document, len) in (first..).zip(&source.documents) {
        let starts = (0..len.0).step_by(CONTEXT as usize);
        pieces.extend(starts.map(|start| Excerpt {
            document,
            tokens: start..len.0.min(start + CONTEXT),
        }));
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_is_close_to_the_weights(
        sources in any_sources(),
        size in any_size(),
        seed in any::<u64>(),
    ) {
        let total: f64 = sources.iter().map(|source| source.weight).sum();
        let drawn = schedule(&sources, size, seed).flat_map(|batch| batch.excerpts).take(500);
        let mut tokens = vec![0u64; sources.len()];
        for excerpt in drawn {
            tokens[source_of(&sources, excerpt.document)] += excerpt.seq_len().0;
            let all: u64 = tokens.iter().sum();
            for (source, &tokens) in sources.iter().zip(&tokens) {
                let share = source.weight / total * all as f64;
                // A sequence can't be divided: with two sources none is off by more than the longest.
                let bound = CONTEXT as f64 * (sources.len() as f64 - 1.0);
                prop_assert!((tokens as f64 - share).abs() <= bound + 1e-6, "{tokens} of {share}");
            }
        }
    }

    #[test]
    fn a_source_repeats_nothing_before_all_of_it_has_come(
        sources in any_sources(),
        size in any_size(),
        seed in any::<u64>(),
    ) {
        let drawn = schedule(&sources, size, seed).flat_map(|batch| batch.excerpts).take(2000);
        let mut of_sources: HashMap<usize, Vec<Excerpt>> = HashMap::new();
        for excerpt in drawn {
            of_sources.entry(source_of(&sources, excerpt.document)).or_default().push(excerpt);
        }
        let mut first = 0;
        for (index, source) in sources.iter().enumerate() {
            let expected = pieces(source, first);
            first += source.documents.len() as u64;
            for epoch in of_sources.get(&index).into_iter().flat_map(|drawn| drawn.chunks(expected.len())) {
                let mut epoch = epoch.to_vec();
                epoch.sort_by_key(|excerpt| (excerpt.document, excerpt.tokens.start));
                let is_whole = epoch.len() == expected.len();
                prop_assert!(!is_whole || epoch == expected);
                prop_assert!(epoch.windows(2).all(|pair| pair[0] != pair[1]));
            }
        }
    }

    #[test]
    fn batches_go_on_at_any_place(
        sources in any_sources(),
        size in any_size(),
        seed in any::<u64>(),
        num_before in 0usize..60,
    ) {
        let mut whole = schedule(&sources, size, seed);
        for _ in 0..num_before {
            whole.next();
        }
        prop_assert_eq!(whole.position().epoch, 1);
        // Wherever the other was before.
        let mut elsewhere = schedule(&sources, size, seed);
        elsewhere.nth(7);
        let resumed = elsewhere.starting_at(whole.position()).unwrap();
        prop_assert_eq!(resumed.shares(), whole.shares());
        let next = |schedule: BatchSchedule| schedule.take(20).collect::<Vec<_>>();
        prop_assert_eq!(next(resumed), next(whole));
    }
}

#[test]
fn equal_sources_come_in_orders_of_their_own() {
    let source = WeightedDocuments {
        documents: vec![Tokens(3); 50],
        weight: 1.0,
    };
    let sources = [source.clone(), source];
    let batch = schedule(&sources, BatchSize::Sequences(100), 7)
        .next()
        .unwrap();
    let (first, second): (Vec<u64>, Vec<u64>) = batch
        .excerpts
        .chunks(2)
        .map(|pair| (pair[0].document, pair[1].document - 50))
        .unzip();
    assert_ne!(first, second);
}

#[test]
fn sources_that_give_nothing_and_weights_that_are_none_are_errors() {
    let source = |len, weight| WeightedDocuments {
        documents: vec![Tokens(len); 2],
        weight,
    };
    let error = |sources: Vec<WeightedDocuments>| {
        let error =
            BatchSchedule::blended(sources, rule(), BatchSize::Sequences(1), 0).unwrap_err();
        format!("{error}\n  hint: {}", error.hint().unwrap())
    };
    let said = [
        error(vec![source(1, 1.0), source(0, 1.0)]),
        error(vec![source(1, 1.0), source(1, 0.0)]),
        error(vec![source(1, f64::NAN)]),
    ];
    insta::assert_snapshot!(said.join("\n"));
    let position = Position {
        epoch: 2,
        num_drawn: 0,
    };
    let schedule = schedule(&[source(1, 1.0)], BatchSize::Sequences(1), 0);
    assert!(matches!(
        schedule.starting_at(position),
        Err(DataError::NoSuchPosition { .. })
    ));
}
