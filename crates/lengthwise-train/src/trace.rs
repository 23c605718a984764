//! From what ranks have noted, each for itself, to the events of a step.

use std::collections::HashMap;

use lengthwise_core::{Activity, Rank, Seconds, TraceEvent};

use crate::timeline::{CallKey, Note, RankNotes};

/// The events of a step, rank by rank; times count from when the first rank began.
///
/// A rank that waits for a call waits for others until the last of them has come to it, and for what is on its way
/// from then on: as in a simulated step.
pub(crate) fn events(ranks: &[RankNotes]) -> Vec<TraceEvent> {
    let began = ranks
        .iter()
        .filter_map(|rank| rank.notes.first())
        .map(|note| note.start)
        .reduce(|a, b| if b < a { b } else { a })
        .unwrap_or(Seconds::ZERO);
    let mut last_arrivals: HashMap<&CallKey, Seconds> = HashMap::new();
    for (call, arrival) in ranks.iter().flat_map(|rank| &rank.arrivals) {
        let last = last_arrivals.entry(call).or_insert(*arrival);
        *last = last.max(*arrival);
    }
    let mut events = Vec::new();
    for (rank, noted) in (0..).map(Rank).zip(ranks) {
        for note in &noted.notes {
            let on_its_way = match &note.call {
                Some(call) if note.activity != Activity::Wait => {
                    last_arrivals.get(call).copied().unwrap_or(note.start)
                }
                _ => note.start,
            };
            let on_its_way = if on_its_way > note.end {
                note.end
            } else {
                on_its_way.max(note.start)
            };
            let mut add = |activity, start: Seconds, end: Seconds| {
                if end > start {
                    events.push(event(rank, note, activity, (start - began, end - began)));
                }
            };
            add(Activity::Wait, note.start, on_its_way);
            add(note.activity, on_its_way, note.end);
        }
    }
    events
}

fn event(
    rank: Rank,
    note: &Note,
    activity: Activity,
    (start, end): (Seconds, Seconds),
) -> TraceEvent {
    TraceEvent {
        rank,
        activity,
        start,
        duration: end - start,
        micro_batch: note.site.micro_batch,
        layer: note.site.layer,
        pass: note.site.pass,
        load: note.site.load,
        bytes: note.bytes.filter(|_| activity == note.activity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Site;

    fn seconds(seconds: f64) -> Seconds {
        Seconds::new(seconds).unwrap()
    }

    fn note(activity: Activity, start: f64, end: f64, call: Option<u64>) -> Note {
        Note {
            activity,
            site: Site {
                micro_batch: Some(0),
                layer: None,
                pass: None,
                load: None,
            },
            start: seconds(start),
            end: seconds(end),
            call: call.map(key),
            bytes: None,
        }
    }

    fn key(number: u64) -> CallKey {
        CallKey {
            members: [Rank(0), Rank(1)].into(),
            number,
        }
    }

    /// Rank 0 comes to an exchange at 12, rank 1 at 13; both have it at 15. A gather that both came to before is
    /// waited for from 15 to 16.
    #[test]
    fn ranks_wait_for_others_until_the_last_has_come() {
        let rank = |arrives: f64| RankNotes {
            notes: vec![
                note(Activity::Dense, 10.0, arrives, None),
                note(Activity::Exchange, arrives, 15.0, Some(1)),
                note(Activity::Gather, 15.0, 16.0, Some(0)),
            ],
            arrivals: vec![(key(0), seconds(10.0)), (key(1), seconds(arrives))],
        };
        let events: Vec<_> = events(&[rank(12.0), rank(13.0)])
            .iter()
            .map(|event| {
                let (start, end) = (event.start.get(), event.end().get());
                (event.rank.0, event.activity, start, end)
            })
            .collect();
        assert_eq!(
            events,
            [
                (0, Activity::Dense, 0.0, 2.0),
                (0, Activity::Wait, 2.0, 3.0),
                (0, Activity::Exchange, 3.0, 5.0),
                (0, Activity::Gather, 5.0, 6.0),
                (1, Activity::Dense, 0.0, 3.0),
                (1, Activity::Exchange, 3.0, 5.0),
                (1, Activity::Gather, 5.0, 6.0),
            ]
        );
    }

    #[test]
    fn ranks_that_are_done_with_a_call_before_the_last_has_come_only_wait() {
        let early = RankNotes {
            notes: vec![note(Activity::Scatter, 0.0, 2.0, Some(0))],
            arrivals: vec![(key(0), seconds(0.0))],
        };
        let late = RankNotes {
            notes: vec![note(Activity::Dense, 0.0, 3.0, None)],
            arrivals: vec![(key(0), seconds(3.0))],
        };
        let activities: Vec<_> = events(&[early, late]).iter().map(|e| e.activity).collect();
        assert_eq!(activities, [Activity::Wait, Activity::Dense]);
        assert!(events(&[]).is_empty());
    }
}
