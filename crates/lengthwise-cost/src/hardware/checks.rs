//! The rules that figures of hardware keep.

use lengthwise_core::limits::{CORE_FRACTION, DEVICE_MEMORY, DURATION_S};
use lengthwise_core::words::figure;
use lengthwise_core::{Bytes, Seconds, Speed};

use crate::HardwareError;

/// How much crosses a link, or is computed, in a second: so little that a step would never end is none.
pub(super) fn rate(key: &str, value: f64, least: f64) -> Result<f64, HardwareError> {
    if value.is_finite() && value >= least {
        Ok(value)
    } else {
        let rule = format!("it must be finite and at least {}", figure(least));
        Err(HardwareError::bad(key, figure(value), rule))
    }
}

pub(super) fn fraction(key: &str, value: f64) -> Result<f64, HardwareError> {
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err(HardwareError::bad(
            key,
            figure(value),
            "it must be above 0 and at most 1",
        ))
    }
}

/// The part of a core that an emulated device stands for: one so small that a step would not end is none.
pub(super) fn core_fraction(value: f64) -> Result<f64, HardwareError> {
    if (CORE_FRACTION..=1.0).contains(&value) {
        Ok(value)
    } else {
        let rule = format!("it must be a number from {} to 1", figure(CORE_FRACTION));
        Err(HardwareError::bad(
            "device.core_fraction",
            figure(value),
            rule,
        ))
    }
}

pub(super) fn seconds(key: &str, value: f64) -> Result<Seconds, HardwareError> {
    let seconds = Seconds::new(value).ok();
    seconds
        .filter(|seconds| seconds.get() <= DURATION_S)
        .ok_or_else(|| {
            let rule = format!("it must be a number from 0 to {}", figure(DURATION_S));
            HardwareError::bad(key, figure(value), rule)
        })
}

pub(super) fn speed(key: &str, value: f64) -> Result<Speed, HardwareError> {
    Speed::new(value)
        .map_err(|_| HardwareError::bad(key, figure(value), "it must be finite and above 0"))
}

/// Memory that is there and can be counted.
pub(super) fn memory(key: &str, gib: f64) -> Result<Bytes, HardwareError> {
    let bytes = Bytes::from_f64_ceil(gib * (1u64 << 30) as f64);
    bytes
        .filter(|&bytes| bytes > Bytes(0) && bytes <= DEVICE_MEMORY)
        .ok_or_else(|| {
            let most = DEVICE_MEMORY.0 >> 30;
            HardwareError::bad(
                key,
                figure(gib),
                format!("it must be finite, above 0 and at most {most}"),
            )
        })
}
