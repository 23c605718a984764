//! The bound of many micro-batches: cutting stock.
//!
//! The degrees of a micro-batch's groups add up to at most the number `N` of devices, and none outlasts the makespan. So a step
//! takes at least the sum over all groups `g` of
//!
//! ```text
//! d(g) b / N  +  d(g) (nominal seconds of g) / V        N devices of speed V together, overhead b
//! ```
//!
//! A group pays `d b / N` for being opened, and for each of its sequences a *charge* `d w / V`. If sequences have prices by
//! which no group holds more than it pays, the prices of all sequences add up to a bound (Gilmore and Gomory's dual).
//!
//! Similar lengths form buckets with one price. A longer sequence of a bucket is worth the bucket's price and what any group charges
//! for it beyond the bucket's shortest, at least; as it takes no less room, it is enough that no group of *shortest* sequences is
//! worth more than its opening and charges. The most that a group can be worth is a knapsack, with sizes rounded down to
//! [`UNITS`] parts of its room. Where a group is worth more than it pays by some factor, all prices are divided by that.

use crate::Refusal;
use crate::format::{Bucket, Capacity};
use crate::tables::Tables;

/// The parts of a group's room that sizes are rounded down to.
const UNITS: usize = 1024;

/// Sequences that take less than one of so many parts are divided at will.
const SMALL: u128 = 32;

/// No price is higher, so that products of prices stay numbers.
const MAX_PRICE: f64 = 1e100;

/// Sums of a group's sequences are of fewer terms.
const NUM_TERMS: f64 = 4096.0;

/// The least time of any plan.
pub(crate) fn bound(
    tables: &Tables,
    capacity: Capacity,
    buckets: &[Bucket],
) -> Result<f64, Refusal> {
    tables.check_capacity(capacity)?;
    let starts = starts(tables, buckets)?;
    let total_speed: f64 = tables.speeds().iter().sum();
    let mut counts = vec![0.0; buckets.len()];
    let mut surcharge = 0.0;
    for (bucket, range) in starts.windows(2).enumerate() {
        let fitting: Vec<usize> = (0..tables.shapes.len())
            .filter(|&shape| range[0] < tables.shapes[shape].num_fitting)
            .collect();
        for class in range[0]..range[1] {
            let beyond = |&shape: &usize| {
                let of = &tables.shapes[shape];
                f64::from(of.degree) * (of.seconds[class] - of.seconds[range[0]])
            };
            let least = fitting.iter().map(beyond).reduce(f64::min).unwrap_or(0.0);
            let count = f64::from(tables.counts[class]);
            counts[bucket] += count;
            surcharge += count * least / total_speed;
        }
    }
    let num_devices = f64::from(tables.cluster.num_devices());
    let mut excess: f64 = 1.0;
    for shape in 0..tables.shapes.len() {
        let of = &tables.shapes[shape];
        let degree = f64::from(of.degree);
        let room = u128::from(of.room.measure(capacity)).max(1);
        let num = starts[..buckets.len()].partition_point(|&class| class < of.num_fitting);
        let items = (0..num).map(|bucket| Item {
            profit: buckets[bucket].price_s - degree * of.seconds[starts[bucket]] / total_speed,
            size: tables.load(shape, starts[bucket]).measure(capacity).into(),
            count: counts[bucket],
        });
        let worth = most_worth(&items.collect::<Vec<Item>>(), room);
        let opening = tables.overhead * degree / num_devices;
        if worth > opening {
            excess = excess.max(worth / opening);
        }
    }
    let prices: f64 = counts
        .iter()
        .zip(buckets)
        .map(|(count, bucket)| count * bucket.price_s)
        .sum();
    // Sums of so many terms may be wrong by as many units in the last place.
    let num_terms = NUM_TERMS + tables.lens.len() as f64 + num_devices;
    Ok((prices / excess + surcharge) * (1.0 - num_terms * f64::EPSILON))
}

/// A sequence of a bucket as a group sees it.
struct Item {
    /// Its price less its charge.
    profit: f64,
    size: u128,
    /// The number of sequences.
    count: f64,
}

/// No group of so much room holds sequences that are worth more.
fn most_worth(items: &[Item], room: u128) -> f64 {
    let mut free = 0.0;
    // The most that a whole room of small sequences is worth.
    let mut small: f64 = 0.0;
    let mut large = Vec::new();
    for item in items.iter().filter(|item| item.profit > 0.0) {
        if item.size == 0 {
            free += item.profit * item.count;
        } else if item.size * SMALL < room {
            small = small.max(item.profit * (room as f64 / item.size as f64));
        } else {
            large.push(((item.size * UNITS as u128 / room) as usize, item.profit));
        }
    }
    let mut most = vec![0.0; UNITS + 1];
    for units in 0..=UNITS {
        let with = large.iter().filter(|(size, _)| *size <= units);
        let with = with.map(|(size, profit)| most[units - size] + profit);
        most[units] = with.fold(small * units as f64 / UNITS as f64, f64::max);
    }
    most[UNITS] + free
}

/// The position of the shortest length of every bucket, then the number of lengths.
fn starts(tables: &Tables, buckets: &[Bucket]) -> Result<Vec<usize>, Refusal> {
    let mut starts: Vec<usize> = Vec::with_capacity(buckets.len() + 1);
    for (index, bucket) in buckets.iter().enumerate() {
        let bad = |fault: String| Refusal::BadBucket {
            bucket: index,
            fault,
        };
        let start = tables.lens.binary_search(&bucket.from_tokens);
        let start = start.map_err(|_| {
            bad(format!(
                "begins at {} tokens, which no sequence has",
                bucket.from_tokens
            ))
        })?;
        let least = starts.last().map_or(0, |last| last + 1);
        if start < least || index == 0 && start > 0 {
            let rule = "buckets begin at the shortest sequence and increase";
            return Err(bad(format!(
                "begins at {} tokens; {rule}",
                bucket.from_tokens
            )));
        }
        if !(0.0..=MAX_PRICE).contains(&bucket.price_s) {
            return Err(bad(format!(
                "has the price {:?}; prices are numbers from 0 to 1e100",
                bucket.price_s
            )));
        }
        starts.push(start);
    }
    if starts.is_empty() {
        let fault = "is missing: buckets cover all lengths".to_owned();
        return Err(Refusal::BadBucket { bucket: 0, fault });
    }
    starts.push(tables.lens.len());
    Ok(starts)
}
