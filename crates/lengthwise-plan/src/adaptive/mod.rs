//! The planner that mixes degrees inside every micro-batch.

mod coarsening;
mod deep;
mod few;
mod fill;
mod local_search;
mod pool;
mod portfolio;
mod random;
mod search;
mod searches;
mod starts;

use std::collections::BTreeSet;
use std::time::Instant;

use lengthwise_core::{Activations, Degree, Plan, StrategyFamily, StrategySpace};

use self::coarsening::coarsened;
use self::local_search::LocalSearch;
use self::search::{Evaluated, NUM_SWAPS};
use self::searches::{Exploration, num_explored, refine};
#[cfg(test)]
pub(crate) use self::{local_search::tests::random_draft, random::Random};
use crate::bound::{Effort, Keep, longest_first_bound};
use crate::communicators::affordable;
use crate::completion::{climbed, complete};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::exhaustive::{is_tiny, plan_until};
use crate::homogeneous::pack_faster_than;
use crate::instance::Instance;
use crate::megatron;
use crate::patterns::{PatternPrices, is_deep};
use crate::rules::{allowed_strategies, keeping_rules, no_plan_found};
use crate::shortlist::has_many_strategies;
use crate::{PlanError, Planned, Planner, PlannerOptions, Problem, StopReason};

/// Chooses micro-batches, groups and assignment together.
///
/// Drafts are filled up to makespans that a search varies, the promising ones improved by local search; then a
/// branch-and-bound over the longest sequences proves a lower bound. The effort of both depends on the size of the
/// problem alone (tiny ones are enumerated), so the same input gives the same plan; only a time budget can cut it short.
/// Where memory asks for dozens of micro-batches, groups follow from the dual prices of column generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adaptive {
    options: PlannerOptions,
    searches_always: bool,
}

/// The parts of a time budget at the end of which the search on the coarsened problem, the search on the problem itself and
/// the bound have to be done; the rest is for writing the plan down.
const COARSE_SHARE: f64 = 0.3;
const SEARCH_SHARE: f64 = 0.55;
const BOUND_SHARE: f64 = 0.85;

/// So many of the shortlists are searched to the end, of those whose first drafts take so many times the least or less.
const NUM_PURSUED: usize = 2;
const PURSUED_WITHIN: f64 = 1.05;

/// Beyond this gap each kind of strategy is searched alone, too, however many there are.
const LARGE_GAP: f64 = 0.08;

impl Adaptive {
    /// A planner with these options.
    pub const fn new(options: PlannerOptions) -> Self {
        Adaptive {
            options,
            searches_always: false,
        }
    }

    /// The same planner for tiny batches too, which are enumerated otherwise: so its search can be compared with the
    /// optimum.
    #[must_use]
    pub const fn without_enumeration(mut self) -> Self {
        self.searches_always = true;
        self
    }
}

impl Planner for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl Adaptive {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let Some(max_communicators) = self.options.max_communicators else {
            let planned = self.plan_with_start(problem, started, keep)?;
            return keeping_rules(planned, problem, self.name());
        };
        let allowed = allowed_strategies(problem)?;
        let space = affordable(&allowed, problem.cluster, max_communicators)?;
        let degrees: Vec<Degree> = space.degrees().collect();
        let leaves_some_out = allowed.degrees().any(|d| !degrees.contains(&d));
        let restricted = Problem {
            space: &space,
            ..problem
        };
        let mut planned = self.plan_with_start(restricted, started, keep)?;
        planned.report.bounded_degrees = leaves_some_out.then_some(degrees);
        keeping_rules(planned, problem, self.name())
    }

    /// Plans from the plan of Megatron-Core's rule as well, where the rules of the problem ask for what it goes by, aligned
    /// groups or tokens per rank: so no plan is slower than the one that it takes the place of.
    fn plan_with_start(
        &self,
        problem: Problem<'_>,
        started: Instant,
        keep: Keep,
    ) -> Result<Planned, PlanError> {
        if !problem.rules.aligned_powers_of_two && problem.rules.token_cap.is_none() {
            return self.plan_all(problem, None, started, keep);
        }
        let start = megatron::plan_for(problem).ok();
        let mut planned = self.plan_all(problem, start.as_ref(), started, keep)?;
        if let Some(start) = start {
            // Its groups may lie better than those of a draft where nodes differ.
            planned.improve_by(start, problem);
        }
        Ok(planned)
    }

    /// Plans with every strategy of the problem, and with those of each kind alone where there are several: what makes a
    /// good draft of the one makes a bad one of the other where both fit but cost different amounts of memory. Where there are
    /// many, shortlists take the place of kinds, unless what they lead to is far from its bound.
    fn plan_all(
        &self,
        problem: Problem<'_>,
        start: Option<&Plan>,
        started: Instant,
        keep: Keep,
    ) -> Result<Planned, PlanError> {
        let effort = |deadline| Effort::until(deadline).keeping(keep);
        let mut planned = self.plan_together(problem, start, started, effort)?;
        let is_near = planned.report.gap().is_some_and(|gap| gap <= LARGE_GAP);
        let kinds = match has_many_strategies(problem) && is_near {
            true => Vec::new(),
            false => spaces_of_kinds(problem.space),
        };
        for space in kinds {
            if planned.report.stop_reason == StopReason::Optimal {
                break;
            }
            let alone = Problem {
                space: &space,
                ..problem
            };
            // A kind that some sequence does not fit is no choice for all of them.
            let Ok(instance) = Instance::new(alone) else {
                continue;
            };
            let known = planned.report.predicted_step.get();
            let deadline = Deadline::after(started, self.options.time_budget, BOUND_SHARE);
            if longest_first_bound(&instance, known, Effort::brief(deadline)).bound >= known {
                continue;
            }
            // The bound that counts is that of all kinds.
            let tiny = self.plan_tiny(alone, started, Keep::Bound);
            let alone = match tiny.transpose() {
                Some(planned) => planned,
                None => self.plan_instance(&instance, None, started, Effort::least),
            };
            if let Ok(alone) = alone {
                planned.improve(alone);
            }
        }
        planned.report.solve_time = started.elapsed().into();
        planned.report.compare_with(self.options.time_budget);
        Ok(planned)
    }

    fn plan_together(
        &self,
        problem: Problem<'_>,
        start: Option<&Plan>,
        started: Instant,
        effort: impl Fn(Deadline) -> Effort,
    ) -> Result<Planned, PlanError> {
        let keep = effort(Deadline::default()).keep;
        if let Some(planned) = self.plan_tiny(problem, started, keep)? {
            return Ok(planned);
        }
        self.plan_instance(&Instance::new(problem)?, start, started, effort)
    }

    /// The best plan of a tiny problem, by enumeration; `None` if it isn't, or there is no time for that.
    fn plan_tiny(
        &self,
        problem: Problem<'_>,
        started: Instant,
        keep: Keep,
    ) -> Result<Option<Planned>, PlanError> {
        // The enumeration knows of no communicators.
        if self.options.max_communicators.is_some() || self.searches_always || !is_tiny(problem) {
            return Ok(None);
        }
        let deadline = Deadline::after(started, self.options.time_budget, COARSE_SHARE);
        plan_until(problem, deadline, keep)
    }

    fn plan_instance(
        &self,
        instance: &Instance<'_>,
        start: Option<&Plan>,
        started: Instant,
        effort: impl Fn(Deadline) -> Effort,
    ) -> Result<Planned, PlanError> {
        let deadline = |share| Deadline::after(started, self.options.time_budget, share);
        if is_deep(instance) && instance.devices.are_equal() {
            let mut planned = plan_deep(instance, start, deadline, started, effort)?;
            planned.report.compare_with(self.options.time_budget);
            return Ok(planned);
        }
        let Searched {
            draft,
            num_drafts,
            mut out_of_time,
            ..
        } = self.search(instance, start, deadline)?;
        let effort = effort(deadline(BOUND_SHARE));
        let mut planned = Planned::of(draft, instance, num_drafts, effort, started);
        out_of_time |= deadline(BOUND_SHARE).has_passed();
        planned.report.note_time_budget(out_of_time);
        planned.report.compare_with(self.options.time_budget);
        Ok(planned)
    }

    /// The best draft of a search of each shortlist of shapes, or of one of all shapes.
    ///
    /// # Errors
    ///
    /// No draft was found that keeps the rules.
    fn search(
        &self,
        instance: &Instance<'_>,
        start: Option<&Plan>,
        deadline: impl Fn(f64) -> Deadline + Sync,
    ) -> Result<Searched, PlanError> {
        let shortlists = instance.shortlists.iter();
        let shortlisted: Vec<Instance<'_>> = shortlists
            .map(|shortlist| instance.shortlisted(shortlist))
            .collect();
        let searched = self.search_each(&shortlisted, start, &deadline);
        if let Some(mut searched) = searched {
            let positions = &instance.shortlists[searched.instance].shapes;
            searched.draft = searched.draft.with_all_shapes(positions);
            return Ok(searched);
        }
        let searched = self.search_each(std::slice::from_ref(instance), start, &deadline);
        searched.ok_or_else(|| no_plan_found(instance))
    }

    /// Candidates of those instances that are worth a search to the end, best first, by their positions; and the number of
    /// drafts.
    fn explore_each(
        &self,
        instances: &[Instance<'_>],
        deadline: &(impl Fn(f64) -> Deadline + Sync),
    ) -> (Vec<(usize, Vec<Evaluated>)>, usize) {
        let num_threads = self.options.num_threads.get();
        let half = |behind: f64, turn: usize, num_turns: usize| {
            move |part| {
                let part = part_of_turn(turn, num_turns, part);
                deadline(COARSE_SHARE * 0.5 * (behind + part))
            }
        };
        let num = instances.len();
        let coarse: Vec<Instance<'_>> = instances.iter().map(coarsened).collect();
        let begun = coarse.iter().enumerate().map(|(turn, coarse)| {
            let num_fills = num_explored(coarse, num);
            Exploration::begin(coarse, num_fills, num_threads, half(0.0, turn, num))
        });
        let mut explorations: Vec<(usize, Exploration<'_, '_>)> = begun.enumerate().collect();
        explorations.sort_by(|(_, a), (_, b)| a.least_time().total_cmp(&b.least_time()));
        let most = explorations
            .first()
            .map(|(_, best)| best.least_time() * PURSUED_WITHIN);
        let best = explorations.iter().take(NUM_PURSUED);
        let num_pursued = best.filter(|(_, of)| Some(of.least_time()) <= most).count();
        let given_up = explorations.split_off(num_pursued);
        let mut num_drafts: usize = given_up.iter().map(|(_, of)| of.num_drafts()).sum();
        // What the others are spared.
        let times = NUM_PURSUED.min(num).checked_div(num_pursued).unwrap_or(1);
        let mut candidates = Vec::new();
        for (turn, (position, exploration)) in explorations.into_iter().enumerate() {
            let deadline = half(1.0, turn, num_pursued);
            let exploration = exploration.go_on(times, num_threads, deadline);
            num_drafts += exploration.num_drafts();
            candidates.push((position, exploration.into_candidates()));
        }
        (candidates, num_drafts)
    }

    /// The best draft of a search of each of some instances.
    fn search_each(
        &self,
        instances: &[Instance<'_>],
        start: Option<&Plan>,
        deadline: &(impl Fn(f64) -> Deadline + Sync),
    ) -> Option<Searched> {
        let num_threads = self.options.num_threads.get();
        let (pursued, mut num_drafts) = self.explore_each(instances, deadline);
        let num_turns = pursued.len();
        let mut out_of_time = deadline(COARSE_SHARE).has_passed();
        let mut best: Option<(f64, usize, Draft)> = None;
        for (turn, (position, explored)) in pursued.into_iter().enumerate() {
            let instance = &instances[position];
            let deadline = |part| {
                let part = part_of_turn(turn, num_turns, part);
                deadline(COARSE_SHARE + (SEARCH_SHARE - COARSE_SHARE) * part)
            };
            let (draft, num) = refine(instance, explored, num_threads, deadline);
            num_drafts += num;
            let draft = improved(instance, draft, start, deadline(1.0));
            out_of_time |= deadline(1.0).has_passed();
            if let Some(draft) = draft {
                let time = draft.step_time(instance);
                if best.as_ref().is_none_or(|&(least, ..)| time < least) {
                    best = Some((time, position, draft));
                }
            }
        }
        best.map(|(_, instance, draft)| Searched {
            draft,
            instance,
            num_drafts,
            out_of_time,
        })
    }
}

/// What searches of some instances found.
struct Searched {
    /// The best draft.
    draft: Draft,
    /// The position of the instance that it is of.
    instance: usize,
    num_drafts: usize,
    /// Whether a time budget cut a search short.
    out_of_time: bool,
}

/// The end of a part of what one of several turns, which come one after the other, takes; as a part of all of them.
fn part_of_turn(turn: usize, num_turns: usize, part: f64) -> f64 {
    (turn as f64 + part) / num_turns as f64
}

/// The strategies of each choice for activations, where there are several, else those of each family: a rank on its own
/// exchanges nothing, so it is of every family.
fn spaces_of_kinds(space: &StrategySpace) -> Vec<StrategySpace> {
    let strategies = space.strategies();
    let activations: BTreeSet<Activations> = strategies.iter().map(|s| s.activations()).collect();
    let families: BTreeSet<StrategyFamily> = strategies.iter().map(|one| one.family()).collect();
    let (activations, families): (Vec<_>, Vec<_>) = (
        activations.into_iter().collect(),
        families.into_iter().collect(),
    );
    let kinds: Vec<(&[StrategyFamily], &[Activations])> = if activations.len() > 1 {
        let each = activations.chunks(1);
        each.map(|activations| (&families[..], activations))
            .collect()
    } else {
        let each = families.chunks(1);
        each.map(|family| (family, &activations[..])).collect()
    };
    let of_kind = |(families, activations): (&[StrategyFamily], &[Activations])| {
        space.of(families, activations).ok()
    };
    let spaces: Vec<StrategySpace> = kinds.into_iter().filter_map(of_kind).collect();
    let is_within = |inner: &StrategySpace, outer: &StrategySpace| {
        let is_smaller = inner.strategies().len() < outer.strategies().len();
        is_smaller && inner.strategies().iter().all(|&one| outer.contains(one))
    };
    let adds = |one: &&StrategySpace| {
        let is_less = spaces.iter().any(|other| is_within(one, other));
        !is_less && *one != space
    };
    spaces.iter().filter(adds).cloned().collect()
}

/// A draft that takes no longer than this one, nor than one with a single degree, nor than the plan to start from; `None` if
/// none was found that keeps the rules.
fn improved(
    instance: &Instance<'_>,
    draft: Option<Draft>,
    start: Option<&Plan>,
    deadline: Deadline,
) -> Option<Draft> {
    let start = start.and_then(|start| Draft::of_plan(instance, start));
    let start = start.map(|start| LocalSearch::new(instance, start).run(NUM_SWAPS));
    let step_time = |draft: &Draft| draft.step_time(instance);
    let drafts = [draft, start].into_iter().flatten();
    let draft = drafts.min_by(|a, b| step_time(a).total_cmp(&step_time(b)));
    let time = draft.as_ref().map_or(f64::INFINITY, step_time);
    let draft = pack_faster_than(instance, time).or(draft);
    let improved = few::improve(instance, draft?, deadline);
    Some(climbed(instance, improved))
}

/// Plans many micro-batches by the dual prices of column generation, which bound all plans, too.
fn plan_deep(
    instance: &Instance<'_>,
    start: Option<&Plan>,
    deadline: impl Fn(f64) -> Deadline,
    started: Instant,
    effort: impl Fn(Deadline) -> Effort,
) -> Result<Planned, PlanError> {
    let duals = PatternPrices::of(instance, deadline(COARSE_SHARE));
    let mut out_of_time = deadline(COARSE_SHARE).has_passed();
    let draft = complete(instance, deep::draft(instance, &duals));
    let draft = improved(instance, draft, start, deadline(SEARCH_SHARE));
    let draft = draft.ok_or_else(|| no_plan_found(instance))?;
    let effort = effort(deadline(BOUND_SHARE));
    let bound = |known| {
        let found = longest_first_bound(instance, known, effort);
        found.or_by_patterns(instance, &duals, known, effort.keep)
    };
    let mut planned = Planned::with_bound(draft, instance, 1, bound, started);
    out_of_time |= deadline(BOUND_SHARE).has_passed();
    planned.report.note_time_budget(out_of_time);
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Strategy;

    use super::*;

    /// Degrees 1, 2 and 4 of each.
    fn spaces(
        kinds: &[fn(Degree, Activations) -> Strategy],
        activations: &[Activations],
    ) -> Vec<String> {
        let degrees = [1, 2, 4].map(|degree| Degree::new(degree).unwrap());
        let all = activations.iter().flat_map(|&activations| {
            let of_kind = move |of: &fn(Degree, Activations) -> Strategy| {
                degrees.map(|degree| of(degree, activations))
            };
            kinds.iter().flat_map(of_kind)
        });
        let spaces = spaces_of_kinds(&StrategySpace::new(all).unwrap());
        let names = |space: &StrategySpace| {
            let names = space.strategies().iter().map(Strategy::to_string);
            names.collect::<Vec<_>>().join(", ")
        };
        spaces.iter().map(names).collect()
    }

    #[test]
    fn a_rank_on_its_own_is_of_every_kind_with_its_activations() {
        let (keep, recompute) = (Activations::Keep, Activations::Recompute);
        let none: [String; 0] = [];
        assert_eq!(spaces(&[Strategy::ulysses], &[keep]), none);
        assert_eq!(spaces(&[Strategy::ring], &[keep]), none);
        assert_eq!(
            spaces(&[Strategy::ulysses, Strategy::ring], &[keep]),
            ["1 keep, 2 keep, 4 keep", "1 keep, 1x2 keep, 1x4 keep"]
        );
        assert_eq!(
            spaces(&[Strategy::ulysses], &[keep, recompute]),
            [
                "1 keep, 2 keep, 4 keep",
                "1 recompute, 2 recompute, 4 recompute"
            ]
        );
    }
}
