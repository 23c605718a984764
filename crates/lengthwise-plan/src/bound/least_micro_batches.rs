//! The least number of micro-batches that the memory of a cluster allows.

use super::usable_devices::usable_devices;
use crate::instance::Instance;

/// A sequence takes at least `min_p d_p m(p, s)` bytes over the devices, and a micro-batch offers the
/// budgets of the devices that groups can use.
pub(crate) fn least_micro_batches(instance: &Instance<'_>) -> f64 {
    let usable = usable_devices(instance);
    let offered = instance.total_budget(usable[usable.len() - 1] as usize);
    let mut needed = 0.0;
    for class in 0..instance.num_classes() {
        let least = (0..instance.shapes.len())
            .filter(|&shape| instance.fits(shape, class))
            .map(|shape| {
                f64::from(instance.shapes[shape].degree) * instance.memory(shape, class) as f64
            })
            .fold(f64::INFINITY, f64::min);
        needed += least * instance.members(class).len() as f64;
    }
    if offered > 0.0 {
        (needed / offered * (1.0 - 1e-12)).ceil().max(1.0)
    } else {
        1.0
    }
}
