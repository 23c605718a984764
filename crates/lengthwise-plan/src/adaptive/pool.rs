//! The groups of one micro-batch and shape that may take more.

use std::ops::Range;

use crate::instance::Instance;
use crate::load::Load;

/// Open groups, by what they still have room for.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    groups: Vec<Open>,
    /// Of how many classes, from the shortest on, each group has room for one more sequence.
    fitting: Vec<u32>,
    /// The most of each block of groups, so that blocks without room are passed over.
    most_fitting: Vec<u32>,
    /// Whether no more groups can be opened.
    pub(crate) is_closed: bool,
}

/// A group that may take more.
#[derive(Clone, Copy)]
pub(crate) struct Open {
    pub(crate) group: u32,
    pub(crate) time: f64,
    /// The load it has room for.
    pub(crate) room: Load,
    pub(crate) slowness: f64,
}

/// How many groups are looked at to find the best fit: those of a pool are much alike, so that a best fit among some
/// is as good as one among all.
const BLOCK: usize = 64;

impl Pool {
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.fitting.clear();
        self.most_fitting.clear();
        self.is_closed = false;
    }

    /// Whether it takes no sequence any more, of whatever class.
    pub(crate) fn is_full(&self) -> bool {
        self.most_fitting.iter().all(|&most| most == 0)
    }

    /// Adds an empty group that has room for one of `class`.
    pub(crate) fn push(&mut self, open: Open, class: u32) {
        self.groups.push(open);
        self.fitting.push(0);
        let position = self.groups.len() - 1;
        self.most_fitting.resize(position / BLOCK + 1, 0);
        self.set_fitting(position, class + 1);
    }

    /// The position of the group with the least room of those that have some for one of `class`.
    pub(crate) fn best_fit(&self, class: u32) -> Option<usize> {
        let block = self.most_fitting.iter().position(|&most| most > class)?;
        let range = self.block(block * BLOCK);
        let mut best = (u32::MAX, range.start);
        for (position, &fitting) in range.clone().zip(&self.fitting[range]) {
            if fitting > class && fitting < best.0 {
                best = (fitting, position);
            }
        }
        Some(best.1)
    }

    /// Adds up to `count` sequences of `class` to a group of this shape and target; how many, and the group after it.
    pub(crate) fn take(
        &mut self,
        instance: &Instance<'_>,
        position: usize,
        (shape, target): (usize, f64),
        class: u32,
        count: u32,
    ) -> (u32, Open) {
        let open = &mut self.groups[position];
        let (times, memories) = (instance.times(shape), instance.memories(shape));
        let time = times[class as usize];
        let load = instance.load(shape, class as usize);
        let mut taken = 0;
        while taken < count && load.fits(open.room) && open.time + time * open.slowness <= target {
            open.time += time * open.slowness;
            open.room = open.room - load;
            taken += 1;
        }
        let open = *open;
        // Only classes up to this one come after it. Time and loads do not decrease with length.
        let rest = class as usize + usize::from(taken == count);
        let mut in_room = memories[..rest].partition_point(|&memory| memory <= open.room.memory);
        if let Some(hosts) = instance.hosts(shape).get(..in_room) {
            in_room = hosts.partition_point(|&host| host <= open.room.host);
        }
        if open.room.sequences == 0 {
            in_room = 0;
        } else if in_room > 0 && instance.tokens()[in_room - 1] > open.room.tokens {
            let tokens = &instance.tokens()[..in_room];
            in_room = tokens.partition_point(|&tokens| tokens <= open.room.tokens);
        }
        let in_time = |&time: &f64| open.time + time * open.slowness <= target;
        let fitting = times[..in_room].partition_point(in_time);
        self.set_fitting(position, fitting as u32);
        (taken, open)
    }

    fn set_fitting(&mut self, position: usize, fitting: u32) {
        self.fitting[position] = fitting;
        let block = &self.fitting[self.block(position)];
        self.most_fitting[position / BLOCK] = block.iter().copied().max().unwrap_or(0);
    }

    /// The positions in the block of a group.
    fn block(&self, position: usize) -> Range<usize> {
        let start = position - position % BLOCK;
        start..(start + BLOCK).min(self.groups.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adaptive::random::Random;
    use crate::common::{Size, cases_with_rules, sample};

    /// What a group that was opened for a class may still take: the classes from the shortest on that fit it.
    fn num_fitting(
        instance: &Instance<'_>,
        open: &Open,
        (shape, target): (usize, f64),
        last: usize,
    ) -> u32 {
        let fits = |class: usize| {
            instance.load(shape, class).fits(open.room)
                && open.time + instance.time(shape, class) * open.slowness <= target
        };
        (0..last).take_while(|&class| fits(class)).count() as u32
    }

    #[test]
    fn the_fullest_group_that_has_room_is_found_and_takes_what_fits() {
        let size = Size {
            num_nodes: 1,
            devices_per_node: 4,
            num_sequences: 40,
            seq_len: 60_000,
        };
        let (mut num_taken, mut num_blocks) = (0, 0);
        for (index, case) in sample(cases_with_rules(size), 130, 200).enumerate() {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let mut random = Random::new(index);
            let shape = random.below(instance.shapes.len());
            let longest = instance.num_classes() - 1;
            let target = instance.time(shape, longest) * (1.0 + 2.0 * random.next());
            let budget = instance.shapes[shape].best_budget;
            let mut pool = Pool::default();
            let mut groups: Vec<(Open, u32)> = Vec::new();
            assert!(pool.is_full());
            // From the longest class to the shortest, as sequences come.
            for class in (0..=longest).rev() {
                for _ in 0..random.below(16) {
                    let open = Open {
                        group: groups.len() as u32,
                        time: 0.0,
                        room: instance.capacity(shape, budget),
                        slowness: 1.0 + random.next(),
                    };
                    let fits = instance.load(shape, class).fits(open.room)
                        && instance.time(shape, class) * open.slowness <= target;
                    if fits {
                        pool.push(open, class as u32);
                        groups.push((open, class as u32 + 1));
                    }
                }
                let mut count = random.below(40) as u32;
                while let Some(position) = pool.best_fit(class as u32) {
                    let block = position / BLOCK * BLOCK;
                    num_blocks += usize::from(block > 0);
                    let (open, fitting) = groups[position];
                    assert!(fitting > class as u32, "it has no room");
                    let of_block = &groups[block..(block + BLOCK).min(groups.len())];
                    let roomy = of_block
                        .iter()
                        .filter(|(_, fitting)| *fitting > class as u32);
                    assert_eq!(roomy.map(|&(_, fitting)| fitting).min(), Some(fitting));
                    let before = groups[..block].iter();
                    assert!(before.clone().all(|&(_, fitting)| fitting <= class as u32));
                    if count == 0 {
                        break;
                    }
                    let (taken, after) =
                        pool.take(&instance, position, (shape, target), class as u32, count);
                    let (mut expected, mut num) = (open, 0);
                    while num < count
                        && num_fitting(&instance, &expected, (shape, target), class + 1)
                            > class as u32
                    {
                        expected.time += instance.time(shape, class) * open.slowness;
                        expected.room = expected.room - instance.load(shape, class);
                        num += 1;
                    }
                    assert_eq!((taken, after.group), (num, open.group));
                    assert_eq!((after.time, after.room), (expected.time, expected.room));
                    // Once all are placed, only shorter ones come.
                    let last = class + usize::from(taken == count);
                    groups[position] =
                        (after, num_fitting(&instance, &after, (shape, target), last));
                    count -= taken;
                    num_taken += taken;
                }
                let has_room = groups.iter().any(|&(_, fitting)| fitting > class as u32);
                assert_eq!(pool.best_fit(class as u32).is_some(), has_room);
                assert_eq!(
                    pool.is_full(),
                    groups.iter().all(|&(_, fitting)| fitting == 0)
                );
            }
            pool.is_closed = true;
            pool.clear();
            assert!(!pool.is_closed && pool.is_full() && pool.best_fit(0).is_none());
        }
        assert!(
            num_taken > 1000 && num_blocks > 10,
            "{num_taken}, {num_blocks}"
        );
    }
}
