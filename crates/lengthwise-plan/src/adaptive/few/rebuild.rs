//! Taking a layout apart in places and building it up again.

use super::layout::{Layout, Way};
use super::table::Table;
use crate::adaptive::random::Random;
use crate::load::Load;

/// How often a way is overlooked, so that no two attempts are the same.
const OVERLOOKED: f64 = 0.03;

/// The most groups, or single sequences, that are taken out at once.
const MAX_GROUPS_OUT: usize = 3;
const MAX_SEQUENCES_OUT: usize = 6;

/// Takes out whole groups or single sequences.
pub(super) fn take_apart(layout: &mut Layout, table: &Table<'_, '_>, random: &mut Random) {
    let num = table.sequences.len();
    let mut out = Vec::new();
    if random.next() < 0.5 {
        for _ in 0..=random.below(MAX_GROUPS_OUT) {
            if let Some(group) = layout.group_of[random.below(num)] {
                out.extend(layout.members(group));
            }
        }
    } else {
        out.extend((0..=random.below(MAX_SEQUENCES_OUT)).map(|_| random.below(num)));
    }
    layout.remove(table, &out);
}

/// Places what has no group, the longest first; what finds no place stays without.
///
/// Each sequence goes where it costs least: by the part `thrift` the device-seconds that it takes there, by the rest the
/// devices that its group gets for it, until the micro-batch ends.
pub(super) fn rebuild(
    layout: &mut Layout,
    table: &Table<'_, '_>,
    thrift: f64,
    random: &mut Random,
) {
    for sequence in 0..table.sequences.len() {
        if layout.group_of[sequence].is_none() {
            let mut offers = Offers {
                layout,
                table,
                times: table.times(sequence),
                memories: table.memories(sequence),
                tokens: table.tokens(sequence),
                least_work: table.sequences[sequence].least_work,
                thrift,
                best: None,
            };
            offers.collect(random);
            if let Some((_, way)) = offers.best {
                layout.place(table, sequence, way);
            }
        }
    }
}

/// What places cost a sequence.
struct Offers<'a, 'i, 'p> {
    layout: &'a Layout,
    table: &'a Table<'i, 'p>,
    /// Those of the sequence.
    times: &'a [f64],
    memories: &'a [u64],
    tokens: u64,
    least_work: f64,
    thrift: f64,
    /// The least cost so far and what it is for.
    best: Option<(f64, Way)>,
}

impl Offers<'_, '_, '_> {
    fn collect(&mut self, random: &mut Random) {
        let open = (0u32..).zip(&self.layout.groups);
        let open = open.filter(|(_, group)| group.num_sequences > 0);
        for (group, _) in open.clone() {
            if random.next() >= OVERLOOKED {
                self.offer_room(group);
            }
        }
        for (index, group) in open {
            if random.next() >= OVERLOOKED {
                self.offer_devices(group.micro_batch, Some(index));
            }
        }
        for micro_batch in 0..self.layout.micro_batches.len() as u32 {
            if random.next() >= OVERLOOKED {
                self.offer_devices(micro_batch, None);
            }
        }
    }

    fn least(&self) -> f64 {
        self.best.map_or(f64::INFINITY, |(cost, _)| cost)
    }

    /// By thrift, the device-seconds that the sequence takes.
    fn taken(&self, shape: usize) -> f64 {
        let degree = f64::from(self.table.shapes[shape].degree);
        self.thrift * degree * self.times[shape]
    }

    /// What the sequence takes of a group.
    fn load(&self, shape: usize) -> Load {
        Load {
            memory: self.memories[shape],
            tokens: self.tokens,
            sequences: 1,
        }
    }

    /// The room that a group has.
    fn offer_room(&mut self, group: u32) {
        let Offers { layout, table, .. } = *self;
        let bundle = layout.groups[group as usize];
        let shape = bundle.shape as usize;
        let time = layout.times(table, group)[shape] + self.times[shape];
        let load = layout.load(table, group, shape) + self.load(shape);
        let cost = self.taken(shape);
        let target = layout.micro_batches[bundle.micro_batch as usize].target;
        if time <= target && table.has_room(shape, load) && cost < self.least() {
            let way = Way {
                micro_batch: bundle.micro_batch,
                group: Some(group),
                shape: bundle.shape,
            };
            self.best = Some((cost, way));
        }
    }

    /// Free devices, for a group to grow or for a new one.
    fn offer_devices(&mut self, micro_batch: u32, group: Option<u32>) {
        let Offers {
            layout,
            table,
            times,
            ..
        } = *self;
        let bay = layout.micro_batches[micro_batch as usize];
        if bay.free == 0 {
            return;
        }
        let bundle = group.map(|group| layout.groups[group as usize]);
        let degree = bundle.map_or(0, |bundle| table.shapes[bundle.shape as usize].degree);
        // In no shape do sequences take fewer device-seconds than each in its cheapest.
        let work = self.least_work + bundle.map_or(0.0, |bundle| bundle.least_work);
        let needed = work * (1.0 - 1e-9);
        if needed > f64::from(degree + bay.free) * bay.target {
            return;
        }
        let larger = bundle.map_or(0, |bundle| bundle.shape as usize + 1);
        let first = larger.max(table.first_of_degree[(needed / bay.target) as usize]);
        let sums = group.map(|group| layout.times(table, group));
        for (shape, &added_time) in times.iter().enumerate().skip(first) {
            let added = table.shapes[shape].degree - degree;
            let kept = (1.0 - self.thrift) * f64::from(added) * bay.target;
            if added > bay.free || kept >= self.least() {
                return;
            }
            let time = sums.map_or(0.0, |times| times[shape]);
            let load = || group.map_or(Load::default(), |group| layout.load(table, group, shape));
            if time + added_time > bay.target || !table.has_room(shape, load() + self.load(shape)) {
                continue;
            }
            let cost = kept + self.taken(shape);
            if cost >= self.least() {
                return;
            }
            if layout.packs(table, micro_batch, group, shape) {
                let way = Way {
                    micro_batch,
                    group,
                    shape: shape as u32,
                };
                self.best = Some((cost, way));
                return;
            }
        }
    }
}
