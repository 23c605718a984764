//! The searches of a portfolio on one instance: first with similar lengths merged, then with every length for itself.

use super::coarsening::coarsened;
use super::portfolio::{NUM_SEARCHES, in_portfolio};
use super::search::{Evaluated, Search};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::instance::Instance;

/// Candidates from about `num_fills` drafts with similar lengths merged, and the number of drafts. Deadlines are those of a
/// part of the time.
pub(super) fn explore(
    instance: &Instance<'_>,
    num_fills: usize,
    num_threads: usize,
    deadline: impl Fn(f64) -> Deadline + Sync,
) -> (Vec<Evaluated>, usize) {
    let coarse = coarsened(instance);
    let explored = in_portfolio(num_threads, |member| {
        let deadline = deadline(part_of_search(member, num_threads));
        Search::new(&coarse, member, deadline).explore(num_fills / NUM_SEARCHES)
    });
    let num_drafts = explored.iter().map(|(_, num_drafts)| num_drafts).sum();
    let evaluated = explored.into_iter().flat_map(|(evaluated, _)| evaluated);
    (evaluated.collect(), num_drafts)
}

/// The best draft that comes of these candidates, and the number of drafts.
pub(super) fn refine(
    instance: &Instance<'_>,
    evaluated: Vec<Evaluated>,
    num_threads: usize,
    deadline: impl Fn(f64) -> Deadline + Sync,
) -> (Option<Draft>, usize) {
    let evaluated = deal(evaluated);
    let found = in_portfolio(num_threads, |member| {
        let deadline = deadline(part_of_search(member, num_threads));
        let num_fills = num_refined(instance) / NUM_SEARCHES;
        Search::new(instance, member, deadline).refine(evaluated[member].clone(), num_fills)
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
    let mut dealt = [const { Vec::new() }; NUM_SEARCHES];
    for (index, evaluated) in evaluated.into_iter().take(NUM_HANDED_ON).enumerate() {
        dealt[index % NUM_SEARCHES].push(evaluated);
    }
    dealt
}

/// The number of drafts of the coarse instance that are filled, where so many shortlists are searched: fewer on large clusters,
/// where a single one takes long. Often one shortlist alone is right, so that a part of the number for each would be too few.
pub(super) fn num_explored(instance: &Instance<'_>, num_shortlists: usize) -> usize {
    let devices = f64::from(instance.problem.cluster.num_devices()).max(1024.0);
    let num = ((64.0 * (1024.0 / devices).powf(0.2)) as usize).max(32);
    if num_shortlists > 1 { num * 3 / 4 } else { num }
}

/// How many drafts of the batch itself are filled: fewer of large ones, where a single one takes long and the law of
/// large numbers leaves little to gain.
fn num_refined(instance: &Instance<'_>) -> usize {
    let sequences = instance.num_sequences().max(512) as f64;
    ((14.0 * (512.0 / sequences).powf(0.3)) as usize).max(4)
}
