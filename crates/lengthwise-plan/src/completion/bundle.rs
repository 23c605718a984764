//! Sequences that share a group, whatever its shape.

use crate::instance::Instance;
use crate::load::Load;

/// Sequences that share a group.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    /// The classes it holds, increasing, and how many of each.
    pub(super) content: Vec<(u32, u32)>,
    /// The shape that its group has, as long as it holds what it did then.
    pub(super) shape: Option<usize>,
    /// Seconds at nominal speed and loads, by shape.
    figures: Vec<(f64, Load)>,
}

/// A shape that a bundle may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) degree: u32,
    pub(super) shape: usize,
    pub(super) time: f64,
}

impl Bundle {
    pub(super) fn empty(instance: &Instance<'_>) -> Self {
        Bundle {
            content: Vec::new(),
            shape: None,
            figures: vec![(0.0, Load::default()); instance.shapes.len()],
        }
    }

    /// One that holds this.
    pub(super) fn of(instance: &Instance<'_>, content: &[(u32, u32)]) -> Self {
        let mut bundle = Bundle::empty(instance);
        for &(class, count) in content {
            bundle.add(instance, class, count);
        }
        bundle
    }

    pub(super) fn num_sequences(&self) -> u32 {
        self.content.iter().map(|&(_, count)| count).sum()
    }

    pub(super) fn add(&mut self, instance: &Instance<'_>, class: u32, count: u32) {
        self.shape = None;
        match self.content.binary_search_by_key(&class, |&(held, _)| held) {
            Ok(position) => self.content[position].1 += count,
            Err(position) => self.content.insert(position, (class, count)),
        }
        for (shape, (time, load)) in self.figures.iter_mut().enumerate() {
            *time += instance.time(shape, class as usize) * f64::from(count);
            *load = *load + instance.load(shape, class as usize).times(count);
        }
    }

    /// Takes a sequence of a class out that it holds.
    pub(super) fn remove(&mut self, instance: &Instance<'_>, class: u32) {
        let mut content = std::mem::take(&mut self.content);
        for (held, count) in &mut content {
            *count -= u32::from(*held == class);
        }
        content.retain(|&(_, count)| count > 0);
        // Sums anew, so that errors of many changes do not add up.
        *self = Bundle::of(instance, &content);
    }

    /// Takes a shortest sequence out; `None` where there is none.
    pub(super) fn take_shortest(&mut self, instance: &Instance<'_>) -> Option<u32> {
        let &(class, _) = self.content.first()?;
        self.remove(instance, class);
        Some(class)
    }

    /// Whether a group of `shape` may hold it.
    pub(super) fn fits(&self, instance: &Instance<'_>, shape: usize) -> bool {
        instance.has_room(shape, self.figures[shape].1)
    }

    /// Its load on a group of `shape`.
    pub(super) fn load(&self, shape: usize) -> Load {
        self.figures[shape].1
    }

    pub(super) fn time(&self, shape: usize) -> f64 {
        self.figures[shape].0
    }

    /// A shape with what it takes there.
    pub(super) fn choice(&self, instance: &Instance<'_>, shape: usize) -> Choice {
        Choice {
            degree: instance.shapes[shape].degree,
            shape,
            time: self.time(shape),
        }
    }

    /// The fastest shape of each degree that may hold it, by increasing degree; inside one node where there is a choice.
    pub(super) fn choices(&self, instance: &Instance<'_>) -> Vec<Choice> {
        let mut choices: Vec<Choice> = Vec::with_capacity(instance.shapes.len());
        let mut strategy_before = None;
        for (shape, figures) in instance.shapes.iter().enumerate() {
            // The shapes of a strategy follow each other, that of one node first.
            if strategy_before == Some(figures.strategy) || !self.fits(instance, shape) {
                continue;
            }
            strategy_before = Some(figures.strategy);
            let choice = self.choice(instance, shape);
            match choices
                .last_mut()
                .filter(|last| last.degree == choice.degree)
            {
                Some(last) if choice.time < last.time => *last = choice,
                Some(_) => {}
                None => choices.push(choice),
            }
        }
        choices
    }

    /// Two bundles that take about as long as each other; `None` for a single sequence.
    pub(super) fn halves(&self, instance: &Instance<'_>) -> Option<[Bundle; 2]> {
        if self.num_sequences() < 2 {
            return None;
        }
        let mut halves = [Bundle::empty(instance), Bundle::empty(instance)];
        for &(class, count) in self.content.iter().rev() {
            for _ in 0..count {
                let first_is_shorter = halves[0].time(0) <= halves[1].time(0);
                // Where sequences take no time, numbers are evened out.
                let shorter = if halves[0].time(0) == halves[1].time(0) {
                    usize::from(halves[0].num_sequences() > halves[1].num_sequences())
                } else {
                    usize::from(!first_is_shorter)
                };
                halves[shorter].add(instance, class, 1);
            }
        }
        Some(halves)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::adaptive::Random;
    use crate::common::{Case, Size, cases, cases_with_rules, sample};

    pub(in crate::completion) const SIZE: Size = Size {
        num_nodes: 2,
        devices_per_node: 4,
        num_sequences: 12,
        seq_len: 60_000,
    };

    fn problems(seed: u8) -> impl Iterator<Item = Case> {
        sample(cases(SIZE), seed, 100).chain(sample(cases_with_rules(SIZE), seed, 200))
    }

    fn random_bundle(instance: &Instance<'_>, random: &mut Random) -> Bundle {
        let mut bundle = Bundle::empty(instance);
        for _ in 0..random.below(6) {
            let class = random.below(instance.num_classes()) as u32;
            bundle.add(instance, class, random.below(3) as u32 + 1);
        }
        bundle
    }

    /// Checks a bundle's figures against those of so many sequences of each class.
    fn assert_holds(bundle: &Bundle, instance: &Instance<'_>, counts: &[u32]) {
        let content: Vec<(u32, u32)> = (0u32..)
            .zip(counts.iter().copied())
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!(bundle.content, content);
        assert_eq!(bundle.num_sequences(), counts.iter().sum::<u32>());
        for (shape, figures) in instance.shapes.iter().enumerate() {
            let mut load = Load::default();
            let mut time = 0.0;
            for (class, &count) in counts.iter().enumerate() {
                for _ in 0..count {
                    load = load + instance.load(shape, class);
                    time += instance.time(shape, class);
                }
            }
            assert!((bundle.time(shape) - time).abs() <= 1e-9 * time);
            assert_eq!(bundle.load(shape), load);
            let rules = &instance.problem.rules;
            let fits = figures.best_budget.holds(load)
                && load.tokens <= figures.most_tokens
                && load.sequences <= rules.most_sequences();
            assert_eq!(bundle.fits(instance, shape), fits);
            let choice = bundle.choice(instance, shape);
            assert_eq!((choice.shape, choice.degree), (shape, figures.degree));
            assert_eq!(choice.time, bundle.time(shape));
        }
    }

    #[test]
    fn figures_are_the_sums_of_what_is_held() {
        for (index, case) in problems(90).enumerate() {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let mut random = Random::new(index);
            let mut bundle = Bundle::empty(&instance);
            let mut counts = vec![0; instance.num_classes()];
            for _ in 0..12 {
                let class = random.below(instance.num_classes());
                if random.next() < 0.6 {
                    let count = random.below(3) as u32 + 1;
                    bundle.shape = Some(0);
                    bundle.add(&instance, class as u32, count);
                    counts[class] += count;
                    assert_eq!(bundle.shape, None, "it holds something else now");
                } else if counts[class] > 0 {
                    bundle.remove(&instance, class as u32);
                    counts[class] -= 1;
                } else {
                    let shortest = counts.iter().position(|&count| count > 0);
                    let taken = bundle.take_shortest(&instance);
                    assert_eq!(taken, shortest.map(|class| class as u32));
                    if let Some(shortest) = shortest {
                        counts[shortest] -= 1;
                    }
                }
                assert_holds(&bundle, &instance, &counts);
            }
            let again = Bundle::of(&instance, &bundle.content);
            assert_holds(&again, &instance, &counts);
        }
    }

    #[test]
    fn of_each_degree_the_fastest_strategy_that_fits_is_a_choice_inside_one_node_if_it_can_be() {
        for (index, case) in problems(91).enumerate() {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let bundle = random_bundle(&instance, &mut Random::new(index));
            let choices = bundle.choices(&instance);
            assert!(choices.is_sorted_by(|a, b| a.degree < b.degree));
            let strategies = instance.problem.space.strategies();
            let num_devices = instance.problem.cluster.num_devices();
            for degree in 1..=num_devices {
                let of_degree = strategies.iter().filter(|one| one.degree().get() == degree);
                let shapes = of_degree.filter_map(|&strategy| {
                    (0..instance.shapes.len()).find(|&shape| {
                        instance.shapes[shape].strategy == strategy && bundle.fits(&instance, shape)
                    })
                });
                let fastest = shapes.min_by(|&a, &b| bundle.time(a).total_cmp(&bundle.time(b)));
                let choice = choices.iter().find(|choice| choice.degree == degree);
                assert_eq!(choice.map(|choice| choice.shape), fastest);
                if let (Some(choice), Some(fastest)) = (choice, fastest) {
                    assert_eq!(choice.time, bundle.time(fastest));
                }
            }
        }
    }

    #[test]
    fn halves_hold_all_between_them_and_differ_by_a_sequence_at_most() {
        for (index, case) in problems(92).enumerate() {
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            let bundle = random_bundle(&instance, &mut Random::new(index));
            let Some(halves) = bundle.halves(&instance) else {
                assert!(bundle.num_sequences() < 2);
                continue;
            };
            assert!(bundle.num_sequences() >= 2);
            let mut both = halves[0].clone();
            for &(class, count) in &halves[1].content {
                both.add(&instance, class, count);
            }
            assert_eq!(both.content, bundle.content);
            let [first, second] = [0, 1].map(|half: usize| halves[half].time(0));
            let longest = bundle.content.last().map_or(0, |&(class, _)| class);
            let longest = instance.time(0, longest as usize);
            assert!((first - second).abs() <= longest * (1.0 + 1e-9));
            assert!(halves.iter().all(|half| half.num_sequences() > 0));
        }
    }

    #[test]
    fn halves_of_what_takes_no_time_have_as_many_sequences() {
        for case in sample(cases(SIZE), 93, 20) {
            let case = Case {
                cost: lengthwise_cost::FittedModel::new(lengthwise_cost::FittedCosts::of_kind(
                    lengthwise_core::StrategyKind::ulysses(lengthwise_core::Activations::Recompute),
                    lengthwise_cost::KindCosts::default(),
                ))
                .unwrap(),
                ..case
            };
            let Ok(instance) = Instance::new(case.problem()) else {
                continue;
            };
            for num in 2..8 {
                let halves = Bundle::of(&instance, &[(0, num)])
                    .halves(&instance)
                    .unwrap();
                let [first, second] = halves.map(|half| half.num_sequences());
                assert_eq!(first + second, num);
                assert!(first.abs_diff(second) <= 1);
            }
        }
    }
}
