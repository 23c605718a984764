//! The rows of a comparison, and the formats they are printed in.

use clap::ValueEnum;
use lengthwise_core::Bytes;
use lengthwise_plan::PlannerKind;
use serde::Serialize;

use super::figures::{Figures, NoPlan};
use super::setting::{Outcome, Setting};
use super::static_degree::static_degree;
use super::text_table::TextTable;
use crate::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// To read.
    #[default]
    Table,
    /// For spreadsheets: one line a row, names of columns first.
    Csv,
    /// For programs: a list of objects.
    Json,
}

/// One planner in one setting.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) model: String,
    pub(super) num_devices: u32,
    pub(super) device_memory_gib: f64,
    pub(super) context_tokens: u64,
    pub(super) lengths: String,
    pub(super) planner: String,
    #[serde(flatten)]
    pub(super) figures: Option<Figures>,
    /// How many times as fast as the static planner of the setting.
    pub(super) speedup_over_static: Option<f64>,
    /// The same for the best degree of every batch.
    pub(super) speedup_over_batch_adaptive: Option<f64>,
    /// Whether it is for lack of memory that there are no figures.
    pub(super) out_of_memory: bool,
    /// Why there are no figures.
    pub(super) error: Option<String>,
}

/// All rows of a setting.
pub(super) fn rows(setting: &Setting, outcome: &Outcome) -> Vec<Row> {
    let step_of = |is_meant: fn(PlannerKind) -> bool| {
        let mut planners = setting.contenders.iter().zip(outcome);
        let found = planners.find(|(contender, _)| is_meant(contender.kind));
        found.and_then(|(_, figures)| figures.as_ref().ok().map(|figures| figures.simulated_s))
    };
    let of_static = step_of(|kind| matches!(kind, PlannerKind::Static(_)));
    let of_batch_adaptive = step_of(|kind| kind == PlannerKind::BatchAdaptive);
    let costs = &setting.costs;
    let memory = costs.cluster.devices().iter().map(|device| device.memory());
    let memory = memory.min().unwrap_or(Bytes(0));
    let planners = setting.contenders.iter().zip(outcome);
    planners
        .map(|(contender, result)| {
            let figures = result.as_ref().ok().copied();
            let over = |other: Option<f64>| Some(other? / figures?.simulated_s);
            let planner = match (contender.kind, static_degree(costs)) {
                (PlannerKind::Static(None), Ok(degree)) => format!("static:{degree}"),
                (kind, _) => kind.to_string(),
            };
            let planner = match &contender.part {
                Some(part) => format!("{planner} {}", part.name()),
                None => planner,
            };
            Row {
                model: costs.name.clone(),
                num_devices: costs.num_devices(),
                device_memory_gib: memory.as_f64() / (1u64 << 30) as f64,
                context_tokens: costs.context.0,
                lengths: setting.lengths.name.clone(),
                planner,
                figures,
                speedup_over_static: over(of_static),
                speedup_over_batch_adaptive: over(of_batch_adaptive),
                out_of_memory: matches!(result, Err(NoPlan::OutOfMemory(_))),
                error: result.as_ref().err().map(|why| why.reason().to_owned()),
            }
        })
        .collect()
}

/// The lines of rows in a format; what all rows of a table share comes first.
pub(super) fn lines(rows: &[Row], format: Format) -> Result<Vec<String>, Failure> {
    match format {
        Format::Table => Ok(table(rows)),
        Format::Csv => Ok(csv(rows)),
        Format::Json => serde_json::to_string_pretty(rows)
            .map(|text| vec![text])
            .map_err(|error| Failure::run(format!("the rows can't be written as JSON: {error}"))),
    }
}

/// A column of the table that says what is compared, where rows differ in it.
pub(super) type Describing = (&'static str, fn(&Row) -> String);

pub(super) const DESCRIBING: [Describing; 5] = [
    ("model", |row| row.model.clone()),
    ("devices", |row| row.num_devices.to_string()),
    ("memory", |row| format!("{:.1} GiB", row.device_memory_gib)),
    ("context", |row| row.context_tokens.to_string()),
    ("lengths", |row| row.lengths.clone()),
];

fn table(rows: &[Row]) -> Vec<String> {
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let (mut shared, mut differing): (Vec<String>, Vec<Describing>) = Default::default();
    for (name, value) in DESCRIBING {
        if rows.iter().all(|row| value(row) == value(first)) {
            shared.push(format!("{name} {}", value(first)));
        } else {
            differing.push((name, value));
        }
    }
    let mut header: Vec<&str> = differing.iter().map(|(name, _)| *name).collect();
    header.extend([
        "planner",
        "step",
        "predicted",
        "x static",
        "x batch-adaptive",
        "tokens/s/device",
        "communication",
        "idle",
        "gap",
    ]);
    let mut text = TextTable::new(&header);
    for row in rows {
        let mut cells: Vec<String> = differing.iter().map(|(_, value)| value(row)).collect();
        cells.push(row.planner.clone());
        cells.extend(figures_cells(row));
        text.row(cells);
    }
    let mut lines = Vec::new();
    if !shared.is_empty() {
        lines.push(shared.join(", "));
        lines.push(String::new());
    }
    lines.extend(text.lines());
    let mut told: Vec<&str> = Vec::new();
    for error in rows.iter().filter_map(|row| row.error.as_deref()) {
        if !told.contains(&error) {
            told.push(error);
        }
    }
    if !told.is_empty() {
        lines.push(String::new());
        lines.extend(told.iter().map(|error| format!("(no plan: {error})")));
    }
    lines
}

fn figures_cells(row: &Row) -> Vec<String> {
    let Some(figures) = &row.figures else {
        let why = if row.out_of_memory {
            "out of memory"
        } else {
            "no plan"
        };
        return vec![why.to_owned()];
    };
    let times = |speedup: Option<f64>| {
        speedup.map_or_else(|| "-".to_owned(), |speedup| format!("{speedup:.2}"))
    };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    vec![
        format!("{:.3} s", figures.simulated_s),
        format!("{:.3} s", figures.predicted_s),
        times(row.speedup_over_static),
        times(row.speedup_over_batch_adaptive),
        format!("{:.0}", figures.tokens_per_s_per_device),
        percent(figures.communication_share),
        percent(figures.idle_share),
        figures.gap.map_or_else(|| "-".to_owned(), percent),
    ]
}

fn csv(rows: &[Row]) -> Vec<String> {
    let header = "model,num_devices,device_memory_gib,context_tokens,lengths,planner,simulated_s,predicted_s,\
                  speedup_over_static,speedup_over_batch_adaptive,tokens_per_s_per_device,communication_share,idle_share,\
                  gap,solve_s,micro_batches,out_of_memory,error";
    let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    let of_row = |row: &Row| {
        let figures = row.figures.as_ref();
        [
            quoted(&row.model),
            row.num_devices.to_string(),
            row.device_memory_gib.to_string(),
            row.context_tokens.to_string(),
            quoted(&row.lengths),
            quoted(&row.planner),
            number(figures.map(|figures| figures.simulated_s)),
            number(figures.map(|figures| figures.predicted_s)),
            number(row.speedup_over_static),
            number(row.speedup_over_batch_adaptive),
            number(figures.map(|figures| figures.tokens_per_s_per_device)),
            number(figures.map(|figures| figures.communication_share)),
            number(figures.map(|figures| figures.idle_share)),
            number(figures.and_then(|figures| figures.gap)),
            number(figures.map(|figures| figures.solve_s)),
            number(figures.map(|figures| figures.micro_batches)),
            row.out_of_memory.to_string(),
            quoted(row.error.as_deref().unwrap_or_default()),
        ]
        .join(",")
    };
    let mut lines = vec![header.to_owned()];
    lines.extend(rows.iter().map(of_row));
    lines
}

/// A field of a CSV file, as RFC 4180 quotes it.
pub(super) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, field) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
        ] {
            assert_eq!(quoted(text), field);
        }
    }
}
