//! What a sweep over clusters and contexts shows: where planners run out of memory, and what more devices buy.

use super::row::Row;

/// Sentences about rows of which some differ in nothing but their devices, memory or context.
pub(super) fn findings(rows: &[Row]) -> Vec<String> {
    let mut lines = out_of_memory(rows);
    lines.extend(devices(rows));
    lines
}

/// The planner without the degree that a setting gave it.
fn family(row: &Row) -> &str {
    if row.planner.starts_with("static") {
        "static"
    } else {
        &row.planner
    }
}

fn place(row: &Row) -> String {
    format!(
        "{} devices of {:.1} GiB with a context of {}",
        row.num_devices, row.device_memory_gib, row.context_tokens
    )
}

/// For every model and planner: the settings it has no plan for, and whether another planner has.
fn out_of_memory(rows: &[Row]) -> Vec<String> {
    let failing = rows.iter().filter(|row| row.error.is_some());
    failing
        .map(|row| {
            let same_setting = |other: &&Row| {
                (
                    &other.model,
                    other.num_devices,
                    other.context_tokens,
                    &other.lengths,
                ) == (
                    &row.model,
                    row.num_devices,
                    row.context_tokens,
                    &row.lengths,
                ) && other.device_memory_gib == row.device_memory_gib
            };
            let planned = rows
                .iter()
                .filter(same_setting)
                .find(|other| other.figures.is_some());
            let rest = match planned {
                Some(other) => format!("; {} has plans for what was drawn", family(other)),
                None => String::new(),
            };
            format!(
                "{} ({}): {} runs out of memory on {}{rest}",
                row.model,
                row.lengths,
                family(row),
                place(row)
            )
        })
        .collect()
}

/// For every planner: the speed-up of each number of devices over the next smaller one, and what part of linear it is.
fn devices(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    for row in rows {
        let alike = |other: &&Row| {
            (&other.model, other.context_tokens, &other.lengths)
                == (&row.model, row.context_tokens, &row.lengths)
                && other.device_memory_gib == row.device_memory_gib
                && family(other) == family(row)
                && other.num_devices < row.num_devices
                && other.figures.is_some()
        };
        let fewer = rows
            .iter()
            .filter(alike)
            .max_by_key(|other| other.num_devices);
        let (Some(fewer), Some(figures)) = (fewer, &row.figures) else {
            continue;
        };
        let Some(before) = &fewer.figures else {
            continue;
        };
        let speedup = before.simulated_s / figures.simulated_s;
        let linear = f64::from(row.num_devices) / f64::from(fewer.num_devices);
        lines.push(format!(
            "{} ({}, context {}): from {} to {} devices {} is {speedup:.2} times as fast, {:.0} % of linear",
            row.model,
            row.lengths,
            row.context_tokens,
            fewer.num_devices,
            row.num_devices,
            family(row),
            100.0 * speedup / linear
        ));
    }
    lines
}
