//! Tables with the figures behind the charts, which need no scripts.

use std::fmt::Write;

use super::data::{ReportData, RunData};
use super::escape::html;
use super::quantity::{bytes, count, counted, digits, percent, seconds};
use super::run_file::Run;

/// Rows of a table of steps; of longer runs every so many-th step is shown.
const MAX_ROWS: usize = 500;

/// What stands where nothing is known.
const UNKNOWN: &str = "–";

/// The figures of a run as cards.
pub(super) fn cards(run: &RunData) -> String {
    let figures = &run.figures;
    let mut cards = String::new();
    let mut card = |name: &str, figure: String, note: String| {
        let _ = write!(
            cards,
            "<div class=\"figure\"><dt>{name}</dt><dd>{figure}<span>{note}</span></dd></div>"
        );
    };
    card(
        "trained",
        format!("{} tokens", compact(figures.num_tokens)),
        format!(
            "{} in {}",
            counted(figures.num_sequences, "sequence"),
            counted(figures.num_steps as f64, "step")
        ),
    );
    card(
        "speed",
        known(figures.tokens_per_s, |speed| {
            format!("{} tokens/s", count(speed))
        }),
        format!(
            "{} a step",
            seconds(figures.measured_s / figures.num_steps as f64)
        ),
    );
    card(
        "loss",
        known(figures.last_loss, |loss| format!("{loss:.4}")),
        format!(
            "from {}",
            known(figures.first_loss, |loss| format!("{loss:.4}"))
        ),
    );
    if let Some(loss) = figures.last_validation {
        card(
            "validation",
            format!("{loss:.4}"),
            format!(
                "best {}; took {}",
                known(figures.best_validation, |best| format!("{best:.4}")),
                seconds(figures.validation_s)
            ),
        );
    }
    card(
        "prediction",
        known(figures.prediction_error, |error| {
            format!("{} off", percent(error))
        }),
        "mean of |predicted − measured| ÷ measured".to_owned(),
    );
    card(
        "plans",
        known(figures.mean_gap, |gap| format!("{} gap", percent(gap))),
        format!(
            "solved in {}; waited {} after step 1",
            known(figures.median_solve_s, seconds),
            seconds(figures.later_plan_wait_s)
        ),
    );
    let memories = [
        (
            "memory",
            "on a device",
            figures.measured_peak_memory_bytes,
            figures.predicted_peak_memory_bytes,
        ),
        (
            "host memory",
            "for a device",
            figures.measured_peak_host_memory_bytes,
            figures.predicted_peak_host_memory_bytes,
        ),
    ];
    for (name, whose, measured, predicted) in memories {
        if let Some(peak) = measured {
            let predicted = known(predicted, |most| bytes(most as f64));
            let note = format!("at most {whose}; {predicted} predicted");
            card(name, bytes(peak as f64), note);
        }
    }
    cards
}

/// Runs beside each other.
pub(super) fn comparison(data: &ReportData) -> String {
    let slowest = data.runs.iter().filter_map(|run| run.tokens_per_s);
    let slowest = slowest.fold(f64::INFINITY, f64::min);
    let rows = data.runs.iter().map(|run| {
        let figures = &run.figures;
        let share = |part: fn(&super::figures::Shares) -> f64| {
            known(figures.shares.as_ref(), |shares| percent(part(shares)))
        };
        vec![
            html(&run.name),
            run.planner
                .as_deref()
                .map_or_else(|| UNKNOWN.to_owned(), html),
            count(figures.num_steps as f64),
            known(figures.tokens_per_s, count),
            known(run.tokens_per_s, |speed| format!("{:.2}", speed / slowest)),
            seconds(figures.measured_s / figures.num_steps as f64),
            known(figures.prediction_error, percent),
            known(figures.last_loss, |loss| format!("{loss:.4}")),
            known(figures.last_validation, |loss| format!("{loss:.4}")),
            share(|shares| shares.compute),
            share(|shares| shares.exchange),
            share(|shares| shares.wait),
            known(figures.measured_peak_memory_bytes, |peak| {
                bytes(peak as f64)
            }),
            known(figures.groups_created, |groups| count(groups as f64)),
        ]
    });
    table(
        &[
            "run",
            "planner",
            "steps",
            "tokens/s",
            "to the slowest",
            "mean step",
            "prediction off",
            "last loss",
            "last validation",
            "compute",
            "exchange",
            "waiting",
            "peak memory",
            "groups created",
        ],
        2,
        rows,
    )
}

/// A run step by step.
pub(super) fn steps(run: &Run) -> String {
    let stride = run.steps.len().div_ceil(MAX_ROWS);
    let last = run.steps.len() - 1;
    let shown = run.steps.iter().enumerate();
    let shown = shown.filter(|(at, _)| at % stride == 0 || *at == last);
    let rows = shown.map(|(_, step)| {
        let shares = super::figures::Shares::of(std::slice::from_ref(step));
        let share =
            |part: fn(super::figures::Shares) -> f64| known(shares, |shares| percent(part(shares)));
        vec![
            step.step.to_string(),
            known(step.loss, |loss| format!("{loss:.6}")),
            known(step.validation.as_ref().and_then(|one| one.loss), |loss| {
                format!("{loss:.6}")
            }),
            known(step.gradient_norm, |norm| format!("{norm:.4}")),
            count(step.sequences as f64),
            count(step.tokens as f64),
            format!("{:.6}", step.predicted_s),
            format!("{:.6}", step.took_s()),
            known(step.lower_bound_s, |bound| format!("{bound:.6}")),
            known(step.gap, percent),
            format!("{:.6}", step.plan_wait_s),
            share(|shares| shares.compute),
            share(|shares| shares.exchange),
            share(|shares| shares.wait),
            step.plan.len().to_string(),
        ]
    });
    table(
        &[
            "step",
            "loss",
            "validation",
            "gradient norm",
            "sequences",
            "tokens",
            "predicted s",
            "measured s",
            "bound s",
            "gap",
            "plan wait s",
            "compute",
            "exchange",
            "waiting",
            "micro-batches",
        ],
        0,
        rows,
    )
}

/// The lengths of a run.
pub(super) fn lengths(run: &RunData) -> String {
    let bins = &run.lengths;
    let sequences: f64 = bins.iter().map(|bin| bin.sequences() as f64).sum();
    let tokens: f64 = bins.iter().map(|bin| bin.tokens() as f64).sum();
    let rows = bins.iter().map(|bin| {
        let degrees = bin.degrees.iter();
        let degrees = degrees.map(|count| format!("{} × {}", count.sequences, count.degree));
        vec![
            format!("{} to {}", count(bin.from as f64), count(bin.to as f64)),
            count(bin.sequences() as f64),
            percent(bin.sequences() as f64 / sequences.max(1.0)),
            count(bin.tokens() as f64),
            percent(bin.tokens() as f64 / tokens.max(1.0)),
            degrees.collect::<Vec<_>>().join(", "),
        ]
    });
    table(
        &[
            "tokens of a sequence",
            "sequences",
            "of all",
            "tokens",
            "of all",
            "sequences × degree",
        ],
        1,
        rows,
    )
}

/// What ranks did in a trace.
pub(super) fn traces(data: &ReportData) -> String {
    let lanes = data
        .traces
        .iter()
        .flat_map(|trace| trace.lanes.iter().map(move |lane| (trace, lane)));
    let rows = lanes.map(|(trace, lane)| {
        let totals = lane.totals.map(|total| format!("{total:.6}"));
        let mut row = vec![html(&trace.name), html(&lane.name)];
        row.extend(totals);
        row
    });
    table(
        &[
            "trace",
            "rank",
            "compute s",
            "exchange s",
            "waiting s",
            "overhead s",
        ],
        2,
        rows,
    )
}

/// A table whose first `num_texts` columns are text.
fn table(columns: &[&str], num_texts: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = String::from("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
    let class = |column| {
        if column < num_texts {
            " class=\"text\""
        } else {
            ""
        }
    };
    for (column, name) in columns.iter().enumerate() {
        let _ = write!(table, "<th scope=\"col\"{}>{name}</th>", class(column));
    }
    table.push_str("</tr></thead><tbody>\n");
    for row in rows {
        table.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(table, "<td{}>{cell}</td>", class(column));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table></div>");
    table
}

fn known<T>(figure: Option<T>, written: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), written)
}

/// `1.23 M`, for large counts in little room.
fn compact(number: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)];
    match UNITS.iter().find(|&&(_, unit)| number >= unit * 10.0) {
        Some((name, unit)) => format!("{} {name}", digits(number / unit)),
        None => count(number),
    }
}
