//! Forming one micro-batch out of the sequences that are left, longest first.

use lengthwise_core::{Sequence, Tokens};

use super::fill::fill;
use super::limit::MegatronLimit;
use super::ranks::{RankGroup, Ranks};

/// A rank may get this much more work than a full one whose sequences are all as long as the longest.
const WORK_TOLERANCE: f64 = 0.05;

/// A micro-batch in which no rank idles, and the sequences that have to wait for the next one.
pub(super) struct Formed {
    pub(super) groups: Vec<RankGroup>,
    pub(super) left: Vec<Sequence>,
}

/// Forms the next micro-batch out of `sequences`, of which there is at least one and the longest comes first.
///
/// Every sequence goes where the most work of any rank stays least: into a group that has room, or into a new one on free
/// ranks, of the least degree it fits or 2, 4, 8… times that. Among equals it is the smaller degree, then the older group.
pub(super) fn next_micro_batch(
    sequences: &[Sequence],
    ranks: &Ranks,
) -> Result<Formed, MegatronLimit> {
    let mut forming = Forming::begin(sequences[0], ranks)?;
    let rest = sequences[1..].iter().copied();
    let left: Vec<Sequence> = rest.filter(|&sequence| !forming.place(sequence)).collect();
    let mut groups: Vec<RankGroup> = forming.groups.into_iter().map(|g| g.group).collect();
    if fill(&mut groups, ranks.num)? {
        return Ok(Formed { groups, left });
    }
    Ok(one_group(sequences, ranks))
}

/// A micro-batch in the making.
struct Forming<'a> {
    ranks: &'a Ranks,
    groups: Vec<LoadedGroup>,
    num_free: u32,
    /// Of any rank.
    most_work: f64,
    allowed_work: f64,
}

/// A group and what is in it so far, for each of its ranks.
struct LoadedGroup {
    group: RankGroup,
    work: f64,
    tokens: f64,
}

/// Where a sequence could go.
#[derive(Clone, Copy)]
struct Place {
    /// The most work that any rank has then.
    most_work: f64,
    degree: u32,
    /// The position of the group; `None` for a new one.
    group: Option<usize>,
}

impl Place {
    fn is_better_than(&self, other: &Place) -> bool {
        let by_degree = self.degree < other.degree;
        self.most_work < other.most_work || self.most_work == other.most_work && by_degree
    }
}

impl<'a> Forming<'a> {
    /// The longest sequence gets a group of the least degree it fits.
    fn begin(longest: Sequence, ranks: &'a Ranks) -> Result<Self, MegatronLimit> {
        let needed_ranks = ranks.least_degree(longest.seq_len);
        let degree = u32::try_from(needed_ranks).ok();
        let degree = degree.filter(|&degree| degree <= ranks.num);
        let degree = degree.ok_or(MegatronLimit::TooLong {
            sequence: longest.index,
            seq_len: longest.seq_len,
            needed_ranks,
            tokens_per_rank: ranks.tokens_per_rank,
            num_ranks: ranks.num,
        })?;
        let most_tokens = ranks.tokens_per_rank.as_f64();
        let mut forming = Forming {
            ranks,
            groups: Vec::new(),
            num_free: ranks.num,
            most_work: 0.0,
            allowed_work: longest.seq_len.as_f64() * most_tokens * (1.0 + WORK_TOLERANCE),
        };
        forming.open(longest, degree);
        Ok(forming)
    }

    /// Puts a sequence where it is best placed; `false` where it has no place.
    fn place(&mut self, sequence: Sequence) -> bool {
        match self.best_place(sequence.seq_len) {
            None => return false,
            Some(Place {
                group: Some(group), ..
            }) => self.add(sequence, group),
            Some(place) => self.open(sequence, place.degree),
        }
        true
    }

    fn best_place(&self, seq_len: Tokens) -> Option<Place> {
        let least = self.ranks.least_degree(seq_len);
        let existing = self.groups.iter().enumerate().filter_map(|(index, to)| {
            let degree = to.group.degree;
            let times = u64::from(degree) / least;
            let tokens = to.tokens + seq_len.as_f64() / f64::from(degree);
            let is_possible = times.is_power_of_two() && times * least == u64::from(degree);
            (is_possible && tokens <= self.ranks.tokens_per_rank.as_f64()).then(|| Place {
                most_work: self.most_work.max(to.work + work(seq_len, degree)),
                degree,
                group: Some(index),
            })
        });
        let degrees = std::iter::successors(Some(least), |degree| degree.checked_mul(2));
        let new = degrees
            .map_while(|degree| u32::try_from(degree).ok())
            .take_while(|&degree| degree <= self.num_free)
            .map(|degree| Place {
                most_work: self.most_work.max(work(seq_len, degree)),
                degree,
                group: None,
            });
        let allowed = |place: &Place| place.most_work <= self.allowed_work;
        let places = existing.chain(new).filter(allowed);
        places.reduce(|best, place| {
            if place.is_better_than(&best) {
                place
            } else {
                best
            }
        })
    }

    fn open(&mut self, sequence: Sequence, degree: u32) {
        self.num_free -= degree;
        self.groups.push(LoadedGroup {
            group: RankGroup {
                degree,
                sequences: Vec::new(),
            },
            work: 0.0,
            tokens: 0.0,
        });
        self.add(sequence, self.groups.len() - 1);
    }

    fn add(&mut self, sequence: Sequence, group: usize) {
        let to = &mut self.groups[group];
        to.work += work(sequence.seq_len, to.group.degree);
        to.tokens += sequence.seq_len.as_f64() / f64::from(to.group.degree);
        to.group.sequences.push(sequence);
        self.most_work = self.most_work.max(to.work);
    }
}

/// The work of each rank of a group by their measure, which knows attention only: tokens squared, shared out.
fn work(seq_len: Tokens, degree: u32) -> f64 {
    let tokens = u128::from(seq_len.0);
    (tokens * tokens) as f64 / f64::from(degree)
}

/// All ranks in one group, with every sequence that it still has room for.
fn one_group(sequences: &[Sequence], ranks: &Ranks) -> Formed {
    let mut tokens = 0.0;
    let (taken, left) = sequences.iter().partition(|sequence| {
        let with_it = tokens + sequence.seq_len.as_f64() / f64::from(ranks.num);
        let has_room = with_it <= ranks.tokens_per_rank.as_f64();
        if has_room {
            tokens = with_it;
        }
        has_room
    });
    let group = RankGroup {
        degree: ranks.num,
        sequences: taken,
    };
    Formed {
        groups: vec![group],
        left,
    }
}
