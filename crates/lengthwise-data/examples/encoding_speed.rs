//! How fast a corpus is encoded into the token cache, compared with what the tokenizers crate alone reaches on the same
//! cores.
//!
//! ```bash
//! cargo run --release -p lengthwise-data --example encoding_speed -- tokenizer.json corpus.jsonl [rounds]
//! ```
//!
//! The crate alone gets all texts in memory and gives ids, in batches of 1000 as Python passes them; the cache reads the file,
//! parses JSON, writes and hashes what it makes, and syncs it. Both take turns.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what it makes goes away again, and what it measures is printed"
)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lengthwise_data::records::{Content, CorruptRows, Fields};
use lengthwise_data::token_cache::TokenCache;
use lengthwise_data::{RecordEncoder, TokenDocuments, TokenizerFile, TokenizerOptions};
use tokenizers::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().map(PathBuf::from);
    let (Some(tokenizer), Some(corpus)) = (next(), next()) else {
        return Err("name a tokenizer.json and a corpus of text or JSONL".into());
    };
    let rounds: usize = match next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 3,
    };
    let options = TokenizerOptions {
        end_of_text: Some("0".to_owned()),
        ..TokenizerOptions::default()
    };
    let opened = TokenizerFile::open(&tokenizer, &options)?;
    let source = RecordEncoder::new(
        Arc::new(opened),
        Fields::default(),
        None,
        CorruptRows::Error,
    );
    let alone = Tokenizer::from_file(&tokenizer).map_err(|error| error.to_string())?;
    let directory = std::env::temp_dir().join(format!("encoding-speed-{}", std::process::id()));
    let (mut ratios, mut num_bytes) = (Vec::new(), 0);
    for round in 0..rounds {
        let records = source.records(&corpus)?;
        let texts: Result<Vec<String>, Box<dyn std::error::Error>> = records
            .map(|record| match record?.content {
                Content::Text(text) => Ok(String::from_utf8(text)?),
                _ => Err("only texts are compared".into()),
            })
            .collect();
        let texts = texts?;
        num_bytes = texts.iter().map(String::len).sum();
        let start = Instant::now();
        let mut num_ids = 0;
        for batch in texts.chunks(1000) {
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            let encoded = alone.encode_batch_fast(batch, false);
            let encoded = encoded.map_err(|error| error.to_string())?;
            num_ids += encoded.iter().map(|one| one.len()).sum::<usize>();
        }
        let of_crate = start.elapsed().as_secs_f64();
        let num_documents = texts.len();
        drop(texts);

        let cache = TokenCache::new(&directory);
        let start = Instant::now();
        let corpus = [corpus.clone()];
        let opened = TokenDocuments::open(&corpus, &[], &source, &cache, usize::MAX, &mut |_| {})?;
        let of_cache = start.elapsed().as_secs_f64();
        assert_eq!(opened.num_made, 1, "the cache was empty");
        let start = Instant::now();
        TokenDocuments::open(&corpus, &[], &source, &cache, usize::MAX, &mut |_| {})?;
        let again = start.elapsed().as_secs_f64();
        fs::remove_dir_all(&directory)?;
        ratios.push(of_crate / of_cache);
        let speed = |seconds: f64| num_bytes as f64 / 1e6 / seconds;
        println!(
            "round {round}: crate alone {of_crate:.2} s, {:.1} MB/s; cache {of_cache:.2} s, {:.1} MB/s, {:.1} % of it; \
             opened again in {again:.3} s ({num_documents} documents, {num_ids} ids)",
            speed(of_crate),
            speed(of_cache),
            100.0 * of_crate / of_cache,
        );
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    println!(
        "median {:.1} % of the crate alone, of {num_bytes} bytes of text",
        100.0 * median
    );
    Ok(())
}
