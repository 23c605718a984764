//! How large planning problems are, and in what order they are tried.

use std::fmt;
use std::str::FromStr;

use lengthwise_core::Cluster;
use lengthwise_core::limits::BATCH_SEQUENCES;
use lengthwise_core::words::shown;

/// How many sequences are planned for how many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) num_sequences: usize,
    pub(super) num_devices: u32,
}

/// Sizes along which something grows.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) growing: Growing,
    pub(super) sizes: Vec<Size>,
}

/// What grows along a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growing {
    Both,
    Sequences,
    Devices,
}

impl Growing {
    /// The name it has in the table and in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Growing::Both => "both",
            Growing::Sequences => "sequences",
            Growing::Devices => "devices",
        }
    }

    /// What the fitted power is one of.
    pub(super) fn quantity(self, size: Size) -> f64 {
        match self {
            Growing::Both | Growing::Sequences => size.num_sequences as f64,
            Growing::Devices => f64::from(size.num_devices),
        }
    }
}

impl Series {
    /// The sizes as they are, then each number of sequences on the devices of the middle one, then the sequences of
    /// the middle one on each number of devices.
    pub(super) fn all(sizes: &[Size]) -> Vec<Series> {
        let middle = sizes[sizes.len() / 2];
        let on_middle = sizes.iter().map(|size| Size {
            num_devices: middle.num_devices,
            ..*size
        });
        let of_middle = sizes.iter().map(|size| Size {
            num_sequences: middle.num_sequences,
            ..*size
        });
        let series = |growing, sizes| Series { growing, sizes };
        vec![
            series(Growing::Both, sizes.to_vec()),
            series(Growing::Sequences, on_middle.collect()),
            series(Growing::Devices, of_middle.collect()),
        ]
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{}\" is no size; write SEQUENCESxDEVICES, such as 512x64, with at most {} sequences and {} devices",
                shown(text),
                BATCH_SEQUENCES.most,
                Cluster::MAX_DEVICES
            )
        };
        let (sequences, devices) = text.trim().split_once('x').ok_or_else(bad)?;
        let num_sequences = sequences.parse().map_err(|_| bad())?;
        let num_devices = devices.parse().map_err(|_| bad())?;
        let within = |num: usize| BATCH_SEQUENCES.holds(num as u64);
        if !within(num_sequences) || !(1..=Cluster::MAX_DEVICES).contains(&num_devices) {
            return Err(bad());
        }
        Ok(Size {
            num_sequences,
            num_devices,
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.num_sequences, self.num_devices)
    }
}

/// The power of `x` that `y` grows with: the slope of a line through their logarithms by least squares; `None` without
/// two different `x`.
pub(super) fn fitted_power(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let logs = || points.iter().map(|&(x, y)| (x.ln(), y.ln()));
    let (sum_x, sum_y) = logs().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (with_y, with_x) = logs().fold((0.0, 0.0), |(xy, xx), (x, y)| {
        let off = x - mean_x;
        (xy + off * (y - mean_y), xx + off * off)
    });
    let power = with_y / with_x;
    (with_x > 0.0 && power.is_finite()).then_some(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let size: Size = "512x64".parse().unwrap();
        assert_eq!((size.num_sequences, size.num_devices), (512, 64));
        assert_eq!(size.to_string(), "512x64");
        for text in [
            "",
            "512",
            "x",
            "0x8",
            "8x0",
            "8x-1",
            "8x8x8",
            "99999999999x8",
            "8x4294967295",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sweeps_hold_one_number_of_the_middle_size() {
        let sizes: Vec<Size> = ["2x1", "4x2", "8x3"].map(|s| s.parse().unwrap()).into();
        let all = Series::all(&sizes);
        let written = |series: &Series| {
            let sizes: Vec<String> = series.sizes.iter().map(Size::to_string).collect();
            sizes.join(" ")
        };
        assert_eq!(written(&all[0]), "2x1 4x2 8x3");
        assert_eq!(written(&all[1]), "2x2 4x2 8x2");
        assert_eq!(written(&all[2]), "4x1 4x2 4x3");
    }

    #[test]
    fn powers_are_found() {
        let points = [1.0, 3.0, 10.0, 100.0].map(|x: f64| (x, 7.0 * x.powf(1.25)));
        let power = fitted_power(&points).unwrap();
        assert!((power - 1.25).abs() < 1e-12, "{power}");
        assert_eq!(fitted_power(&[(2.0, 1.0), (2.0, 3.0)]), None);
        assert_eq!(fitted_power(&[]), None);
    }
}
