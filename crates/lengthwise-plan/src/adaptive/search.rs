//! The search for makespans to fill up to.

use super::fill::{FillPolicy, Filler};
use super::local_search::LocalSearch;
use super::portfolio::NUM_SEARCHES;
use super::random::Random;
use super::starts::starts;
use crate::bound::least_micro_batches;
use crate::completion::{complete, has_right_count};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::homogeneous::pack;
use crate::instance::Instance;

/// The policies that first makespans are filled with, for each member of the portfolio.
const POLICIES: [[FillPolicy; 3]; NUM_SEARCHES] = [
    [
        FillPolicy::CHEAPEST,
        tolerant(1.15),
        tolerant(f64::INFINITY),
    ],
    [packing(1.1), packing(1.3), packing(1.8)],
];

/// Drafts that take at most this much longer than the best one are improved by local search.
const PROMISING: f64 = 1.005;

/// First makespans whose estimated step is this much longer than the best one are not tried.
const MAX_ESTIMATE: f64 = 1.03;

/// How many first makespans are tried with all policies.
const NUM_STARTS: usize = 3;

/// The most swaps of a local search.
pub(super) const NUM_SWAPS: usize = 60;

/// Halvings of the range in which the least level is looked for.
const NUM_BISECTIONS: usize = 6;

/// Degrees times sequences up to which drafts with a single degree are tried.
const MAX_SINGLE_DEGREES: usize = 1 << 11;

const fn tolerant(tolerance: f64) -> FillPolicy {
    FillPolicy {
        tolerance,
        open_groups_first: false,
    }
}

const fn packing(tolerance: f64) -> FillPolicy {
    FillPolicy {
        tolerance,
        open_groups_first: true,
    }
}

/// Evaluates candidates, each by filling a draft, and keeps the best.
pub(crate) struct Search<'a, 'p> {
    instance: &'a Instance<'p>,
    /// Its index in the portfolio.
    member: usize,
    filler: Filler<'a, 'p>,
    /// The best draft as it was filled and the best after local search. That may reach makespans that filling
    /// can't, so that variations of each find what those of the other miss.
    filled: Option<Evaluated>,
    improved: Option<Evaluated>,
    /// The best draft of all, after local search.
    best: Option<Found>,
    /// The candidates whose drafts were worth a local search.
    promising: Vec<Evaluated>,
    fills_left: usize,
    num_filled: usize,
    /// The step time of the latest draft as it was filled.
    last_time: f64,
    deadline: Deadline,
}

/// A draft after local search, and its step time.
pub(crate) struct Found {
    pub(crate) time: f64,
    pub(crate) draft: Draft,
}

/// A point of the search: the makespans that a draft is filled up to, and the policy that it is filled by.
#[derive(Clone, Debug)]
struct Candidate {
    targets: Vec<f64>,
    policy: FillPolicy,
}

/// A candidate and the step time of its draft.
#[derive(Clone)]
pub(crate) struct Evaluated {
    pub(crate) time: f64,
    candidate: Candidate,
}

impl Evaluated {
    /// A draft, with its own makespans as the targets.
    fn of(draft: &Draft, instance: &Instance<'_>, policy: FillPolicy) -> Self {
        let mut targets = draft.makespans();
        targets.retain(|&makespan| makespan > 0.0);
        targets.sort_by(|a, b| b.total_cmp(a));
        Evaluated {
            time: draft.step_time(instance),
            candidate: Candidate { targets, policy },
        }
    }

    /// Takes the place of what takes longer; whether it does.
    fn improve(self, best: &mut Option<Evaluated>) -> bool {
        let improves = best
            .as_ref()
            .is_none_or(|best| self.time < best.time * (1.0 - 1e-9));
        if improves {
            *best = Some(self);
        }
        improves
    }
}

impl<'a, 'p> Search<'a, 'p> {
    pub(crate) fn new(instance: &'a Instance<'p>, member: usize, deadline: Deadline) -> Self {
        Search {
            instance,
            member,
            filler: Filler::new(instance),
            filled: None,
            improved: None,
            best: None,
            promising: Vec::new(),
            fills_left: 0,
            num_filled: 0,
            last_time: f64::INFINITY,
            deadline,
        }
    }

    /// Tries about `num_fills` first candidates.
    pub(crate) fn explore(mut self, num_fills: usize) -> Self {
        self.fills_left = num_fills;
        self.try_least_levels();
        // All first makespans with one policy, then those that came to most with the others.
        let [first, others @ ..] = POLICIES[self.member];
        let mut came_to: Vec<(f64, Vec<f64>)> = Vec::new();
        for start in starts(self.instance) {
            let best = self.best.as_ref();
            if best.is_some_and(|best| start.estimate > MAX_ESTIMATE * best.time) {
                break;
            }
            if let Some(time) = self.try_start(&start.targets, first) {
                came_to.push((time, start.targets));
            }
        }
        came_to.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, targets) in came_to.iter().take(NUM_STARTS) {
            for policy in others {
                self.try_start(targets, policy);
            }
        }
        self
    }

    /// Tries about `num_fills` variations of the best candidates.
    pub(crate) fn explore_around(mut self, num_fills: usize, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self.fills_left += num_fills;
        self.vary();
        self
    }

    /// What the best draft takes, after local search; infinite without one.
    pub(crate) fn least_time(&self) -> f64 {
        self.best.as_ref().map_or(f64::INFINITY, |best| best.time)
    }

    /// The drafts that were made.
    pub(crate) fn num_drafts(&self) -> usize {
        self.num_filled
    }

    /// The candidates whose drafts came near the best one.
    pub(crate) fn into_promising(self) -> Vec<Evaluated> {
        self.promising
    }

    /// The step time of a draft with these makespans; `None` once there are no fills left.
    fn try_start(&mut self, targets: &[f64], policy: FillPolicy) -> Option<f64> {
        let before = self.num_filled;
        let candidate = Candidate {
            targets: targets.to_vec(),
            policy,
        };
        self.attempt(candidate, targets.len() - 1);
        (self.num_filled > before).then_some(self.last_time)
    }

    /// The best draft of about `num_fills`, first of these candidates, then of their variations. The first search has one
    /// even where there is no time for any.
    pub(crate) fn refine(
        mut self,
        evaluated: Vec<Evaluated>,
        num_fills: usize,
    ) -> (Option<Found>, usize) {
        self.fills_left = num_fills;
        if self.member == 0 && self.deadline.has_passed() {
            let first = evaluated.first().map(|evaluated| &evaluated.candidate);
            let (targets, policy) = first.map_or((&[][..], FillPolicy::CHEAPEST), |candidate| {
                (candidate.targets.as_slice(), candidate.policy)
            });
            let (draft, _) = self.filler.fill(targets, targets.len(), policy);
            let found = complete(self.instance, draft).map(|draft| Found {
                time: draft.step_time(self.instance),
                draft,
            });
            return (found, 1);
        }
        for Evaluated { candidate, .. } in evaluated {
            let absorber = candidate.targets.len() - 1;
            self.attempt(candidate, absorber);
        }
        if self.member == 0 {
            self.try_single_degrees();
        }
        self.vary();
        if self.member == 0 && self.best.is_none() {
            let (draft, _) = self.filler.fill(&[], 0, FillPolicy::CHEAPEST);
            if let Some(draft) = complete(self.instance, draft) {
                self.search_locally(draft, FillPolicy::CHEAPEST);
            }
        }
        (self.best, self.num_filled)
    }

    /// Drafts with one degree for all, as long as there are few: on small clusters they are hard to beat, and by no
    /// makespans to be found.
    fn try_single_degrees(&mut self) {
        let strategies = self.instance.problem.space.strategies();
        if strategies.len() * self.instance.num_sequences() > MAX_SINGLE_DEGREES {
            return;
        }
        for &strategy in strategies {
            let packed = pack(self.instance, strategy);
            if let Some(draft) = packed.and_then(|draft| complete(self.instance, draft)) {
                self.search_locally(draft, FillPolicy::CHEAPEST);
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
        if num < 2 || !first.is_finite() {
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
            if self.deadline.has_passed() {
                return;
            }
            let level = 0.5 * (low + high);
            let (draft, _) = self.filler.fill(&targets(level), num, FillPolicy::CHEAPEST);
            self.fills_left = self.fills_left.saturating_sub(1);
            self.num_filled += 1;
            if draft.free.len() > num {
                low = level;
            } else {
                high = level;
            }
        }
        for policy in [FillPolicy::CHEAPEST, tolerant(1.15)] {
            let targets = targets(high);
            self.attempt(Candidate { targets, policy }, num);
        }
    }

    /// Fills a draft; whether it is the best one so far, as filled or after local search.
    fn attempt(&mut self, candidate: Candidate, absorber: usize) -> bool {
        let at_least = self.instance.least_work() / self.instance.total_speed;
        let at_least = at_least + self.instance.overhead * candidate.targets.len() as f64;
        let best = self.best.as_ref().map_or(f64::INFINITY, |best| best.time);
        if at_least >= best || self.fills_left == 0 {
            return false;
        }
        if self.deadline.has_passed() {
            self.fills_left = 0;
            return false;
        }
        let (draft, attempts) = self
            .filler
            .fill(&candidate.targets, absorber, candidate.policy);
        self.fills_left = self.fills_left.saturating_sub(attempts);
        self.num_filled += attempts;
        // Other numbers of micro-batches than the rules ask for take long to mend, which is worth it for want of a draft.
        if self.best.is_some() && !has_right_count(self.instance, &draft) {
            self.last_time = f64::INFINITY;
            return false;
        }
        let Some(draft) = complete(self.instance, draft) else {
            self.last_time = f64::INFINITY;
            return false;
        };
        let filled = Evaluated::of(&draft, self.instance, candidate.policy);
        let time = filled.time;
        self.last_time = time;
        let mut improves = filled.improve(&mut self.filled);
        // The same time means the same draft, which was searched around before.
        let is_new = self
            .promising
            .iter()
            .all(|evaluated| evaluated.time != time);
        if time <= best * PROMISING && is_new {
            self.promising.push(Evaluated {
                time,
                candidate: candidate.clone(),
            });
            improves |= self.search_locally(draft, candidate.policy);
        }
        improves
    }

    /// Improves a draft by local search; whether it is the best one then.
    fn search_locally(&mut self, draft: Draft, policy: FillPolicy) -> bool {
        let draft = LocalSearch::new(self.instance, draft).run(NUM_SWAPS);
        let improved = Evaluated::of(&draft, self.instance, policy);
        let best = self.best.as_ref();
        if best.is_none_or(|best| improved.time < best.time) {
            self.best = Some(Found {
                time: improved.time,
                draft,
            });
        }
        improved.improve(&mut self.improved)
    }

    /// Varies the best candidate for as many fills as are left: shortens one makespan, with another to take up what no
    /// longer fits, by steps that grow with success; or changes all a little at once, for the gaps between whole
    /// sequences that no single step leads across.
    fn vary(&mut self) {
        let mut random = Random::new(self.member);
        let mut step: f64 = 0.06;
        while self.fills_left > 0 {
            let base = if random.next() < 0.4 {
                &self.filled
            } else {
                &self.improved
            };
            let Some(Evaluated { candidate, .. }) = base else {
                return;
            };
            let mut candidate = candidate.clone();
            let num = candidate.targets.len();
            if num == 0 {
                // Nothing takes any time.
                return;
            }
            let mut absorber = random.below(num + 1);
            if random.next() < 0.6 {
                let shortened = random.below(num);
                candidate.targets[shortened] *= 1.0 - step * 2.0 * random.next();
                if absorber == shortened {
                    absorber = num;
                }
            } else {
                let amplitude = 0.03 * random.next();
                for target in &mut candidate.targets {
                    *target *= 1.0 + amplitude * (2.0 * random.next() - 1.0);
                }
                if random.next() < 0.5 {
                    candidate.policy = FillPolicy {
                        tolerance: 1.0 + 0.3 * random.next(),
                        open_groups_first: random.next() < 0.5,
                    };
                }
            }
            let before = self.fills_left;
            if self.attempt(candidate, absorber) {
                step = (step * 1.3).min(0.12);
            } else {
                step = (step * 0.96).max(0.004);
            }
            if self.fills_left == before {
                return;
            }
        }
    }
}
