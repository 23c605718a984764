//! Lower bounds on the predicted step time, over every plan of the strategy space.

use crate::instance::Instance;

/// A time that no plan can stay below, in seconds.
///
/// Let `S` be the sum of a plan's makespans. No group takes longer than `S`, so each sequence is in a group whose
/// shape handles it within `S`, and occupies at least `min_p d_p w(p, s)` device-seconds over those shapes. A
/// device of speed `v` does at most `v S` of them, so `S` is at least the smallest value for which they all fit.
/// Memory gives the least number of micro-batches: a sequence takes at least `min_p d_p m(p, s)` bytes over the
/// devices, and a micro-batch offers the budgets of all.
pub(crate) fn lower_bound(instance: &Instance<'_>) -> f64 {
    let cluster = instance.problem.cluster;
    let speeds = cluster.devices().iter().map(|device| device.speed().get());
    let (total_speed, fastest) = speeds.fold((0.0, 0.0f64), |(sum, max), speed| {
        (sum + speed, max.max(speed))
    });
    let fits = |makespan: f64| fits_within(instance, makespan, total_speed, fastest);
    let (mut low, mut high) = (0.0, 1e-9);
    while !fits(high) && high < 1e18 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let overhead = instance.problem.cost.micro_batch_overhead().get();
    low + overhead * least_micro_batches(instance)
}

fn fits_within(instance: &Instance<'_>, makespan: f64, total_speed: f64, fastest: f64) -> bool {
    let mut work = 0.0;
    for class in 0..instance.num_classes() {
        let within = (0..instance.shapes.len()).filter(|&shape| {
            instance.fits(shape, class) && instance.time(shape, class) <= makespan * fastest
        });
        let least = within
            .map(|shape| f64::from(instance.shapes[shape].degree) * instance.time(shape, class))
            .fold(f64::INFINITY, f64::min);
        work += least * instance.members(class).len() as f64;
    }
    work <= makespan * total_speed
}

fn least_micro_batches(instance: &Instance<'_>) -> f64 {
    let cluster = instance.problem.cluster;
    let offered: f64 = cluster
        .devices()
        .iter()
        .map(|device| instance.problem.cost.budget(device).as_f64())
        .sum();
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
