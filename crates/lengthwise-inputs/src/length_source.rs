//! Where the lengths of batches come from, as the command line names it.

use std::path::{Path, PathBuf};

use lengthwise_core::Tokens;
use lengthwise_data::{ByteTokenizer, Corpus};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{Draw, InputError, LengthDistribution, Lengths};

/// The distributions that are known by name: the files of `examples/lengths`.
const KNOWN: [(&str, &str); 6] = [
    (
        "wikipedia",
        include_str!("../../../examples/lengths/wikipedia.toml"),
    ),
    (
        "wlbllm",
        include_str!("../../../examples/lengths/wlbllm.toml"),
    ),
    (
        "prolong",
        include_str!("../../../examples/lengths/prolong.toml"),
    ),
    (
        "crawl",
        include_str!("../../../examples/lengths/crawl.toml"),
    ),
    (
        "code-like",
        include_str!("../../../examples/lengths/code-like.toml"),
    ),
    (
        "web-like",
        include_str!("../../../examples/lengths/web-like.toml"),
    ),
];

/// Documents of a corpus are read as training reads them: these files, byte by byte.
const EXTENSIONS: [&str; 3] = ["txt", "md", "jsonl"];

/// Where the lengths of batches come from.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthSource {
    /// Its name in tables.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// Drawn anew for every batch.
    Distribution(LengthDistribution),
    /// Taken from these, in an order that the seed decides.
    Lengths(Vec<Tokens>),
}

impl LengthSource {
    /// The names of the distributions that are known by one.
    pub fn names() -> [&'static str; KNOWN.len()] {
        KNOWN.map(|(name, _)| name)
    }

    /// A distribution known by name.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn known(name: &str) -> Result<Self, InputError> {
        match KNOWN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::distribution(text, name),
            None => Err(unknown(name)),
        }
    }

    /// The files that lengths of this name come from.
    pub fn files(text: &str) -> Vec<PathBuf> {
        match text.strip_prefix("corpus:") {
            // A file that can't be found has an error of its own, once it is read.
            Some(path) => {
                let extensions = EXTENSIONS.map(str::to_owned);
                Corpus::find_files(&[PathBuf::from(path)], &extensions).unwrap_or_default()
            }
            None => vec![PathBuf::from(text)],
        }
    }

    /// A source that the command line names: a known distribution, a file of one, a file of lengths,
    /// `lognormal:MEDIAN:SIGMA`, or `corpus:PATH`.
    ///
    /// # Errors
    ///
    /// A name of none of these, or a file that can't be read.
    pub fn named(text: &str) -> Result<Self, InputError> {
        if let Some(parameters) = text.strip_prefix("lognormal:") {
            return Self::lognormal(text, parameters);
        }
        if let Some(path) = text.strip_prefix("corpus:") {
            return Self::corpus(Path::new(path));
        }
        if KNOWN.iter().any(|(known, _)| *known == text) {
            return Self::known(text);
        }
        let path = Path::new(text);
        let name = path.file_stem().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().into_owned();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let distribution = LengthDistribution::read(path)?;
            return Ok(LengthSource {
                name: distribution.name.clone(),
                kind: Kind::Distribution(distribution),
            });
        }
        if !path.exists() && !text.contains(['/', '\\', '.']) {
            return Err(unknown(text));
        }
        Ok(LengthSource {
            name,
            kind: Kind::Lengths(Lengths::read(path)?.seq_lens().to_vec()),
        })
    }

    fn distribution(text: &str, name: &str) -> Result<Self, InputError> {
        let distribution = LengthDistribution::parse(text).map_err(|rule| {
            let name = format!("lengths {name}");
            InputError::BadDistribution { name, rule }
        })?;
        Ok(LengthSource {
            name: name.to_owned(),
            kind: Kind::Distribution(distribution),
        })
    }

    fn lognormal(text: &str, parameters: &str) -> Result<Self, InputError> {
        let numbers: Vec<f64> = parameters
            .split(':')
            .map_while(|number| number.parse().ok())
            .collect();
        let &[median, sigma] = numbers.as_slice() else {
            return Err(InputError::BadLognormal {
                text: text.to_owned(),
            });
        };
        // Rust writes numbers as TOML reads them, infinities and NaN included.
        let file = format!(
            "name = 'lognormal'\n[long_tail]\nmedian_tokens = {median:?}\nsigma = {sigma:?}\n\
             tail_probability = 0.0\ntail_from_tokens = 1.0\ntail_exponent = 1.0"
        );
        Self::distribution(&file.replace("NaN", "nan"), text)
    }

    /// A document of `n` bytes is a sequence of `n + 1` tokens: training predicts its end too.
    fn corpus(path: &Path) -> Result<Self, InputError> {
        let paths: [PathBuf; 1] = [path.to_owned()];
        let corpus = Corpus::open(&paths, &EXTENSIONS.map(str::to_owned)).map_err(|error| {
            let path = path.to_owned();
            InputError::Corpus { path, error }
        })?;
        let bytes = corpus.document_bytes().filter(|&bytes| bytes > 0);
        let tokens: Vec<Tokens> = bytes
            .map(|bytes| Tokens(ByteTokenizer::num_tokens(bytes)))
            .collect();
        if tokens.is_empty() {
            let path = path.to_owned();
            return Err(InputError::EmptyCorpus { path });
        }
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(LengthSource {
            name: name.to_string_lossy().into_owned(),
            kind: Kind::Lengths(tokens),
        })
    }

    /// The lengths of one batch. Longer sequences than permitted are dropped; a file or corpus with fewer lengths than
    /// asked for gives all it has.
    ///
    /// # Errors
    ///
    /// All are longer, or a distribution hardly ever gives one that is not.
    pub fn batch(&self, draw: Draw) -> Result<Vec<Tokens>, InputError> {
        let all = match &self.kind {
            Kind::Distribution(distribution) => return distribution.draw(draw),
            Kind::Lengths(all) => all,
        };
        let multiple_of = draw.multiple_of.0.max(1);
        let padded = all
            .iter()
            .map(|tokens| Tokens(tokens.0.div_ceil(multiple_of).saturating_mul(multiple_of)));
        let mut tokens: Vec<Tokens> = padded.filter(|&tokens| tokens <= draw.longest).collect();
        if tokens.is_empty() {
            return Err(InputError::AllTooLong {
                num: all.len(),
                name: self.name.clone(),
                longest: draw.longest,
            });
        }
        if tokens.len() > draw.num_sequences {
            tokens.shuffle(&mut ChaCha8Rng::seed_from_u64(draw.seed));
            tokens.truncate(draw.num_sequences);
        }
        Ok(tokens)
    }
}

fn unknown(name: &str) -> InputError {
    InputError::UnknownLengths {
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(num_sequences: usize, longest: u64) -> Draw {
        Draw {
            num_sequences,
            longest: Tokens(longest),
            multiple_of: Tokens(1),
            seed: 7,
        }
    }

    #[test]
    fn every_known_distribution_gives_lengths() {
        for (name, _) in KNOWN {
            let source = LengthSource::named(name).unwrap();
            assert_eq!(source.name, name);
            assert_eq!(source.batch(draw(64, 100_000)).unwrap().len(), 64);
        }
    }

    #[test]
    fn a_lognormal_has_its_median() {
        let source = LengthSource::named("lognormal:900:1.25").unwrap();
        let mut tokens = source.batch(draw(20_001, u64::MAX)).unwrap();
        tokens.sort_unstable();
        assert!((tokens[10_000].as_f64() / 900.0 - 1.0).abs() < 0.05);
    }

    #[test]
    fn files_of_lengths_are_drawn_from_and_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.txt");
        std::fs::write(&path, "10\n20\n30\n40\n5000\n").unwrap();
        let source = LengthSource::named(&path.to_string_lossy()).unwrap();
        assert_eq!(source.name, "mine");
        assert_eq!(
            source.batch(draw(10, 100)).unwrap(),
            [10, 20, 30, 40].map(Tokens)
        );
        let three = source.batch(draw(3, 100)).unwrap();
        assert_eq!(three.len(), 3);
        assert_eq!(three, source.batch(draw(3, 100)).unwrap());
        let error = source.batch(draw(3, 5)).unwrap_err().to_string();
        assert!(error.contains("none of the 5 lengths of mine"), "{error}");
    }

    #[test]
    fn a_corpus_gives_the_lengths_of_its_documents() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "four").unwrap();
        std::fs::write(folder.path().join("b.md"), "").unwrap();
        let source = LengthSource::named(&format!("corpus:{}", folder.path().display())).unwrap();
        assert_eq!(source.batch(draw(10, 100)).unwrap(), [Tokens(5)]);
    }

    #[test]
    fn what_names_no_lengths_is_told() {
        for (text, complaint) in [
            ("wikipeda", "there are no lengths wikipeda"),
            ("lognormal:900", "a lognormal has a median"),
            ("lognormal:a:b", "a lognormal has a median"),
            ("lognormal:-1:1", "long_tail.median_tokens is -1"),
            ("lognormal:1:NaN", "long_tail.sigma is NaN"),
            ("no-such/lengths.txt", "no-such/lengths.txt can't be read"),
            ("corpus:no-such", "corpus no-such"),
        ] {
            let error = LengthSource::named(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
        let hint = LengthSource::named("wikipeda").unwrap_err().hint();
        assert_eq!(hint.as_deref(), Some("did you mean wikipedia?"));
    }
}
