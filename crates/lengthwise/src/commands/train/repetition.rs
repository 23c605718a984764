//! Batches that are larger than the corpus.

use lengthwise_data::{BatchSize, Census};

/// What is to be known where one batch takes documents more than once.
pub fn warning(size: BatchSize, census: &Census) -> Option<String> {
    let (wanted, of_epoch, noun) = match size {
        BatchSize::Tokens(tokens) => (tokens.0, census.num_tokens, "tokens"),
        BatchSize::Sequences(num) => (num as u64, census.num_sequences, "sequences"),
    };
    let times = wanted as f64 / of_epoch.max(1) as f64;
    (times >= 2.0).then(|| {
        format!(
            "a batch of {wanted} {noun} takes the whole corpus {times:.0} times: its documents repeat within every step"
        )
    })
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Tokens;

    use super::*;

    #[test]
    fn only_batches_that_repeat_documents_are_worth_a_word() {
        let census = Census {
            num_tokens: 1000,
            num_sequences: 10,
            ..Census::default()
        };
        assert_eq!(warning(BatchSize::Tokens(Tokens(1500)), &census), None);
        assert_eq!(warning(BatchSize::Sequences(10), &census), None);
        assert_eq!(
            warning(BatchSize::Tokens(Tokens(1_000_000)), &census).as_deref(),
            Some(
                "a batch of 1000000 tokens takes the whole corpus 1000 times: its documents repeat within every step"
            )
        );
    }
}
