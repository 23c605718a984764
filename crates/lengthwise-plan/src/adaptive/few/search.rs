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

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_keeps_makespans, each_table, random_layout};
    use super::*;

    #[test]
    fn what_is_found_is_complete_and_no_slower() {
        let mut num_faster = 0;
        each_table(60, 200, |table, random| {
            let layout = random_layout(table, random);
            let Some(layout) = layout
                .settled(table)
                .filter(|layout| layout.is_complete(table))
            else {
                return;
            };
            let before = layout.step_time(table);
            let none = search(table, layout.clone(), 0, random, Deadline::default());
            assert_eq!(none.step_time(table), before);
            let found = search(table, layout, 30, random, Deadline::default());
            assert!(found.is_complete(table));
            assert_keeps_makespans(&found, table);
            assert!(found.step_time(table) <= before);
            num_faster += usize::from(found.step_time(table) < before);
        });
        assert!(num_faster > 50, "{num_faster}");
    }

    #[test]
    fn repairs_keep_makespans() {
        let (mut num_complete, mut num) = (0, 0);
        each_table(61, 200, |table, random| {
            let mut layout = random_layout(table, random);
            layout.tighten(table);
            layout.scale_targets(1.0 - 0.1 * random.next());
            let targets: Vec<f64> = layout.micro_batches.iter().map(|one| one.target).collect();
            let mut spare = layout.clone();
            repair(&mut layout, &mut spare, table, random);
            assert_keeps_makespans(&layout, table);
            let now: Vec<f64> = layout.micro_batches.iter().map(|one| one.target).collect();
            assert_eq!(now, targets);
            num += 1;
            num_complete += usize::from(layout.is_complete(table));
        });
        assert!(num_complete * 4 > num, "{num_complete} of {num}");
    }

    /// Shortened makespans, over and over from the same ones.
    fn shortened(
        table: &Table<'_, '_>,
        targets: &[f64],
        step: f64,
        random: &mut Random,
        mut check: impl FnMut(&[f64], f64),
    ) {
        let before = Layout::empty(table, targets);
        for _ in 0..2000 {
            let mut layout = before.clone();
            shorten(&mut layout, table, step, random);
            let now: Vec<f64> = layout.micro_batches.iter().map(|one| one.target).collect();
            check(&now, before.step_time(table) - layout.step_time(table));
        }
    }

    #[test]
    fn steps_get_shorter_by_the_part_asked_for_at_most() {
        each_table(62, 8, |table, random| {
            let overhead = table.instance.overhead;
            // One more micro-batch is worth its overhead.
            let unit = 10.0 * overhead.max(1e-3);
            for step in [SHORTEST_STEP, FIRST_STEP, LONGEST_STEP] {
                let targets = [unit, 2.0 * unit, 4.0 * unit];
                let sum = 7.0 * unit;
                let rounding = 1e-9 * sum;
                let (mut fewer, mut more, mut shifted, mut least_steps) = (0, 0, 0, 0);
                let (mut most_saved, mut most_shifted) = (0.0f64, 0.0f64);
                shortened(table, &targets, step, random, |now, saved| {
                    assert!(now.iter().all(|&target| target > 0.0));
                    assert!(saved >= -rounding, "the step got longer");
                    let kept = now
                        .iter()
                        .zip(&targets)
                        .filter(|(now, was)| now == was)
                        .count();
                    let is_least = now.len() == 3
                        && now
                            .iter()
                            .zip(&targets)
                            .all(|(now, was)| *now == was * (1.0 - LEAST_STEP));
                    if is_least {
                        least_steps += 1;
                    } else if now.len() == 2 {
                        // One of the others took over what was closed.
                        fewer += 1;
                        assert!(saved <= step * sum + rounding);
                        most_saved = most_saved.max(saved);
                        assert_eq!(now.iter().filter(|now| targets.contains(now)).count(), 1);
                    } else if now.len() == 4 {
                        more += 1;
                        assert!(saved <= step * sum + rounding);
                        let split: Vec<usize> =
                            (0..3).filter(|&one| now[one] != targets[one]).collect();
                        assert_eq!(split.len(), 1);
                        let parts = [now[split[0]], now[3]];
                        let share = parts[0] / (parts[0] + parts[1]);
                        assert!((0.1 - 1e-9..=0.9 + 1e-9).contains(&share), "{share}");
                    } else if kept > 0 {
                        // One is shorter, and one other longer by no more than that.
                        shifted += 1;
                        let longest = targets.iter().fold(0.0, |a, &b| f64::max(a, b));
                        assert!(saved <= 4.0 * step * longest + rounding);
                        most_shifted = most_shifted.max(saved / longest);
                        let num_longer = now
                            .iter()
                            .zip(&targets)
                            .filter(|(now, was)| now > was)
                            .count();
                        assert!(num_longer <= 1);
                    } else {
                        for (now, was) in now.iter().zip(&targets) {
                            assert!((1.0 - step) * was <= *now && now <= was);
                        }
                    }
                });
                // A quarter are least steps; of the others 15 % close, 10 % split and 45 % shift.
                let about = |num: i32, part: f64| (f64::from(num) - 2000.0 * part).abs() < 100.0;
                assert!(about(least_steps, 0.25), "{least_steps}");
                assert!(about(fewer, 0.75 * 0.15), "{fewer}");
                assert!(about(more, 0.75 * 0.1), "{more}");
                assert!(about(shifted, 0.75 * 0.45), "{shifted}");
                assert!(most_saved > 0.8 * step * sum, "{most_saved}");
                assert!(most_shifted > 2.0 * step, "{most_shifted}");
            }
        });
    }

    #[test]
    fn a_single_micro_batch_is_split_or_shortened_and_never_closed() {
        each_table(63, 8, |table, random| {
            let unit = 10.0 * table.instance.overhead.max(1e-3);
            let (mut more, mut shorter) = (0, 0);
            shortened(table, &[unit], FIRST_STEP, random, |now, saved| {
                assert!(saved >= -1e-9 * unit && saved <= FIRST_STEP * unit * (1.0 + 1e-9));
                more += usize::from(now.len() == 2);
                shorter += usize::from(now.len() == 1);
            });
            // A quarter of what is no least step.
            assert!(
                (300..450).contains(&more) && shorter + more == 2000,
                "{more}, {shorter}"
            );
        });
    }

    #[test]
    fn nothing_is_split_that_ends_within_an_overhead() {
        each_table(64, 8, |table, random| {
            let overhead = table.instance.overhead;
            if overhead > 0.0 {
                shortened(table, &[overhead], FIRST_STEP, random, |now, _| {
                    assert_eq!(now.len(), 1);
                });
            }
        });
    }
}
