//! Any bytes as the index of a pair of `.bin` and `.idx`: what is not refused is consistent, and nothing panics.
//!
//! `cargo +nightly fuzz run idx`

#![no_main]

use std::path::Path;

use lengthwise_data::token_files::TokenIndex;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, Vec<u8>)| {
    let (num_bin_bytes, idx) = input;
    let path = Path::new("fuzzed.idx");
    // The sizes that fit are rare among all.
    for num_bin_bytes in [num_bin_bytes, num_bin_bytes % 256] {
        let Ok(index) = TokenIndex::read(path, &idx[..], idx.len() as u64, num_bin_bytes) else {
            continue;
        };
        assert_eq!(
            index.num_ids() * index.token_type.num_bytes(),
            num_bin_bytes
        );
        let mut end = 0;
        for document in 0..index.num_documents() {
            let ids = index.ids(document);
            assert!(ids.start == end && ids.end >= ids.start);
            end = ids.end;
        }
        assert_eq!(end, index.num_ids());
    }
});
