//! Drafts of very many micro-batches: groups by the dual prices of column generation, then micro-batches of groups that end
//! together.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::draft::Draft;
use crate::instance::Instance;
use crate::load::Load;
use crate::patterns::{GroupKind, KnapsackValues, PatternPrices};

/// Micro-batches that wait for groups to fill them: after so many others their devices hardly suit any.
const MAX_WAITING: usize = 32;

/// A group that has no devices yet: a bin of bin packing.
struct Bin {
    shape: usize,
    time: f64,
    load: Load,
    /// Classes and how many sequences of each.
    content: Vec<(u32, u32)>,
}

/// Where a sequence can go, and what that takes of the step.
#[derive(Clone, Copy)]
struct Choice {
    cost: f64,
    kind: usize,
    /// The room and position of the group, if it is there already.
    bin: Option<(u64, u32)>,
}

/// The draft of an instance whose devices are equal, in time that grows with its sequences alone.
pub(crate) fn draft(instance: &Instance<'_>, duals: &PatternPrices) -> Draft {
    let mut bins = Packing::new(instance, duals).fill();
    bins.sort_by(|a, b| b.time.total_cmp(&a.time));
    assemble(instance, &bins)
}

/// The packing of sequences into bins, the longest first.
struct Packing<'a, 'p> {
    instance: &'a Instance<'p>,
    duals: &'a PatternPrices,
    bins: Vec<Bin>,
    /// The room that groups of each kind have left.
    by_room: Vec<BTreeSet<(u64, u32)>>,
}

impl<'a, 'p> Packing<'a, 'p> {
    fn new(instance: &'a Instance<'p>, duals: &'a PatternPrices) -> Self {
        Packing {
            instance,
            duals,
            bins: Vec::new(),
            by_room: vec![BTreeSet::new(); duals.buckets.kinds.len()],
        }
    }

    fn fill(mut self) -> Vec<Bin> {
        let buckets = &self.duals.buckets;
        let mut values = values(self.duals);
        for bucket in (0..buckets.num_buckets()).rev() {
            for class in (buckets.starts[bucket]..buckets.starts[bucket + 1]).rev() {
                for _ in self.instance.members(class) {
                    self.place(class, &values);
                }
            }
            // From here on only shorter ones are left to fill room with.
            for (values, kind) in values.iter_mut().zip(&buckets.kinds) {
                values.truncate(bucket.min(kind.num_fitting()));
            }
        }
        self.bins
    }

    /// Puts a sequence where it takes the least; the room that it takes costs what others would fill it with.
    fn place(&mut self, class: usize, values: &[Vec<Rc<KnapsackValues>>]) {
        let instance = self.instance;
        let kinds = self.duals.buckets.kinds.iter().zip(values).enumerate();
        let choices = kinds.filter_map(|(index, (kind, values))| {
            let values = values.last()?;
            let fits = instance.fits(kind.shape, class);
            fits.then(|| self.cheapest(index, class, values))
        });
        let choice = choices.min_by(|a, b| a.cost.total_cmp(&b.cost));
        let choice = choice.expect("every sequence fits some shape");
        let shape = self.duals.buckets.kinds[choice.kind].shape;
        let (room, position) = choice.bin.unwrap_or_else(|| {
            self.bins.push(Bin {
                shape,
                time: 0.0,
                load: Load::default(),
                content: Vec::new(),
            });
            let position = self.bins.len() as u32 - 1;
            (instance.measure(self.capacity(shape)), position)
        });
        self.by_room[choice.kind].remove(&(room, position));
        let bin = &mut self.bins[position as usize];
        bin.time += instance.time(shape, class);
        bin.load = bin.load + instance.load(shape, class);
        let room = self.room(position);
        if room.sequences > 0 {
            self.by_room[choice.kind].insert((instance.measure(room), position));
        }
        let bin = &mut self.bins[position as usize];
        match bin.content.last_mut() {
            Some((last, count)) if *last == class as u32 => *count += 1,
            _ => bin.content.push((class as u32, 1)),
        }
    }

    /// The time and memory that a group of `shape` may hold.
    fn capacity(&self, shape: usize) -> Load {
        let budget = self.instance.shapes[shape].best_budget;
        self.instance.capacity(shape, budget)
    }

    /// The time and memory that are left in a group.
    fn room(&self, position: u32) -> Load {
        let bin = &self.bins[position as usize];
        self.capacity(bin.shape) - bin.load
    }

    /// The cheapest group of a kind: a new one, or the one with the least or the most room.
    fn cheapest(&self, kind: usize, class: usize, values: &KnapsackValues) -> Choice {
        let GroupKind {
            shape, fixed_cost, ..
        } = &self.duals.buckets.kinds[kind];
        let instance = self.instance;
        let budget = instance.measure(self.capacity(*shape));
        let load = instance.load(*shape, class);
        let needed = instance.measure(load);
        let sequence_cost = instance.work(*shape, class) / instance.total_speed;
        let value = |room: u64| values.of_room(room as f64 / budget as f64);
        let mut best = Choice {
            cost: sequence_cost + fixed_cost - value(budget - needed),
            kind,
            bin: None,
        };
        let has_room = |&&(_, position): &&(u64, u32)| load.fits(self.room(position));
        let roomy = || self.by_room[kind].range((needed, 0)..);
        let tightest = roomy().find(has_room);
        let roomiest = roomy().rev().find(has_room);
        for &(room, position) in [tightest, roomiest].into_iter().flatten() {
            let cost = sequence_cost + value(room) - value(room - needed);
            if cost <= best.cost {
                best = Choice {
                    cost,
                    kind,
                    bin: Some((room, position)),
                };
            }
        }
        best
    }
}

/// For each kind of groups the knapsack values with the sequences of the first bucket, of the first two, and so on.
fn values(duals: &PatternPrices) -> Vec<Vec<Rc<KnapsackValues>>> {
    let of_kind = |kind| {
        let mut latest = Rc::new(KnapsackValues::of_nothing());
        let with_bucket = |bucket| {
            let mut values = KnapsackValues::clone(&latest);
            if values.add(kind, &duals.of_buckets, bucket) {
                latest = Rc::new(values);
            }
            Rc::clone(&latest)
        };
        (0..GroupKind::num_fitting(kind)).map(with_bucket).collect()
    };
    duals.buckets.kinds.iter().map(of_kind).collect()
}

/// Puts each group, the slowest first, into the first micro-batch that has devices left for it.
fn assemble(instance: &Instance<'_>, bins: &[Bin]) -> Draft {
    let mut draft = Draft::default();
    let mut waiting: VecDeque<u32> = VecDeque::new();
    for bin in bins {
        let strategy = instance.shapes[bin.shape].strategy;
        let opened = waiting
            .iter()
            .find_map(|&micro_batch| draft.open_group(instance, micro_batch, strategy, bin.load));
        let group = opened.or_else(|| {
            let micro_batch = draft.open_micro_batch(instance);
            waiting.push_back(micro_batch);
            if waiting.len() > MAX_WAITING {
                waiting.pop_front();
            }
            draft.open_group(instance, micro_batch, strategy, bin.load)
        });
        let group = group.expect("all devices together have room for any group");
        let micro_batch = draft.groups[group as usize].micro_batch;
        if draft.free[micro_batch as usize].num_free() == 0 {
            waiting.retain(|&waiting| waiting != micro_batch);
        }
        for &(class, count) in &bin.content {
            for _ in 0..count {
                draft.place(instance, class as usize, group);
            }
        }
    }
    draft
}
