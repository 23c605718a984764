//! Batches that go on where others stopped.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

use std::fs;
use std::path::Path;

use lengthwise_core::Tokens;
use lengthwise_data::{BatchSize, Batches, Corpus, CutRule, Overlong, Position};
use proptest::prelude::*;

fn batches(directory: &Path, size: BatchSize, seed: u64) -> Batches {
    let corpus = Corpus::open(&[directory.to_owned()], &["txt".to_owned()]).unwrap();
    let rule = CutRule {
        context: Tokens(12),
        overlong: Overlong::Split,
        min_tokens: Tokens(1),
    };
    Batches::new(corpus, rule, size, seed).unwrap()
}

/// A corpus of documents of these lengths, no two alike.
fn corpus(num_bytes: &[usize]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (byte, &len) in (0u8..).zip(num_bytes) {
        fs::write(root.path().join(format!("{byte:03}.txt")), vec![byte; len]).unwrap();
    }
    root
}

fn any_size() -> impl Strategy<Value = BatchSize> {
    prop_oneof![
        (1u64..60).prop_map(|tokens| BatchSize::Tokens(Tokens(tokens))),
        (1usize..9).prop_map(BatchSize::Sequences),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_same_batches_follow_a_position_as_in_an_uninterrupted_run(
        num_bytes in prop::collection::vec(1usize..40, 1..10),
        size in any_size(),
        seed in any::<u64>(),
        num_before in 0usize..30,
    ) {
        let root = corpus(&num_bytes);
        let mut whole = batches(root.path(), size, seed);
        for _ in 0..num_before {
            whole.next().unwrap().unwrap();
        }
        let resumed = batches(root.path(), size, seed).starting_at(whole.position());
        let mut resumed = resumed.unwrap();
        for _ in 0..20 {
            prop_assert_eq!(whole.position(), resumed.position());
            prop_assert_eq!(whole.next().unwrap().unwrap(), resumed.next().unwrap().unwrap());
        }
    }
}

#[test]
fn an_epoch_drawn_to_its_end_goes_on_like_the_next_one_from_its_start() {
    let root = corpus(&[5; 7]);
    let size = BatchSize::Sequences(7);
    let next_from = |epoch, num_drawn| {
        let position = Position { epoch, num_drawn };
        let batches = batches(root.path(), size, 3).starting_at(position);
        batches.unwrap().next().unwrap().unwrap()
    };
    assert_eq!(next_from(1, 7), next_from(2, 0));
    assert_ne!(next_from(1, 0), next_from(2, 0));
}

#[test]
fn a_batch_that_could_not_be_read_comes_again() {
    let root = corpus(&[5]);
    let mut first = batches(root.path(), BatchSize::Sequences(3), 0);
    first.next().unwrap().unwrap();
    let before = first.position();
    let document = root.path().join("000.txt");
    let away = root.path().join("away");
    fs::rename(&document, &away).unwrap();
    assert!(first.next().unwrap().is_err());
    assert_eq!(first.position(), before);
    fs::rename(&away, &document).unwrap();
    assert!(first.starting_at(before).unwrap().next().unwrap().is_ok());
}

#[test]
fn positions_that_no_run_comes_to_are_named() {
    let root = corpus(&[5, 5]);
    let message = |epoch, num_drawn| {
        let position = Position { epoch, num_drawn };
        let batches = batches(root.path(), BatchSize::Sequences(1), 0).starting_at(position);
        batches.unwrap_err().to_string()
    };
    assert_eq!(
        message(3, 9),
        "the batches can't start at epoch 3, sequence 9: epochs are counted from 1, and the corpus gives 2 sequences an \
         epoch"
    );
    assert!(message(0, 0).contains("epoch 0, sequence 0"));
}
