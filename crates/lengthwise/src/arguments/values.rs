//! Values as they are typed.

use lengthwise_core::{Cluster, Degree};

/// Reads a degree.
pub fn degree(text: &str) -> Result<Degree, String> {
    let degree: u32 = text
        .trim()
        .parse()
        .map_err(|_| "a degree is a whole number above 0".to_owned())?;
    Degree::new(degree).map_err(|error| error.to_string())
}

/// Reads a number of devices.
pub fn devices(text: &str) -> Result<u32, String> {
    let devices = text.parse().ok();
    let devices = devices.filter(|devices| (1..=Cluster::MAX_DEVICES).contains(devices));
    devices.ok_or_else(|| {
        format!(
            "it must be a whole number from 1 to {}",
            Cluster::MAX_DEVICES
        )
    })
}
