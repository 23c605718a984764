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
        let budget = instance.shapes[shape].best_budget;
        self.figures[shape].1.fits(instance.capacity(shape, budget))
    }

    /// Bytes on each device.
    pub(super) fn memory(&self, shape: usize) -> u64 {
        self.figures[shape].1.memory
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
