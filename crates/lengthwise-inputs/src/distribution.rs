//! A distribution of sequence lengths, from a TOML file, and draws from it.

use std::path::Path;

use lengthwise_core::Tokens;
use lengthwise_core::words::{figure, shown};
use lengthwise_cost::text_file::read_text;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::InputError;

/// Draws that may be above the longest permitted length before it counts as impossible to meet.
const MAX_REDRAWS: usize = 10_000;

/// How lengths are spread in a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthDistribution {
    /// Its name in tables.
    pub name: String,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Bins(Vec<Bin>),
    LongTail(LongTail),
}

/// Lengths from one to below another, log-uniformly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bin {
    from: f64,
    below: f64,
    /// The share of this bin and all before it.
    cumulative: f64,
}

/// A lognormal body, and a Pareto tail with some probability.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongTail {
    median_tokens: f64,
    sigma: f64,
    tail_probability: f64,
    tail_from_tokens: f64,
    tail_exponent: f64,
}

/// The keys of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    from_tokens: Option<u64>,
    bins: Option<Vec<FileBin>>,
    long_tail: Option<LongTail>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBin {
    below_tokens: u64,
    sequences_percent: f64,
}

/// The lengths to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How many lengths.
    pub num_sequences: usize,
    /// None is longer; what would be is drawn again.
    pub longest: Tokens,
    /// Lengths are rounded up to a multiple of it, as batches that are padded have them; 1 leaves them as they are.
    pub multiple_of: Tokens,
    /// The same seed gives the same lengths.
    pub seed: u64,
}

impl LengthDistribution {
    /// Reads a file such as those in `examples/lengths`.
    ///
    /// # Errors
    ///
    /// A file that can't be read, or the rule that it breaks.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let name = path.display().to_string();
        match read_text(path) {
            Ok(text) => {
                Self::parse(&text).map_err(|rule| InputError::BadDistribution { name, rule })
            }
            Err(error) => Err(InputError::UnreadableDistribution { name, error }),
        }
    }

    /// The distribution that a file's text describes, or the rule it breaks.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let shape = match (file.bins, file.long_tail) {
            (Some(bins), None) => Shape::Bins(checked_bins(file.from_tokens.unwrap_or(1), &bins)?),
            (None, Some(_)) if file.from_tokens.is_some() => {
                return Err("from_tokens is where the first of bins begins; there are none".into());
            }
            (None, Some(long_tail)) => Shape::LongTail(long_tail.checked()?),
            _ => return Err("it must have either bins or long_tail".into()),
        };
        Ok(LengthDistribution {
            name: shown(&file.name).to_string(),
            shape,
        })
    }

    /// The lengths of one draw.
    ///
    /// # Errors
    ///
    /// Hardly any length is as short as the draw permits.
    pub fn draw(&self, draw: Draw) -> Result<Vec<Tokens>, InputError> {
        let mut random = ChaCha8Rng::seed_from_u64(draw.seed);
        let multiple_of = draw.multiple_of.0.max(1);
        // Of all lengths together, so that a batch of many does not take for ever either.
        let mut redraws_left = MAX_REDRAWS + 100 * draw.num_sequences;
        let mut length = || {
            let mut drawn = (0..redraws_left).map(|_| {
                redraws_left -= 1;
                let tokens = self.shape.length(&mut random).max(1.0) as u64;
                tokens.div_ceil(multiple_of).saturating_mul(multiple_of)
            });
            drawn.find(|&tokens| tokens <= draw.longest.0).map(Tokens)
        };
        let lengths: Option<Vec<Tokens>> = (0..draw.num_sequences).map(|_| length()).collect();
        lengths.ok_or_else(|| InputError::DrawsTooLong {
            name: self.name.clone(),
            longest: draw.longest,
        })
    }
}

impl Shape {
    fn length(&self, random: &mut impl Rng) -> f64 {
        match self {
            Shape::Bins(bins) => {
                let share = unit_interval(random) * bins.last().map_or(0.0, |bin| bin.cumulative);
                let at = bins.partition_point(|bin| bin.cumulative < share);
                let bin = &bins[at.min(bins.len() - 1)];
                bin.from * (bin.below / bin.from).powf(unit_interval(random))
            }
            Shape::LongTail(long_tail) => long_tail.length(random),
        }
    }
}

impl LongTail {
    fn checked(self) -> Result<Self, String> {
        for (key, value) in [
            ("median_tokens", self.median_tokens),
            ("sigma", self.sigma),
            ("tail_from_tokens", self.tail_from_tokens),
            ("tail_exponent", self.tail_exponent),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!(
                    "long_tail.{key} is {}; it must be finite and above 0",
                    figure(value)
                ));
            }
        }
        if !(0.0..=1.0).contains(&self.tail_probability) {
            let value = self.tail_probability;
            return Err(format!(
                "long_tail.tail_probability is {}; it must be from 0 to 1",
                figure(value)
            ));
        }
        Ok(self)
    }

    fn length(&self, random: &mut impl Rng) -> f64 {
        if unit_interval(random) < self.tail_probability {
            return self.tail_from_tokens * unit_interval(random).powf(-1.0 / self.tail_exponent);
        }
        // Box-Muller.
        let radius = (-2.0 * unit_interval(random).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * unit_interval(random)).cos();
        self.median_tokens * (self.sigma * normal).exp()
    }
}

fn checked_bins(from_tokens: u64, bins: &[FileBin]) -> Result<Vec<Bin>, String> {
    if from_tokens == 0 {
        return Err("from_tokens is 0; a sequence has at least 1 token".to_owned());
    }
    let (mut from, mut cumulative) = (from_tokens, 0.0);
    let mut checked = Vec::with_capacity(bins.len());
    for (index, bin) in bins.iter().enumerate() {
        let (below, percent) = (bin.below_tokens, bin.sequences_percent);
        if below <= from {
            return Err(format!(
                "bins[{index}].below_tokens is {below}; it must be above {from}, where the bin begins"
            ));
        }
        if !(percent.is_finite() && percent >= 0.0) {
            return Err(format!(
                "bins[{index}].sequences_percent is {}; it must be finite and 0 or more",
                figure(percent)
            ));
        }
        cumulative += percent;
        checked.push(Bin {
            from: from as f64,
            below: below as f64,
            cumulative,
        });
        from = below;
    }
    if !(cumulative > 0.0 && cumulative.is_finite()) {
        return Err("bins hold no sequences; some sequences_percent must be above 0".to_owned());
    }
    Ok(checked)
}

/// A number in (0, 1), never 0, so that its logarithm is finite.
fn unit_interval(random: &mut impl Rng) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(name: &str) -> LengthDistribution {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/lengths");
        LengthDistribution::read(&path.join(format!("{name}.toml"))).unwrap()
    }

    fn drawn(name: &str, draw: Draw) -> Vec<u64> {
        let lengths = committed(name).draw(draw).unwrap();
        lengths.iter().map(|len| len.0).collect()
    }

    fn draw(num_sequences: usize, seed: u64) -> Draw {
        Draw {
            num_sequences,
            longest: Tokens(u64::MAX),
            multiple_of: Tokens(1),
            seed,
        }
    }

    #[test]
    fn draws_have_the_published_medians_means_and_longest() {
        // Published median, mean and maximum of the whole sets; the bins say nothing of where in them lengths lie.
        for (name, median, mean, longest) in [
            ("wikipedia", 347.0, 1014.0, 1_823_777),
            ("wlbllm", 3227.0, 3962.0, 124_913),
            ("prolong", 1913.0, 3052.0, 340_149),
        ] {
            let mut lengths = drawn(name, draw(400_000, 1));
            lengths.sort_unstable();
            let (middle, last) = (lengths[200_000] as f64, lengths[399_999]);
            let average = lengths.iter().sum::<u64>() as f64 / 400_000.0;
            assert!((middle / median - 1.0).abs() < 0.08, "{name}: {middle}");
            assert!((average / mean - 1.0).abs() < 0.08, "{name}: {average}");
            assert!(last <= longest, "{name}: {last}");
        }
    }

    #[test]
    fn a_long_tail_has_its_median_and_its_tail() {
        let lengths = drawn("code-like", draw(100_000, 1));
        let above = |bound| lengths.iter().filter(|&&len| len > bound).count() as f64 / 1e5;
        assert!((above(900) - 0.515).abs() < 0.01, "{}", above(900));
        // 3 % beyond 8192 fall by the power of the exponent; the body adds almost nothing at 65536.
        let expected = 0.03 * 8f64.powf(-1.05);
        assert!((above(65_536) / expected - 1.0).abs() < 0.15);
    }

    #[test]
    fn draws_depend_on_the_seed_alone_and_keep_their_limits() {
        let padded = |seed| Draw {
            longest: Tokens(4096),
            multiple_of: Tokens(128),
            ..draw(5000, seed)
        };
        for name in ["wikipedia", "crawl", "web-like"] {
            let lengths = drawn(name, padded(3));
            assert_eq!(lengths, drawn(name, padded(3)));
            assert_ne!(lengths, drawn(name, padded(4)));
            assert!(lengths.iter().all(|len| len % 128 == 0 && *len <= 4096));
            assert!(lengths.contains(&4096) || lengths.contains(&3968));
        }
    }

    #[test]
    fn impossible_limits_are_told() {
        let too_short = Draw {
            longest: Tokens(200),
            ..draw(5, 1)
        };
        let error = committed("wlbllm").draw(too_short).unwrap_err();
        assert!(error.to_string().contains("200 tokens"));
    }

    #[test]
    fn broken_rules_are_named_with_key_and_value() {
        for (text, complaint) in [
            ("name = 'a'", "either bins or long_tail"),
            ("name = 'a'\nbins = []", "bins hold no sequences"),
            (
                "name = 'a'\nfrom_tokens = 0\nbins = []",
                "from_tokens is 0; a sequence",
            ),
            (
                "name = 'a'\nbins = [{ below_tokens = 1, sequences_percent = 1 }]",
                "bins[0].below_tokens is 1; it must be above 1",
            ),
            (
                "name = 'a'\nbins = [{ below_tokens = 9, sequences_percent = nan }]",
                "bins[0].sequences_percent is NaN",
            ),
            ("name = 'a'\nbin = 3", "unknown field `bin`"),
        ] {
            let rule = LengthDistribution::parse(text).unwrap_err();
            assert!(rule.contains(complaint), "{rule}");
        }
    }
}
