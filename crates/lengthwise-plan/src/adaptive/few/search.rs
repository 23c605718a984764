//! Large neighbourhood search: shortening the makespans of a layout, and repairing it.

use super::layout::Layout;
use super::rebuild::{rebuild, take_apart};
use super::table::Table;
use crate::adaptive::random::Random;
use crate::deadline::Deadline;

/// The part that makespans are shortened by: at first and at most, and where it begins anew.
const FIRST_STEP: f64 = 0.04;
const LONGEST_STEP: f64 = 0.1;
const SHORTEST_STEP: f64 = 0.002;

/// The same where any improvement is welcome, which it is so often.
const LEAST_STEP: f64 = 1e-6;
const LEAST_STEPS: f64 = 0.25;

/// How often a layout that lacks room for some sequence is taken apart.
const NUM_REPAIRS: usize = 12;

/// A layout that takes up to this part longer may take the place of the one that is searched from, for so many rounds.
const DETOUR: f64 = 0.005;
const NUM_DETOURS: usize = 30;

/// The best layout that so many rounds come to.
pub(super) fn search(
    table: &Table<'_, '_>,
    mut best: Layout,
    num_rounds: usize,
    random: &mut Random,
    deadline: Deadline,
) -> Layout {
    let mut step = FIRST_STEP;
    let mut num_stuck = 0;
    let mut home = best.clone();
    let (mut trial, mut spare) = (best.clone(), best.clone());
    for _ in 0..num_rounds {
        if deadline.has_passed() || table.is_optimal(&best) {
            break;
        }
        let detour = 1.0 + DETOUR * random.next() * random.next();
        let limit = home.step_time(table) * detour;
        trial.clone_from(&home);
        shorten(&mut trial, table, step, random);
        trial.scale_targets(detour);
        if trial.step_time(table) >= limit * (1.0 - 1e-7) || !trial.has_devices_enough(table) {
            continue;
        }
        repair(&mut trial, &mut spare, table, random);
        if trial.is_complete(table) {
            trial.tighten(table);
            if trial.step_time(table) < limit {
                home.clone_from(&trial);
                step = (step * 1.5).min(LONGEST_STEP);
                if home.step_time(table) < best.step_time(table) {
                    best.clone_from(&home);
                    num_stuck = 0;
                }
                continue;
            }
        }
        num_stuck += 1;
        if num_stuck > NUM_DETOURS {
            home.clone_from(&best);
            num_stuck = 0;
        }
        step *= 0.9;
        if step < SHORTEST_STEP {
            step = FIRST_STEP;
        }
    }
    best
}

/// Takes out sequences that do not keep the makespans and looks for room elsewhere; now and then in vain.
fn repair(layout: &mut Layout, spare: &mut Layout, table: &Table<'_, '_>, random: &mut Random) {
    for micro_batch in 0..layout.micro_batches.len() as u32 {
        layout.evict(table, micro_batch, random);
    }
    rebuild(layout, table, random.next(), random);
    let mut missing = layout.missing_work(table);
    for _ in 0..NUM_REPAIRS {
        if layout.is_complete(table) {
            return;
        }
        spare.clone_from(layout);
        take_apart(spare, table, random);
        rebuild(spare, table, random.next(), random);
        let missing_now = spare.missing_work(table);
        if missing_now <= missing * (1.0 + 0.2 * random.next()) {
            missing = missing_now;
            std::mem::swap(layout, spare);
        }
    }
}

/// Lets the step take less by about the part `step`, or its micro-batches share their time otherwise.
fn shorten(layout: &mut Layout, table: &Table<'_, '_>, step: f64, random: &mut Random) {
    let num = layout.micro_batches.len();
    let overhead = table.instance.overhead;
    let saved = step
        * random.next()
        * layout
            .micro_batches
            .iter()
            .map(|micro_batch| micro_batch.target)
            .sum::<f64>();
    let kind = random.next();
    if random.next() < LEAST_STEPS {
        layout.scale_targets(1.0 - LEAST_STEP);
    } else if num > 1 && kind < 0.15 && table.num_is_free() {
        // One micro-batch less, another one longer.
        let closed = random.below(num);
        let gained = layout.micro_batches[closed].target + overhead;
        layout.close(table, closed as u32);
        layout.micro_batches[random.below(num - 1)].target += gained - saved;
    } else if kind < 0.25 && table.num_is_free() {
        // One micro-batch more, out of the time of another one.
        let split = random.below(num);
        let rest = layout.micro_batches[split].target - overhead - saved;
        if rest > 0.0 {
            let share = 0.1 + 0.8 * random.next();
            layout.micro_batches[split].target = rest * share;
            layout.open(table, rest * (1.0 - share));
        }
    } else if num > 1 && kind < 0.7 {
        // One micro-batch shorter, another one longer by a part of that.
        let shortened = &mut layout.micro_batches[random.below(num)];
        let taken = shortened.target * (4.0 * step * random.next()).min(0.9);
        shortened.target -= taken;
        if random.next() < 0.7 {
            let given = taken * random.next() * random.next();
            layout.micro_batches[random.below(num)].target += given;
        }
    } else {
        for micro_batch in &mut layout.micro_batches {
            micro_batch.target *= 1.0 - step * random.next();
        }
    }
}
