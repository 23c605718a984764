//! Local search on a filled draft: groups swap sequences until no makespan shrinks.

use std::collections::BTreeSet;

use crate::completion;
use crate::draft::{Draft, Placed};
use crate::instance::Instance;
use crate::load::Load;

/// The number of groups of each micro-batch, the fastest ones, that are looked at as partners of a slowest group.
const NUM_PARTNERS: usize = 48;

/// The same where several sequences come back for one.
const NUM_PARTNERS_FOR_SEVERAL: usize = 16;

/// Swaps that shorten the slowest group of a micro-batch without prolonging any other micro-batch.
pub(crate) struct LocalSearch<'a, 'p> {
    instance: &'a Instance<'p>,
    draft: Draft,
    /// The classes that each group holds, increasing, and how many of each.
    contents: Vec<Vec<(u32, u32)>>,
    /// The groups of every micro-batch by time.
    by_time: Vec<BTreeSet<(u64, u32)>>,
}

/// A sequence that leaves the slowest group, and what comes back for it.
#[derive(Clone)]
struct Swap {
    /// The time of the slower of the two groups; less is better.
    slowest: f64,
    away: u32,
    back: Vec<(u32, u32)>,
    partner: u32,
}

/// The two groups of a swap and what they may take.
#[derive(Clone, Copy)]
struct Pair {
    source: u32,
    partner: u32,
    /// The source must end below this.
    limit: f64,
    /// The partner must not exceed this.
    cap: f64,
    /// Whether both are of one micro-batch.
    same: bool,
}

impl<'a, 'p> LocalSearch<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>, draft: Draft) -> Self {
        let mut contents: Vec<Vec<(u32, u32)>> = vec![Vec::new(); draft.groups.len()];
        // Mostly from the longest to the shortest, so that from the end on classes increase.
        for placed in draft.placed.iter().rev() {
            add(
                &mut contents[placed.group as usize],
                placed.class,
                placed.count,
            );
        }
        let mut by_time = vec![BTreeSet::new(); draft.free.len()];
        for (index, group) in (0u32..).zip(&draft.groups) {
            by_time[group.micro_batch as usize].insert((group.time.to_bits(), index));
        }
        LocalSearch {
            instance,
            draft,
            contents,
            by_time,
        }
    }

    /// Swaps until nothing helps or `num_swaps` are spent.
    pub(crate) fn run(mut self, num_swaps: usize) -> Draft {
        let mut left = num_swaps;
        let mut stuck = 0;
        let num = self.by_time.len();
        let mut micro_batch = 0;
        while left > 0 && stuck < num {
            left -= 1;
            if self.shorten(micro_batch) {
                stuck = 0;
            } else {
                stuck += 1;
                micro_batch = (micro_batch + 1) % num;
            }
        }
        self.draft.placed.clear();
        for (group, content) in (0u32..).zip(&self.contents) {
            for &(class, count) in content {
                self.draft.placed.push(Placed {
                    class,
                    group,
                    count,
                });
            }
        }
        self.draft
    }

    /// Makes the slowest group of a micro-batch faster, if that is possible.
    fn shorten(&mut self, micro_batch: usize) -> bool {
        for (num_partners, for_several) in [(NUM_PARTNERS, false), (NUM_PARTNERS_FOR_SEVERAL, true)]
        {
            if let Some(swap) = self.best_swap(micro_batch, num_partners, for_several) {
                let Some(&(_, source)) = self.by_time[micro_batch].last() else {
                    return false;
                };
                self.carry_out(source, &swap);
                return true;
            }
        }
        false
    }

    fn best_swap(
        &self,
        micro_batch: usize,
        num_partners: usize,
        for_several: bool,
    ) -> Option<Swap> {
        let &(slowest, source) = self.by_time[micro_batch].last()?;
        let limit = f64::from_bits(slowest) * (1.0 - 1e-7);
        // Once the two groups end before the second slowest, they can't make the micro-batch any faster.
        let second = self.by_time[micro_batch].iter().nth_back(1);
        let enough = second.map_or(0.0, |&(time, _)| f64::from_bits(time));
        let mut best: Option<Swap> = None;
        for (other, groups) in self.by_time.iter().enumerate() {
            let makespan = groups.last().map_or(0.0, |&(time, _)| f64::from_bits(time));
            let same = other == micro_batch;
            for &(_, partner) in groups.iter().take(num_partners) {
                if partner != source {
                    let pair = Pair {
                        source,
                        partner,
                        limit,
                        cap: if same { limit } else { makespan },
                        same,
                    };
                    if best.as_ref().is_some_and(|best| best.slowest <= enough) {
                        return best;
                    }
                    let least = self.least_slowest(pair);
                    if least >= limit || best.as_ref().is_some_and(|best| best.slowest <= least) {
                        continue;
                    }
                    if for_several {
                        self.swap_for_several(pair, &mut best);
                    } else {
                        self.swap_singles(pair, &mut best);
                    }
                }
            }
        }
        best
    }

    /// About the best that swaps of a pair can come to: what relieves the source burdens the partner, by the ratio
    /// that their shapes have for the shortest or the longest sequence.
    fn least_slowest(&self, pair: Pair) -> f64 {
        let instance = self.instance;
        let source = &self.draft.groups[pair.source as usize];
        let partner = &self.draft.groups[pair.partner as usize];
        let longest = instance.num_classes() - 1;
        let ratio =
            |class| source.added_time(instance, class) / partner.added_time(instance, class);
        let ratio = ratio(0).max(ratio(longest));
        if pair.same {
            let shared = (source.time + ratio * partner.time) / (1.0 + ratio);
            shared.max(partner.time)
        } else {
            source.time - ratio * (pair.cap - partner.time)
        }
    }

    /// One sequence for none or for one.
    fn swap_singles(&self, pair: Pair, best: &mut Option<Swap>) {
        let instance = self.instance;
        let source = &self.draft.groups[pair.source as usize];
        let partner = &self.draft.groups[pair.partner as usize];
        let source_room = source.room(instance);
        let partner_room = partner.room(instance);
        let keeps_some = self.may_empty() || source.load.sequences > 1;
        for &(away, _) in &self.contents[pair.source as usize] {
            let class = away as usize;
            let source_time = source.time - source.added_time(instance, class);
            let source_room = source_room + instance.load(source.shape as usize, class);
            let partner_time = partner.time + partner.added_time(instance, class);
            let needed = instance.load(partner.shape as usize, class);
            if keeps_some && needed.fits(partner_room) {
                pair.consider(source_time, partner_time, away, &[], best);
            }
            // Longer ones in return relieve the partner and burden the source, in time and memory alike. So those that
            // both can bear lie in a row, and the best of them is next to where the two would end together.
            let held = &self.contents[pair.partner as usize];
            let times = |back: u32| {
                let class = back as usize;
                (
                    source_time + source.added_time(instance, class),
                    partner_time - partner.added_time(instance, class),
                )
            };
            let bearable = |&(back, _): &(u32, u32)| {
                let given = partner_room + instance.load(partner.shape as usize, back as usize);
                needed.fits(given) && times(back).1 <= pair.cap
            };
            let first = held.partition_point(|entry| !bearable(entry));
            let candidates = if pair.same {
                let later = held[first..].partition_point(|&(back, _)| {
                    let (source_time, partner_time) = times(back);
                    source_time < partner_time
                });
                let meeting = first + later;
                meeting.saturating_sub(1).max(first)..(meeting + 1).min(held.len())
            } else {
                first..(first + 1).min(held.len())
            };
            for &(back, _) in &held[candidates] {
                let returned = instance.load(source.shape as usize, back as usize);
                if returned.fits(source_room) && back != away {
                    let (source_time, partner_time) = times(back);
                    pair.consider(source_time, partner_time, away, &[(back, 1)], best);
                }
            }
        }
    }

    /// One sequence for so many shorter ones as make room for it. Where memory is full, this is what evens out
    /// times: short sequences take less time for the same memory.
    fn swap_for_several(&self, pair: Pair, best: &mut Option<Swap>) {
        let instance = self.instance;
        let source = &self.draft.groups[pair.source as usize];
        let partner = &self.draft.groups[pair.partner as usize];
        let partner_room = partner.room(instance);
        let keeps_some = self.may_empty() || source.load.sequences > 1;
        let held = &self.contents[pair.partner as usize];
        let mut back = Vec::with_capacity(held.len());
        for &(away, _) in &self.contents[pair.source as usize] {
            let class = away as usize;
            let needed = instance.load(partner.shape as usize, class);
            let shorter = &held[..held.partition_point(|&(held, _)| held < away)];
            for longest_first in [false, true] {
                let mut source_time = source.time - source.added_time(instance, class);
                let mut partner_time = partner.time + partner.added_time(instance, class);
                let mut source_room =
                    source.room(instance) + instance.load(source.shape as usize, class);
                let mut room = partner_room;
                back.clear();
                for index in 0..shorter.len() {
                    let index = if longest_first {
                        shorter.len() - 1 - index
                    } else {
                        index
                    };
                    let (class, count) = (shorter[index].0 as usize, shorter[index].1);
                    let given = instance.load(partner.shape as usize, class);
                    let returned = instance.load(source.shape as usize, class);
                    let lacking = (needed - room).in_units_of(given);
                    let taken = count.min(lacking).min(source_room.whole(returned));
                    if taken > 0 {
                        room = room + given.times(taken);
                        source_room = source_room - returned.times(taken);
                        source_time += source.added_time(instance, class) * f64::from(taken);
                        partner_time -= partner.added_time(instance, class) * f64::from(taken);
                        back.push((class as u32, taken));
                    }
                    if needed.fits(room) || source_time >= pair.limit {
                        break;
                    }
                }
                if needed.fits(room) && (!back.is_empty() || keeps_some) {
                    pair.consider(source_time, partner_time, away, &back, best);
                }
            }
        }
    }

    /// Whether a group may give away its last sequence: its ranks would idle then, or a micro-batch go.
    fn may_empty(&self) -> bool {
        !completion::is_needed(self.instance)
    }

    fn carry_out(&mut self, source: u32, swap: &Swap) {
        for group in [source, swap.partner] {
            let entry = &self.draft.groups[group as usize];
            self.by_time[entry.micro_batch as usize].remove(&(entry.time.to_bits(), group));
        }
        self.transfer(swap.away, 1, source, swap.partner);
        for &(back, count) in &swap.back {
            self.transfer(back, count, swap.partner, source);
        }
        for group in [source, swap.partner] {
            // Sums anew, so that errors of many swaps do not add up.
            let content = self.contents[group as usize].iter();
            let entry = &mut self.draft.groups[group as usize];
            let (mut time, mut load) = (0.0, Load::default());
            for &(class, count) in content {
                time += entry.added_time(self.instance, class as usize) * f64::from(count);
                let added = self.instance.load(entry.shape as usize, class as usize);
                load = load + added.times(count);
            }
            (entry.time, entry.load) = (time, load);
            self.by_time[entry.micro_batch as usize].insert((time.to_bits(), group));
        }
    }

    fn transfer(&mut self, class: u32, count: u32, from: u32, to: u32) {
        let content = &mut self.contents[from as usize];
        if let Ok(position) = content.binary_search_by_key(&class, |&(held, _)| held) {
            content[position].1 -= count;
            if content[position].1 == 0 {
                content.remove(position);
            }
        }
        add(&mut self.contents[to as usize], class, count);
    }
}

impl Pair {
    fn consider(
        self,
        source_time: f64,
        partner_time: f64,
        away: u32,
        back: &[(u32, u32)],
        best: &mut Option<Swap>,
    ) {
        if source_time >= self.limit || partner_time > self.cap {
            return;
        }
        let slowest = if self.same {
            source_time.max(partner_time)
        } else {
            source_time
        };
        if best.as_ref().is_none_or(|best| slowest < best.slowest) {
            *best = Some(Swap {
                slowest,
                away,
                back: back.to_vec(),
                partner: self.partner,
            });
        }
    }
}

fn add(content: &mut Vec<(u32, u32)>, class: u32, count: u32) {
    match content.binary_search_by_key(&class, |&(held, _)| held) {
        Ok(position) => content[position].1 += count,
        Err(position) => content.insert(position, (class, count)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use lengthwise_core::{
        Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
        StrategySpace,
    };
    use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};

    use super::*;
    use crate::adaptive::random::Random;
    use crate::common::few::few_sequences;
    use crate::common::{Case, Size, cases, sample};

    /// All sequences in groups at random, in as many micro-batches as it takes.
    pub(crate) fn random_draft(instance: &Instance<'_>, random: &mut Random) -> Draft {
        let mut draft = Draft::default();
        for class in (0..instance.num_classes()).rev() {
            for _ in instance.members(class) {
                let roomy = (0..draft.groups.len())
                    .filter(|&group| draft.groups[group].has_room(instance, class));
                let roomy: Vec<usize> = roomy.collect();
                let opened = (random.next() < 0.5 || roomy.is_empty())
                    .then(|| open(instance, &mut draft, class, random));
                let group = opened.flatten().or_else(|| {
                    (!roomy.is_empty()).then(|| roomy[random.below(roomy.len())] as u32)
                });
                let group = group.unwrap_or_else(|| {
                    draft.open_micro_batch(instance);
                    open(instance, &mut draft, class, random).expect("each fits some group")
                });
                draft.place(instance, class, group);
            }
        }
        draft
    }

    /// A group for a sequence of `class` in the last micro-batch.
    fn open(
        instance: &Instance<'_>,
        draft: &mut Draft,
        class: usize,
        random: &mut Random,
    ) -> Option<u32> {
        let last = draft.free.len().checked_sub(1)? as u32;
        let fitting = (0..instance.shapes.len()).filter(|&shape| instance.fits(shape, class));
        let mut fitting: Vec<usize> = fitting.collect();
        while !fitting.is_empty() {
            let shape = fitting.swap_remove(random.below(fitting.len()));
            let strategy = instance.shapes[shape].strategy;
            let load = instance.load(shape, class);
            if let Some(group) = draft.open_group(instance, last, strategy, load) {
                return Some(group);
            }
        }
        None
    }

    fn problems(seed: u8, num: usize) -> impl Iterator<Item = Case> {
        let size = Size {
            num_nodes: 2,
            devices_per_node: 4,
            num_sequences: 14,
            seq_len: 60_000,
        };
        sample(cases(size), seed, num).chain(sample(few_sequences(3..=30), seed, num / 2))
    }

    /// Checks that a draft holds the batch, and that its figures are those of its sequences.
    fn assert_adds_up(draft: &Draft, instance: &Instance<'_>) {
        let mut counts = vec![0; instance.num_classes()];
        let mut times = vec![0.0; draft.groups.len()];
        let mut loads = vec![Load::default(); draft.groups.len()];
        for placed in &draft.placed {
            let (class, group) = (placed.class as usize, placed.group as usize);
            counts[class] += placed.count as usize;
            let to = &draft.groups[group];
            times[group] += to.added_time(instance, class) * f64::from(placed.count);
            let load = instance.load(to.shape as usize, class);
            loads[group] = loads[group] + load.times(placed.count);
        }
        for (class, count) in counts.into_iter().enumerate() {
            assert_eq!(count, instance.members(class).len());
        }
        for ((group, time), load) in draft.groups.iter().zip(times).zip(loads) {
            assert!((group.time - time).abs() <= 1e-9 * time);
            assert_eq!(group.load, load);
            let capacity = instance.capacity(group.shape as usize, group.allocation.budget);
            assert!(load.fits(capacity));
        }
    }

    #[test]
    fn swaps_keep_the_batch_and_each_makes_some_micro_batch_faster_and_none_slower() {
        let mut num_faster = 0;
        for (index, case) in problems(120, 200).enumerate() {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let mut draft = random_draft(&instance, &mut Random::new(index));
            for _ in 0..30 {
                let before = draft.makespans();
                draft = LocalSearch::new(&instance, draft).run(1);
                assert_adds_up(&draft, &instance);
                let after = draft.makespans();
                for (after, before) in after.iter().zip(&before) {
                    assert!(*after <= before * (1.0 + 1e-9), "{after} after {before}");
                }
                num_faster += usize::from(after.iter().sum::<f64>() < before.iter().sum::<f64>());
            }
        }
        assert!(num_faster > 300, "{num_faster}");
    }

    /// Whether a swap of a sequence of the slowest group of a micro-batch for one, or none, of any group would make the
    /// micro-batch faster and no other slower than it is.
    fn some_single_swap_helps(search: &LocalSearch<'_, '_>, micro_batch: usize) -> bool {
        let (instance, groups) = (search.instance, &search.draft.groups);
        let Some(&(_, source)) = search.by_time[micro_batch].last() else {
            return false;
        };
        let from = &groups[source as usize];
        let makespans = search.draft.makespans();
        let with = |group: &crate::draft::DraftGroup, added: Option<u32>, taken: Option<u32>| {
            let time = |class: u32| group.added_time(instance, class as usize);
            let load = |class: u32| instance.load(group.shape as usize, class as usize);
            let room = group.room(instance) + taken.map_or(Load::default(), load);
            let fits = added.map_or(Load::default(), load).fits(room);
            let time = group.time + added.map_or(0.0, time) - taken.map_or(0.0, time);
            fits.then_some(time)
        };
        (0u32..).zip(groups).any(|(partner, to)| {
            let back = search.contents[partner as usize]
                .iter()
                .map(|&(class, _)| Some(class));
            let back: Vec<Option<u32>> = back.chain([None]).collect();
            partner != source
                && search.contents[source as usize].iter().any(|&(away, _)| {
                    back.iter().any(|&back| {
                        let (Some(from_time), Some(to_time)) =
                            (with(from, back, Some(away)), with(to, Some(away), back))
                        else {
                            return false;
                        };
                        let limit = makespans[micro_batch] * (1.0 - 1e-6);
                        let cap = if to.micro_batch as usize == micro_batch {
                            limit
                        } else {
                            makespans[to.micro_batch as usize] * (1.0 - 1e-9)
                        };
                        from_time < limit && to_time <= cap
                    })
                })
        })
    }

    #[test]
    fn where_the_search_ends_no_single_swap_helps_any_micro_batch() {
        let (mut num, mut num_several) = (0, 0);
        for (index, case) in problems(121, 300).enumerate() {
            // Times in proportion to tokens, for which the limits of what pairs can come to are exact.
            let mut costs = case.cost.costs().clone();
            for kind in costs.kinds.values_mut() {
                kind.quadratic_s_per_token2 = 0.0;
            }
            let cost = FittedModel::new(costs).unwrap();
            let case = Case { cost, ..case };
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let draft = random_draft(&instance, &mut Random::new(index));
            let done = LocalSearch::new(&instance, draft).run(2000);
            let search = LocalSearch::new(&instance, done);
            num += 1;
            num_several += usize::from(search.by_time.len() > 1);
            for micro_batch in 0..search.by_time.len() {
                assert!(!some_single_swap_helps(&search, micro_batch), "{case:?}");
            }
        }
        assert!(num > 200 && num_several > 50, "{num}, {num_several}");
    }

    #[test]
    fn a_pair_comes_to_no_less_than_its_limit() {
        for (index, case) in problems(122, 100).enumerate() {
            let mut costs = case.cost.costs().clone();
            for kind in costs.kinds.values_mut() {
                kind.quadratic_s_per_token2 = 0.0;
            }
            let cost = FittedModel::new(costs).unwrap();
            let case = Case { cost, ..case };
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let draft = random_draft(&instance, &mut Random::new(index));
            let search = LocalSearch::new(&instance, draft);
            let makespans = search.draft.makespans();
            for (source, from) in (0u32..).zip(&search.draft.groups) {
                for (partner, to) in (0u32..).zip(&search.draft.groups) {
                    let same = from.micro_batch == to.micro_batch;
                    let limit = makespans[from.micro_batch as usize];
                    let cap = if same {
                        limit
                    } else {
                        makespans[to.micro_batch as usize]
                    };
                    let pair = Pair {
                        source,
                        partner,
                        limit,
                        cap,
                        same,
                    };
                    let least = search.least_slowest(pair);
                    // Any time can go from one to the other: at the same rate, whatever the sequences.
                    let rate = from.added_time(&instance, 0) / to.added_time(&instance, 0);
                    for part in 0..=10 {
                        let moved = from.time * f64::from(part) / 10.0;
                        let (from_time, to_time) = (from.time - moved, to.time + moved / rate);
                        if to_time <= cap {
                            let slowest = if same {
                                from_time.max(to_time)
                            } else {
                                from_time
                            };
                            assert!(
                                slowest >= least - 1e-9 * limit,
                                "{slowest} is below {least}"
                            );
                        }
                    }
                    if same && to.time <= from.time {
                        assert!(least >= to.time && least <= from.time * (1.0 + 1e-9));
                    }
                }
            }
        }
    }

    #[test]
    fn no_group_is_emptied_where_no_rank_may_idle() {
        let rules = PlanRules {
            no_idle_ranks: true,
            ..PlanRules::default()
        };
        let mut num_emptied = [0, 0];
        for (index, case) in problems(123, 200).enumerate() {
            for (which, rules) in [rules, PlanRules::default()].into_iter().enumerate() {
                let case = Case {
                    rules,
                    ..case.clone()
                };
                let Ok(instance) = Instance::new(case.problem()) else {
                    continue;
                };
                let mut random = Random::new(index);
                let mut draft = random_draft(&instance, &mut random);
                // Groups that hold nothing yet take a sequence and give none back.
                while open(&instance, &mut draft, 0, &mut random).is_some() {}
                let before = draft.groups.clone();
                let done = LocalSearch::new(&instance, draft).run(100);
                for (group, before) in done.groups.iter().zip(before) {
                    let is_emptied = before.load.sequences > 0 && group.load.sequences == 0;
                    num_emptied[which] += usize::from(is_emptied);
                }
            }
        }
        assert_eq!(num_emptied[0], 0);
        assert_ne!(num_emptied[1], 0);
    }

    /// Lengths on one node of four devices that hold 100 tokens each; time grows with the square of the length, in
    /// microseconds.
    fn on_four_devices(lens: &[u64], rules: PlanRules) -> Case {
        let degrees = [1, 2, 4].map(|degree| Degree::new(degree).unwrap());
        let kind = StrategyKind::ulysses(Activations::Recompute);
        let costs = KindCosts {
            quadratic_s_per_token2: 1e-6,
            memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
            ..KindCosts::default()
        };
        let device = Device::new(Bytes(100), Speed::NOMINAL);
        Case {
            batch: GlobalBatch::from_lens(lens.to_vec()).unwrap(),
            cluster: Cluster::uniform(1, 4, device).unwrap(),
            cost: FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap(),
            space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
            rules,
        }
    }

    /// The microseconds of a group of one device that holds `first` and one of two that holds `second`, at first and after
    /// the search.
    fn searched(first: &[u64], second: &[u64], rules: PlanRules) -> [Vec<u64>; 2] {
        let case = on_four_devices(&[first, second].concat(), rules);
        let instance = Instance::new(case.problem()).unwrap();
        let mut draft = Draft::default();
        draft.open_micro_batch(&instance);
        for (lens, &strategy) in [first, second].into_iter().zip(case.space.strategies()) {
            let load = Load {
                memory: 100,
                ..Load::default()
            };
            let group = draft.open_group(&instance, 0, strategy, load).unwrap();
            for &len in lens {
                let class = instance.class_lens.iter().position(|of| of.0 == len);
                draft.place(&instance, class.unwrap(), group);
            }
        }
        let times = |draft: &Draft| {
            let times = draft
                .groups
                .iter()
                .map(|group| (group.time * 1e6).round() as u64);
            times.collect()
        };
        let before = times(&draft);
        [before, times(&LocalSearch::new(&instance, draft).run(100))]
    }

    #[test]
    fn the_last_sequence_of_a_group_leaves_it_only_where_ranks_may_idle() {
        let busy = PlanRules {
            no_idle_ranks: true,
            ..PlanRules::default()
        };
        for (rules, after) in [(PlanRules::default(), [0, 200]), (busy, [400, 0])] {
            assert_eq!(searched(&[20], &[], rules), [vec![400, 0], after.to_vec()]);
            // One of two may leave in any case.
            let times = searched(&[20, 20], &[], rules);
            assert_eq!(times, [vec![800, 0], vec![400, 200]]);
        }
    }

    #[test]
    fn where_memory_is_full_several_short_sequences_come_back_for_a_long_one() {
        let times = searched(&[80, 20], &[20; 10], PlanRules::default());
        assert_eq!(times, [vec![6800, 2000], vec![2000, 4400]]);
        // Of different lengths, those that take least time for the memory.
        let times = searched(
            &[80, 20],
            &[40, 40, 20, 20, 20, 20, 10, 10, 10, 10],
            PlanRules::default(),
        );
        assert_eq!(times[0], [6800, 2600]);
        assert!(times[1].iter().max() <= Some(&4800), "{times:?}");
    }
}
