//! How many devices groups can have together.

use crate::instance::Instance;

/// For every number of devices how many of them groups can have together: with degrees 3 and 6, 15 of 16.
pub(crate) fn usable_devices(instance: &Instance<'_>) -> Vec<u32> {
    let num_devices = instance.problem.cluster.num_devices();
    let mut degrees: Vec<u32> = instance.shapes.iter().map(|shape| shape.degree).collect();
    degrees.dedup();
    let mut usable = vec![0; num_devices as usize + 1];
    for devices in 1..=num_devices {
        usable[devices as usize] = if degrees[0] == 1 {
            devices
        } else {
            let largest = degrees.iter().take_while(|&&degree| degree <= devices);
            let used = largest.map(|&degree| degree + usable[(devices - degree) as usize]);
            used.max().unwrap_or(0)
        };
    }
    usable
}
