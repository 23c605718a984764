//! A makespan that is too short for one micro-batch: its groups would need more devices than there are.
//!
//! Within a makespan `T`, a group of shape `p` has its `d(p)` devices for `T` seconds and with their capacity `C`. Its sequences
//! take `w` seconds and `c` of the capacity, all of them at most `T` and `C`; so for any part `x_p` from 0 to 1
//!
//! ```text
//! d(p)  >=  sum over its sequences of  d(p) ( x_p w(p, s) / T + (1 - x_p) c(p, s) / C )
//! ```
//!
//! Added up over the groups of a micro-batch of all sequences, with the least of all shapes for each,
//!
//! ```text
//! N  >=  sum over s of  min over p of  d(p) ( x_p w(p, s) / T + (1 - x_p) c(p, s) / C )
//! ```
//!
//! where there are `N` devices. If the sum is more, no plan of one micro-batch keeps to `T`. That is stronger than the bound of a
//! leaf, which lends a group what another one, of another shape, leaves of its time or capacity.

use crate::format::OneMicroBatch;
use crate::relaxation::{Relaxation, SLACK, Sum};

/// The least time of a plan of one micro-batch.
///
/// # Errors
///
/// The fault, where there may be plans that keep to the makespan.
pub(crate) fn bound(relaxation: &Relaxation<'_>, proof: &OneMicroBatch) -> Result<f64, String> {
    let tables = relaxation.tables;
    let (makespan, parts) = (proof.makespan_s, &proof.time_parts);
    if !(makespan > 0.0 && makespan.is_finite()) {
        return Err(format!(
            "has a makespan_s of {makespan:?}; makespans are above 0"
        ));
    }
    if parts.len() != tables.shapes.len() {
        let (found, num) = (parts.len(), tables.shapes.len());
        return Err(format!("has {found} time_parts; there are {num} shapes"));
    }
    if let Some(part) = parts.iter().find(|part| !(0.0..=1.0).contains(*part)) {
        return Err(format!(
            "has {part:?} among its time_parts; parts are numbers from 0 to 1"
        ));
    }
    // No group is faster than the fastest device.
    let seconds = makespan * relaxation.fastest;
    let mut least = vec![f64::INFINITY; tables.lens.len()];
    for (shape, (of, part)) in tables.shapes.iter().zip(parts).enumerate() {
        // Groups can have the other shape instead, which counts.
        if of.is_outdone {
            continue;
        }
        let within = of.seconds.partition_point(|&time| time <= seconds * SLACK);
        let costs = relaxation.costs(shape).take(within.min(of.num_fitting));
        for (least, (work, share)) in least.iter_mut().zip(costs) {
            *least = least.min(part * work / seconds + (1.0 - part) * share);
        }
    }
    let mut needed = Sum::default();
    for (&devices, &count) in least.iter().zip(&tables.counts) {
        // Infinitely many, where no group holds such a sequence in time.
        needed.add(devices * f64::from(count));
    }
    // Each term is made of a few that are rounded, too.
    needed.num_terms += 8.0;
    let num_devices = f64::from(relaxation.num_usable());
    let is_too_short = needed.value == f64::INFINITY || needed.at_least() > num_devices;
    if !is_too_short {
        let needed = needed.value;
        return Err(format!(
            "is said to take longer than {makespan:?} s; within that, {needed:?} of {num_devices} devices are shown to be needed"
        ));
    }
    Ok(makespan + tables.overhead)
}
