//! All that the page's scripts draw, put together from what was read.

use serde::Serialize;

use super::figures::Figures;
use super::histogram::{LengthBin, length_bins};
use super::run_file::Run;
use super::series::{Series, series};
use super::timeline::Timeline;
use super::trace_file::Trace;

/// The data of a report; what is serialised are the keys that the page's scripts read.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ReportData {
    pub(super) title: String,
    pub(super) runs: Vec<RunData>,
    /// Plans that no run belongs to.
    pub(super) plans: Vec<Timeline>,
    pub(super) traces: Vec<Trace>,
    /// The step whose plan is shown first.
    pub(super) asked_step: Option<u64>,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RunData {
    pub(super) name: String,
    pub(super) planner: Option<String>,
    #[serde(skip)]
    pub(super) figures: Figures,
    pub(super) tokens_per_s: Option<f64>,
    pub(super) series: Series,
    pub(super) plans: Vec<Timeline>,
    pub(super) lengths: Vec<LengthBin>,
}

impl ReportData {
    /// The report of these runs, plans and traces.
    pub(super) fn new(
        title: Option<&str>,
        runs: &[Run],
        plans: Vec<Timeline>,
        traces: Vec<Trace>,
        asked_step: Option<u64>,
    ) -> Self {
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        let title = title.map_or_else(|| names.join(" and "), str::to_owned);
        ReportData {
            title,
            runs: runs
                .iter()
                .map(|run| RunData::new(run, asked_step))
                .collect(),
            plans,
            traces,
            asked_step,
        }
    }
}

impl RunData {
    fn new(run: &Run, asked_step: Option<u64>) -> Self {
        let figures = Figures::of(run);
        let (series, plans) = series(&run.steps, asked_step);
        RunData {
            name: run.name.clone(),
            planner: run.steps.iter().find_map(|step| step.planner.clone()),
            tokens_per_s: figures.tokens_per_s,
            figures,
            series,
            plans,
            lengths: length_bins(&run.steps),
        }
    }
}
