//! The rules that figures of hardware keep.

use lengthwise_core::{Bytes, Seconds, Speed};

use crate::HardwareError;

pub(super) fn positive(key: &str, value: f64) -> Result<f64, HardwareError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(HardwareError::bad(
            key,
            value,
            "it must be finite and above 0",
        ))
    }
}

pub(super) fn fraction(key: &str, value: f64) -> Result<f64, HardwareError> {
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err(HardwareError::bad(
            key,
            value,
            "it must be above 0 and at most 1",
        ))
    }
}

pub(super) fn seconds(key: &str, value: f64) -> Result<Seconds, HardwareError> {
    Seconds::new(value)
        .map_err(|_| HardwareError::bad(key, value, "it must be finite and not negative"))
}

pub(super) fn speed(key: &str, value: f64) -> Result<Speed, HardwareError> {
    Speed::new(value).map_err(|_| HardwareError::bad(key, value, "it must be finite and above 0"))
}

/// Memory that is there and can be counted.
pub(super) fn memory(key: &str, gib: f64) -> Result<Bytes, HardwareError> {
    let bytes = Bytes::from_f64_ceil(gib * (1u64 << 30) as f64);
    bytes
        .filter(|&bytes| bytes > Bytes(0))
        .ok_or_else(|| HardwareError::bad(key, gib, "it must be finite, above 0 and below 2^34"))
}
