//! The search for makespans to fill up to.

use super::fill::Filler;
use super::polish::Polish;
use crate::bound::least_micro_batches;
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::homogeneous::pack;
use crate::instance::Instance;

/// How much more than the least device-seconds a sequence may cost to be together with longer ones.
const TOLERANCES: [f64; 4] = [1.0, 1.15, 1.6, f64::INFINITY];

/// Drafts that take at most this much longer than the best one are polished.
const PROMISING: f64 = 1.005;

/// First makespans that hope for a step this much longer than the best one are not tried.
const HOPELESS: f64 = 1.03;

/// Trades to polish a draft with.
const NUM_TRADES: usize = 60;

/// Halvings of the range in which the least level is looked for.
const NUM_BISECTIONS: usize = 6;

/// Degrees times sequences up to which drafts with a single degree are tried.
const MAX_SINGLE_DEGREES: usize = 1 << 12;

/// Tries makespans, each set of them by filling a draft, and keeps the best.
pub(crate) struct Search<'a, 'p> {
    instance: &'a Instance<'p>,
    filler: Filler<'a, 'p>,
    /// Where the climbs stand: the best draft as it was filled, and the best as it was polished. Polishing may
    /// reach makespans that filling can't, so that each finds what the other misses.
    filled: Option<Base>,
    polished: Option<Base>,
    /// The best draft of all, polished, and its time.
    best: Option<(f64, Draft)>,
    fills_left: usize,
    deadline: Deadline,
    out_of_time: bool,
}

/// Makespans and what came of them.
#[derive(Clone)]
struct Base {
    time: f64,
    targets: Vec<f64>,
    tolerance: f64,
}

/// Which base a climb follows.
#[derive(Clone, Copy)]
enum Climb {
    Filled,
    Polished,
}

impl Base {
    fn new(draft: &Draft, instance: &Instance<'_>, tolerance: f64) -> Self {
        let mut targets = draft.makespans();
        targets.retain(|&makespan| makespan > 0.0);
        targets.sort_by(|a, b| b.total_cmp(a));
        Base {
            time: draft.step_time(instance),
            targets,
            tolerance,
        }
    }

    /// Takes the place of a base that takes longer.
    fn improve(self, base: &mut Option<Base>) -> bool {
        let improves = base
            .as_ref()
            .is_none_or(|base| self.time < base.time * (1.0 - 1e-9));
        if improves {
            *base = Some(self);
        }
        improves
    }
}

impl<'a, 'p> Search<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>, deadline: Deadline) -> Self {
        Search {
            instance,
            filler: Filler::new(instance),
            filled: None,
            polished: None,
            best: None,
            fills_left: 0,
            deadline,
            out_of_time: false,
        }
    }

    /// The best draft of about `num_fills`, and whether time ran out before.
    pub(crate) fn run(mut self, num_fills: usize) -> (Draft, bool) {
        self.try_single_degrees();
        self.fills_left = num_fills / 2;
        self.try_least_levels();
        for (estimate, targets) in self.starts() {
            if self
                .best
                .as_ref()
                .is_some_and(|&(time, _)| estimate > HOPELESS * time)
            {
                break;
            }
            for tolerance in TOLERANCES {
                let absorber = targets.len() - 1;
                self.try_targets(&targets, absorber, tolerance);
            }
        }
        for climb in [Climb::Filled, Climb::Polished] {
            self.refill(num_fills / 4);
            self.climb(climb);
        }
        self.fills_left = 0;
        self.refill(num_fills / 4);
        self.shake();
        match self.best {
            Some((_, draft)) => (draft, self.out_of_time),
            None => (self.filler.fill(&[], 0, 1.0).0, self.out_of_time),
        }
    }

    fn refill(&mut self, num_fills: usize) {
        if !self.out_of_time {
            self.fills_left += num_fills;
        }
    }

    fn base(&self, climb: Climb) -> Option<&Base> {
        match climb {
            Climb::Filled => self.filled.as_ref(),
            Climb::Polished => self.polished.as_ref(),
        }
    }

    /// Drafts with one degree for all, as long as there are few: on small clusters they are hard to beat, and by no
    /// makespans to be found.
    fn try_single_degrees(&mut self) {
        let strategies = self.instance.problem.space.strategies();
        if strategies.len() * self.instance.num_sequences() > MAX_SINGLE_DEGREES {
            return;
        }
        for &strategy in strategies {
            if let Some(draft) = pack(self.instance, strategy) {
                let draft = Polish::new(self.instance, draft).run(NUM_TRADES);
                let base = Base::new(&draft, self.instance, 1.0);
                if self.best.as_ref().is_none_or(|&(time, _)| base.time < time) {
                    self.best = Some((base.time, draft));
                }
                base.improve(&mut self.polished);
            }
        }
    }

    /// The longest sequence decides the makespan of its micro-batch; the others are as short as holds the batch.
    ///
    /// Where memory is scarce, what holds it is far more than its device-seconds ask for, and one micro-batch more
    /// costs a whole overhead.
    fn try_least_levels(&mut self) {
        let instance = self.instance;
        let longest = instance.num_classes() - 1;
        let num = least_micro_batches(instance) as usize;
        let fitting = (0..instance.shapes.len()).filter(|&shape| instance.fits(shape, longest));
        let fastest = fitting.map(|shape| instance.time(shape, longest));
        let first = fastest.fold(f64::INFINITY, f64::min) * (1.0 + 1e-9);
        if num < 2 || !first.is_finite() || self.deadline.has_passed() {
            return;
        }
        let targets = |level: f64| {
            let mut targets = vec![level; num];
            targets[0] = first.max(level);
            targets
        };
        let total = instance.least_work() / instance.total_speed;
        let (mut low, mut high) = ((total - first).max(0.0) / num as f64, total);
        for _ in 0..NUM_BISECTIONS {
            let level = 0.5 * (low + high);
            let (draft, _) = self.filler.fill(&targets(level), num, 1.0);
            self.fills_left = self.fills_left.saturating_sub(1);
            if draft.free.len() > num {
                low = level;
            } else {
                high = level;
            }
        }
        for tolerance in [1.0, 1.15] {
            self.try_targets(&targets(high), num, tolerance);
        }
    }

    /// First makespans, with the step time they hope for, best first: the longest sequence decides that of its
    /// micro-batch, the others share the rest.
    fn starts(&self) -> Vec<(f64, Vec<f64>)> {
        let instance = self.instance;
        let longest = instance.num_classes() - 1;
        let total = instance.least_work() / instance.total_speed;
        let least = least_micro_batches(instance) as usize;
        let mut starts: Vec<(f64, Vec<f64>)> = Vec::new();
        for num in least..least + 3 {
            for shape in (0..instance.shapes.len()).filter(|&shape| instance.fits(shape, longest)) {
                let first = instance.time(shape, longest) * (1.0 + 1e-9);
                for slack in [1.02, 1.1] {
                    let first = first.max(total * slack / num as f64);
                    let rest = (total * slack - first).max(0.05 * total);
                    let mut push = |targets: Vec<f64>| {
                        let sum = if num == 1 { first } else { first + rest };
                        starts.push((sum + instance.overhead * num as f64, targets));
                    };
                    if num > 1 {
                        let mut level = vec![rest / (num - 1) as f64; num];
                        level[0] = first;
                        push(level);
                    }
                    if num > 2 {
                        push(ladder(first, rest, num));
                    }
                    push(vec![first; num]);
                }
            }
        }
        starts.sort_by(|a, b| a.0.total_cmp(&b.0));
        starts.dedup_by(|a, b| a.1 == b.1);
        starts
    }

    /// Fills a draft up to the targets; whether it is the best one so far, as filled and as polished.
    fn try_targets(&mut self, targets: &[f64], absorber: usize, tolerance: f64) -> [bool; 2] {
        let at_least = self.instance.least_work() / self.instance.total_speed;
        let at_least = at_least + self.instance.overhead * targets.len() as f64;
        let best = self.best.as_ref().map_or(f64::INFINITY, |&(time, _)| time);
        if at_least >= best || self.fills_left == 0 {
            return [false; 2];
        }
        if self.best.is_some() && self.deadline.has_passed() {
            self.out_of_time = true;
            self.fills_left = 0;
            return [false; 2];
        }
        let (draft, attempts) = self.filler.fill(targets, absorber, tolerance);
        self.fills_left = self.fills_left.saturating_sub(attempts);
        let base = Base::new(&draft, self.instance, tolerance);
        let near = base.time <= best * PROMISING;
        let mut improved = [base.improve(&mut self.filled), false];
        if near {
            let draft = Polish::new(self.instance, draft).run(NUM_TRADES);
            let base = Base::new(&draft, self.instance, tolerance);
            if base.time < best {
                self.best = Some((base.time, draft));
            }
            improved[1] = base.improve(&mut self.polished);
        }
        improved
    }

    /// Changes all makespans a little at once, for the gaps between whole sequences that no single step leads across.
    fn shake(&mut self) {
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        while self.fills_left > 0 {
            let Some(base) = &self.polished else { return };
            let mut targets = base.targets.clone();
            let amplitude = 0.03 * noise.next();
            for target in &mut targets {
                *target *= 1.0 + amplitude * (2.0 * noise.next() - 1.0);
            }
            let varied = noise.next() < 0.5;
            let tolerance = if varied {
                1.0 + 0.3 * noise.next()
            } else {
                base.tolerance
            };
            let absorber = (noise.next() * (targets.len() + 1) as f64) as usize;
            let before = self.fills_left;
            self.try_targets(&targets, absorber, tolerance);
            if self.fills_left == before {
                return;
            }
        }
    }

    /// Shortens one makespan after the other, with another to take up what no longer fits, by smaller and smaller steps.
    fn climb(&mut self, climb: Climb) {
        let mut step = 0.12;
        while step > 0.001 && self.fills_left > 0 {
            let mut improved = false;
            let num = self.base(climb).map_or(0, |base| base.targets.len());
            for shortened in 0..num {
                for absorber in 0..num {
                    let Some(base) = self.base(climb).filter(|base| base.targets.len() == num)
                    else {
                        break;
                    };
                    let mut targets = base.targets.clone();
                    let tolerance = base.tolerance;
                    targets[shortened] *= 1.0 - step;
                    let absorber = if absorber == shortened { num } else { absorber };
                    improved |= self.try_targets(&targets, absorber, tolerance)[climb as usize];
                }
            }
            if !improved {
                step *= 0.5;
            }
        }
    }
}

/// A fixed sequence of numbers in 0..1 without pattern (xorshift), so that the same input gives the same plan.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `num` makespans from `first` down, each the same part of the one before, the others `rest` together.
fn ladder(first: f64, rest: f64, num: usize) -> Vec<f64> {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let ratio: f64 = 0.5 * (low + high);
        let sum: f64 = (1..num).map(|power| first * ratio.powi(power as i32)).sum();
        if sum < rest {
            low = ratio;
        } else {
            high = ratio;
        }
    }
    (0..num)
        .map(|power| first * high.powi(power as i32))
        .collect()
}
