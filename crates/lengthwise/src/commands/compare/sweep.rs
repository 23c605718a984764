//! What a sweep over clusters and contexts shows: where planners run out of memory, and what more devices buy.

use super::row::{DESCRIBING, Describing, Row};

/// Sentences about rows that differ in their devices, memory or context.
pub(super) fn findings(rows: &[Row]) -> Vec<String> {
    let differing: Vec<Describing> = DESCRIBING
        .into_iter()
        .filter(|(_, value)| rows.iter().any(|row| value(row) != value(&rows[0])))
        .collect();
    let mut planners: Vec<&str> = Vec::new();
    for row in rows {
        if !planners.contains(&family(row)) {
            planners.push(family(row));
        }
    }
    let mut lines = Vec::new();
    for planner in planners {
        let of_planner: Vec<&Row> = rows.iter().filter(|row| family(row) == planner).collect();
        lines.extend(out_of_memory(planner, &of_planner, &differing));
        lines.extend(more_devices(planner, &of_planner, &differing));
    }
    lines
}

/// The planner without the degree that a setting gave it.
fn family(row: &Row) -> &str {
    match row.planner.split_once(':') {
        Some(("static", _)) => "static",
        _ => &row.planner,
    }
}

/// Where a row is, in what rows differ in.
fn place(row: &Row, differing: &[Describing]) -> String {
    let parts = differing
        .iter()
        .map(|(name, value)| format!("{name} {}", value(row)));
    parts.collect::<Vec<_>>().join(", ")
}

fn out_of_memory(planner: &str, rows: &[&Row], differing: &[Describing]) -> Option<String> {
    let places: Vec<String> = rows
        .iter()
        .filter(|row| row.out_of_memory)
        .map(|row| place(row, differing))
        .collect();
    if differing.is_empty() || places.is_empty() {
        return None;
    }
    Some(format!(
        "{planner} runs out of memory at {}",
        places.join("; ")
    ))
}

/// For everything that is alike but the devices, how much faster the next larger number of them is.
fn more_devices(planner: &str, rows: &[&Row], differing: &[Describing]) -> Vec<String> {
    let others: Vec<Describing> = differing
        .iter()
        .filter(|(name, _)| *name != "devices")
        .copied()
        .collect();
    let mut places: Vec<String> = Vec::new();
    for row in rows {
        let place = place(row, &others);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut lines = Vec::new();
    for of_place in places {
        let mut steps: Vec<(u32, f64)> = rows
            .iter()
            .filter(|row| place(row, &others) == of_place)
            .filter_map(|row| Some((row.num_devices, row.figures?.simulated_s)))
            .collect();
        steps.sort_by_key(|&(num_devices, _)| num_devices);
        steps.dedup_by_key(|&mut (num_devices, _)| num_devices);
        let gains: Vec<String> = steps
            .windows(2)
            .map(|pair| {
                let [(fewer, before), (more, after)] = [pair[0], pair[1]];
                let speedup = before / after;
                let of_linear = 100.0 * speedup * f64::from(fewer) / f64::from(more);
                format!("{fewer} to {more} {speedup:.2} times as fast ({of_linear:.0} % of linear)")
            })
            .collect();
        if !gains.is_empty() {
            let at = if of_place.is_empty() {
                String::new()
            } else {
                format!(" at {of_place}")
            };
            lines.push(format!("{planner}{at}, devices {}", gains.join(", ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;

    fn row(planner: &str, num_devices: u32, step: Option<f64>) -> Row {
        Row {
            model: "m".to_owned(),
            num_devices,
            device_memory_gib: 30.0,
            context_tokens: 1000,
            lengths: "l".to_owned(),
            planner: planner.to_owned(),
            figures: step.map(|step| Figures {
                num_stopped_milps: 0,
                predicted_s: step,
                simulated_s: step,
                tokens_per_s_per_device: 1.0,
                communication_share: 0.0,
                idle_share: 0.0,
                gap: None,
                solve_s: 0.0,
                micro_batches: 1.0,
            }),
            speedup_over_static: None,
            speedup_over_batch_adaptive: None,
            out_of_memory: step.is_none(),
            error: step.is_none().then(|| "too long".to_owned()),
        }
    }

    #[test]
    fn sweeps_say_where_memory_ends_and_what_devices_buy() {
        let rows = [
            row("static", 8, None),
            row("adaptive", 8, Some(8.0)),
            row("static:16", 16, Some(10.0)),
            row("adaptive", 16, Some(4.0)),
            row("static:16", 64, Some(5.0)),
            row("adaptive", 64, Some(1.25)),
        ];
        assert_eq!(
            findings(&rows),
            [
                "static runs out of memory at devices 8",
                "static, devices 16 to 64 2.00 times as fast (50 % of linear)",
                "adaptive, devices 8 to 16 2.00 times as fast (100 % of linear), 16 to 64 3.20 times as fast (80 % of \
                 linear)",
            ]
        );
        assert!(findings(&rows[..1]).is_empty());
    }
}
