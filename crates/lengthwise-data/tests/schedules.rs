//! Which sequences make which batch, where lengths are known from the start and where they arrive one by one.

use std::num::NonZero;

use lengthwise_core::Tokens;
use lengthwise_data::{
    BatchSchedule, BatchSize, BatchStream, CutRule, Excerpt, Order, Overlong, ScheduledBatch,
    StreamPosition,
};
use proptest::prelude::*;

fn any_size() -> impl Strategy<Value = BatchSize> {
    prop_oneof![
        (1u64..60).prop_map(|tokens| BatchSize::Tokens(Tokens(tokens))),
        (1usize..9).prop_map(BatchSize::Sequences),
    ]
}

fn any_rule() -> impl Strategy<Value = CutRule> {
    let overlong = prop_oneof![
        Just(Overlong::Split),
        Just(Overlong::Truncate),
        Just(Overlong::Skip)
    ];
    (1u64..30, overlong, 1u64..4).prop_map(|(context, overlong, min_tokens)| CutRule {
        context: Tokens(context),
        overlong,
        min_tokens: Tokens(min_tokens.min(context)),
    })
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        any::<u64>().prop_map(|seed| Order::Shuffled { seed }),
        Just(Order::AsGiven)
    ]
}

/// Lengths of documents, of which the first is a sequence whatever the rule.
fn any_documents() -> impl Strategy<Value = Vec<Tokens>> {
    prop::collection::vec(0u64..80, 0..12).prop_map(|rest| {
        let lens = std::iter::once(3).chain(rest);
        lens.map(Tokens).collect()
    })
}

fn split(context: u64) -> CutRule {
    CutRule {
        context: Tokens(context),
        overlong: Overlong::Split,
        min_tokens: Tokens(1),
    }
}

/// The batches that a stream gives while documents arrive, and where it is after each.
fn streamed(mut stream: BatchStream, documents: &[Tokens]) -> Vec<(Vec<Excerpt>, StreamPosition)> {
    let mut batches = Vec::new();
    let mut take = |stream: &mut BatchStream| {
        while let Some(batch) = stream.take() {
            batches.push((batch.excerpts, stream.position()));
        }
    };
    for &document in documents {
        stream.push(document);
        take(&mut stream);
    }
    stream.end();
    take(&mut stream);
    batches
}

fn excerpts(batches: impl Iterator<Item = ScheduledBatch>) -> Vec<Vec<Excerpt>> {
    batches.map(|batch| batch.excerpts).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_token_comes_once_an_epoch_and_no_further_epoch_begins(
        documents in any_documents(),
        context in 1u64..80,
        size in any_size(),
        order in any_order(),
        num_epochs in 1u64..4,
    ) {
        let schedule = BatchSchedule::new(documents.clone(), split(context), size, order).unwrap();
        let num_sequences = schedule.census().num_sequences as usize;
        let all = schedule.ending_after(NonZero::new(num_epochs).unwrap()).flat_map(|batch| batch.excerpts);
        let all: Vec<Excerpt> = all.collect();
        prop_assert_eq!(all.len(), num_sequences * num_epochs as usize);
        for epoch in all.chunks(num_sequences) {
            let mut tokens: Vec<(u64, u64)> = epoch.iter()
                .flat_map(|excerpt| excerpt.tokens.clone().map(|token| (excerpt.document, token)))
                .collect();
            tokens.sort_unstable();
            let expected: Vec<(u64, u64)> = (0..).zip(&documents)
                .flat_map(|(document, len)| (0..len.0).map(move |token| (document, token)))
                .collect();
            prop_assert_eq!(tokens, expected);
        }
    }

    #[test]
    fn the_number_of_batches_is_known_from_any_place(
        documents in any_documents(),
        context in 3u64..30,
        size in any_size(),
        order in any_order(),
        num_epochs in 1u64..4,
    ) {
        let endless = BatchSchedule::new(documents, split(context), size, order).unwrap();
        prop_assert_eq!(endless.num_batches_left(), None);
        let mut schedule = endless.ending_after(NonZero::new(num_epochs).unwrap());
        let mut num_left = schedule.num_batches_left().unwrap();
        while schedule.next().is_some() {
            num_left -= 1;
            prop_assert_eq!(schedule.num_batches_left(), Some(num_left));
        }
        prop_assert_eq!(num_left, 0);
        let resumed = schedule.clone().starting_at(schedule.position()).unwrap();
        prop_assert_eq!(resumed.num_batches_left(), Some(0));
        prop_assert_eq!(schedule.next(), None);
    }

    #[test]
    fn a_stream_gives_the_batches_of_a_schedule_in_the_given_order(
        documents in any_documents(),
        rule in any_rule(),
        size in any_size(),
    ) {
        let rule = CutRule { min_tokens: Tokens(rule.min_tokens.0.min(3)), context: Tokens(rule.context.0.max(3)), ..rule };
        let schedule = BatchSchedule::new(documents.clone(), rule, size, Order::AsGiven).unwrap();
        let expected = excerpts(schedule.ending_after(NonZero::<u64>::MIN));
        let found: Vec<_> = streamed(BatchStream::new(rule, size), &documents).into_iter().map(|each| each.0).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_resumed_stream_goes_on_where_it_was(
        documents in any_documents(),
        rule in any_rule(),
        size in any_size(),
    ) {
        let whole = streamed(BatchStream::new(rule, size), &documents);
        for (index, (_, position)) in whole.iter().enumerate() {
            let resumed = BatchStream::starting_at(rule, size, *position);
            let rest = documents.get(position.num_documents as usize..).unwrap_or_default();
            prop_assert_eq!(&streamed(resumed, rest)[..], &whole[index + 1..]);
        }
    }
}

#[test]
fn a_stream_asks_for_no_document_once_a_batch_is_full() {
    let mut stream = BatchStream::new(split(10), BatchSize::Tokens(Tokens(8)));
    stream.push(Tokens(3));
    assert_eq!(stream.take(), None);
    stream.push(Tokens(5));
    assert_eq!(stream.take().unwrap().excerpts.len(), 2);
    let mut stream = BatchStream::new(split(10), BatchSize::Sequences(1));
    stream.push(Tokens(3));
    assert!(stream.take().is_some());
}

#[test]
fn the_longest_sequence_is_the_first_of_its_length() {
    let documents = [3, 25, 10].map(Tokens).to_vec();
    let size = BatchSize::Sequences(1);
    let order = Order::Shuffled { seed: 0 };
    let schedule = BatchSchedule::new(documents, split(10), size, order).unwrap();
    let longest = schedule.longest();
    assert_eq!((longest.document, longest.tokens), (1, 0..10));
}
