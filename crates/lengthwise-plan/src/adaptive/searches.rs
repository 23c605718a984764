//! The searches of a portfolio on one instance: first with similar lengths merged, then with every length for itself.

use super::portfolio::{NUM_SEARCHES, in_portfolio};
use super::search::{Evaluated, Search};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::instance::Instance;

/// The searches of an instance with similar lengths merged.
pub(super) struct Exploration<'a, 'p> {
    searches: [Search<'a, 'p>; NUM_SEARCHES],
    num_fills: usize,
}

impl<'a, 'p> Exploration<'a, 'p> {
    /// Tries first candidates, with about `num_fills` drafts. Deadlines are those of a part of the time.
    pub(super) fn begin(
        coarse: &'a Instance<'p>,
        num_fills: usize,
        num_threads: usize,
        deadline: impl Fn(f64) -> Deadline + Sync,
    ) -> Self {
        let num_fills = num_fills / NUM_SEARCHES;
        let searches = in_portfolio(num_threads, [(); NUM_SEARCHES], |member, ()| {
            let deadline = deadline(part_of_search(member, num_threads));
            Search::new(coarse, member, deadline).explore(num_fills)
        });
        Exploration {
            searches,
            num_fills,
        }
    }

    /// Varies the best candidates, with `times` as many drafts as before.
    pub(super) fn go_on(
        self,
        times: usize,
        num_threads: usize,
        deadline: impl Fn(f64) -> Deadline + Sync,
    ) -> Self {
        let num_fills = times * self.num_fills;
        let searches = in_portfolio(num_threads, self.searches, |member, search| {
            search.explore_around(num_fills, deadline(part_of_search(member, num_threads)))
        });
        Exploration {
            searches,
            num_fills: self.num_fills,
        }
    }

    /// What the best draft takes; infinite without one.
    pub(super) fn least_time(&self) -> f64 {
        let times = self.searches.iter().map(Search::least_time);
        times.fold(f64::INFINITY, f64::min)
    }

    pub(super) fn num_drafts(&self) -> usize {
        self.searches.iter().map(Search::num_drafts).sum()
    }

    /// The candidates that are worth trying on the batch itself.
    pub(super) fn into_candidates(self) -> Vec<Evaluated> {
        let searches = self.searches.into_iter();
        searches.flat_map(Search::into_promising).collect()
    }
}

/// The best draft that comes of these candidates, and the number of drafts.
pub(super) fn refine(
    instance: &Instance<'_>,
    evaluated: Vec<Evaluated>,
    num_threads: usize,
    deadline: impl Fn(f64) -> Deadline + Sync,
) -> (Option<Draft>, usize) {
    let found = in_portfolio(num_threads, deal(evaluated), |member, evaluated| {
        let deadline = deadline(part_of_search(member, num_threads));
        let num_fills = num_refined(instance) / NUM_SEARCHES;
        Search::new(instance, member, deadline).refine(evaluated, num_fills)
    });
    let num_drafts = found.iter().map(|(_, num_drafts)| num_drafts).sum();
    let found = found.into_iter().filter_map(|(found, _)| found);
    let best = found.reduce(|a, b| if b.time < a.time { b } else { a });
    (best.map(|best| best.draft), num_drafts)
}

/// The end of a search's part of the time: one after the other, each has its own.
fn part_of_search(member: usize, num_threads: usize) -> f64 {
    if num_threads < NUM_SEARCHES {
        (member + 1) as f64 / NUM_SEARCHES as f64
    } else {
        1.0
    }
}

/// The number of best candidates of the coarse instance that are tried on the batch itself.
const NUM_HANDED_ON: usize = 8;

/// Deals the best candidates to the searches of the portfolio.
fn deal(mut evaluated: Vec<Evaluated>) -> [Vec<Evaluated>; NUM_SEARCHES] {
    evaluated.sort_by(|a, b| a.time.total_cmp(&b.time));
    evaluated.dedup_by(|a, b| a.time == b.time);
    let mut dealt = [const { Vec::new() }; NUM_SEARCHES];
    for (index, evaluated) in evaluated.into_iter().take(NUM_HANDED_ON).enumerate() {
        dealt[index % NUM_SEARCHES].push(evaluated);
    }
    dealt
}

/// The number of first drafts of the coarse instance that are filled, and of variations: fewer on large clusters, where a single
/// one takes long. Of several shortlists those are searched further whose first drafts take least, so these are to be good.
pub(super) fn num_explored(instance: &Instance<'_>, num_shortlists: usize) -> usize {
    let devices = f64::from(instance.problem.cluster.num_devices()).max(1024.0);
    let num = ((32.0 * (1024.0 / devices).powf(0.2)) as usize).max(16);
    if num_shortlists > 1 { num * 3 / 2 } else { num }
}

/// How many drafts of the batch itself are filled: fewer of large ones, where a single one takes long and the law of
/// large numbers leaves little to gain.
fn num_refined(instance: &Instance<'_>) -> usize {
    let sequences = instance.num_sequences().max(512) as f64;
    ((14.0 * (512.0 / sequences).powf(0.3)) as usize).max(4)
}
