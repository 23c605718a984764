//! The page: its parts in order, with everything it needs inside.

use std::fmt::Write;

use super::data::ReportData;
use super::escape::{html, json_in_script};
use super::run_file::Run;
use super::tables;
use crate::failure::Failure;

const STYLE: &str = include_str!("assets/page.css");

/// In the order in which they build on each other.
const SCRIPTS: [&str; 9] = [
    include_str!("assets/text.js"),
    include_str!("assets/marks.js"),
    include_str!("assets/frame.js"),
    include_str!("assets/lines.js"),
    include_str!("assets/bars.js"),
    include_str!("assets/lengths.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/trace.js"),
    include_str!("assets/main.js"),
];

/// Nothing may be loaded from anywhere, whatever a run's names hold.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// The whole file.
pub(super) fn page(data: &ReportData, runs: &[Run]) -> Result<String, Failure> {
    let json = serde_json::to_string(data)
        .map_err(|error| Failure::run(format!("the report's data can't be written: {error}")))?;
    let title = html(&data.title);
    let scripts = SCRIPTS.concat();
    let body = body(data, runs);
    let data = json_in_script(&json);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} – Lengthwise</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>\n\"use strict\";\n(() => {{\n{scripts}}})();\n</script>\n</body>\n</html>\n"
    ))
}

fn body(data: &ReportData, runs: &[Run]) -> String {
    let mut body = String::new();
    let num_runs = match runs.len() {
        1 => "one run".to_owned(),
        many => format!("{many} runs"),
    };
    let _ = write!(
        body,
        "<header><p class=\"brand\">Lengthwise report · {num_runs}</p><h1>{}</h1></header>\n<main>\n\
         <noscript><p class=\"card\">Charts need scripts; the tables below hold their figures.</p></noscript>\n",
        html(&data.title)
    );
    body.push_str("<div id=\"figures\">\n");
    for (index, run) in data.runs.iter().enumerate() {
        let planner = run.planner.as_deref().map_or(String::new(), |planner| {
            format!(" <span class=\"planner\">{}</span>", html(planner))
        });
        let _ = writeln!(
            body,
            "<section class=\"card run\" data-run=\"{index}\" aria-label=\"figures of a run\">\
             <h2><i class=\"key run-{}\"></i>{}{planner}</h2><dl class=\"figures\">{}</dl></section>",
            index % 6,
            html(&run.name),
            tables::cards(run)
        );
    }
    body.push_str("</div>\n");
    let has_plans = data.runs.iter().any(|run| !run.plans.is_empty()) || !data.plans.is_empty();
    if runs.len() > 1 {
        section(
            &mut body,
            "comparison",
            "Runs beside each other",
            "Tokens trained on in a second, and how often as fast as the slowest run.",
            &details("exact figures", &tables::comparison(data)),
        );
    }
    let is_emulated = |run: &Run| run.steps.iter().any(|step| step.emulated_s.is_some());
    let emulated = if runs.iter().any(is_emulated) {
        ", by the devices' clocks where they are emulated"
    } else {
        ""
    };
    section(
        &mut body,
        "times",
        "Predicted and measured time of each step",
        &format!(
            "Solid: measured{emulated}. Dashed: predicted before the step ran. Choose a step to see its plan."
        ),
        "",
    );
    body.push_str("<div class=\"pair\">\n");
    section(
        &mut body,
        "agreement",
        "Measured against predicted",
        "A dot is a step. On the diagonal a step took what was predicted; above it, longer.",
        "",
    );
    section(
        &mut body,
        "loss",
        "Loss",
        if data
            .runs
            .iter()
            .any(|run| run.figures.last_validation.is_some())
        {
            "Mean loss of a label before the update, in nats. Squares: of held-out data after the step."
        } else {
            "Mean loss of a label before the update, in nats."
        },
        "",
    );
    body.push_str("</div>\n");
    let has_norms = |run: &Run| run.steps.iter().any(|step| step.gradient_norm.is_some());
    if runs.iter().any(has_norms) {
        section(
            &mut body,
            "gradient",
            "Gradient norm",
            "Norm of the gradient over all parameters, before it is clipped.",
            "",
        );
    }
    if data.runs.iter().any(|run| run.figures.shares.is_some()) {
        section(
            &mut body,
            "shares",
            "Where the ranks' time went",
            "Parts of the time of all ranks: computing, passing data on, waiting for other ranks.",
            "",
        );
    }
    if has_plans {
        section(
            &mut body,
            "plan",
            "The plan of a step",
            "Ranks from top to bottom, predicted time from left to right; a block is a group with the sequences it shares.",
            "",
        );
    }
    let with_lengths = data.runs.iter().filter(|run| !run.lengths.is_empty());
    let length_tables: String = with_lengths
        .map(|run| details(&html(&run.name), &tables::lengths(run)))
        .collect();
    if !length_tables.is_empty() {
        section(
            &mut body,
            "lengths",
            "Lengths, and the degrees they ran at",
            "How sequences and their tokens are spread over lengths, and how many ranks shared them.",
            &length_tables,
        );
    }
    if !data.traces.is_empty() {
        section(
            &mut body,
            "trace",
            "What every rank did",
            "Steps as they were traced or simulated: what computes, what is passed on without computing meanwhile, what waits.",
            &details("seconds of each rank", &tables::traces(data)),
        );
    }
    let steps = runs
        .iter()
        .map(|run| details(&html(&run.name), &tables::steps(run)));
    let steps: String = steps.collect();
    let _ = write!(
        body,
        "<section class=\"card\" id=\"steps\"><h2>All steps in figures</h2>{steps}</section>\n</main>\n\
         <footer>Written by lengthwise {}. This page loads nothing and works without a network.</footer>\n\
         <div id=\"tooltip\" role=\"tooltip\" hidden></div>\n",
        env!("CARGO_PKG_VERSION")
    );
    body
}

/// A titled card with a place for a chart.
fn section(body: &mut String, id: &str, title: &str, explanation: &str, after: &str) {
    let _ = writeln!(
        body,
        "<section class=\"card\" id=\"{id}\"><h2>{title}</h2><p>{explanation}</p>\
         <div class=\"chart\" data-chart=\"{id}\"></div>{after}</section>"
    );
}

fn details(title: &str, content: &str) -> String {
    format!("<details><summary>Table: {title}</summary>{content}</details>")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::metrics::StepMetrics;

    /// A page in which every text that files can hold is `text`.
    fn page_of(text: &str) -> String {
        let line = super::super::run_file::tests::line(&[]);
        let step: StepMetrics = serde_json::from_str(&line).unwrap();
        let run = Run {
            name: text.to_owned(),
            path: std::path::PathBuf::new(),
            steps: vec![StepMetrics {
                planner: Some(text.to_owned()),
                ..step
            }],
        };
        let mut plan = super::super::timeline::Timeline::of(&run.steps[0]).unwrap();
        plan.name = text.to_owned();
        let trace = super::super::trace_file::Trace {
            name: text.to_owned(),
            step: None,
            end_s: 1.0,
            lanes: vec![super::super::trace_file::Lane {
                name: text.to_owned(),
                totals: [1.0, 0.0, 0.0, 0.0],
                bars: vec![(0.0, 1.0, 0)],
            }],
            num_left_out: 0,
            is_merged: false,
        };
        let runs = [run];
        let data = ReportData::new(Some(text), &runs, vec![plan], vec![trace], None);
        page(&data, &runs).unwrap()
    }

    /// What opens and closes, in order: a text that broke out would add to it.
    fn tags(page: &str) -> Vec<&str> {
        let starts = page.match_indices('<');
        let tags = starts.map(|(at, _)| {
            let rest = &page[at..];
            let end = rest.find([' ', '>', '\n']).unwrap_or(rest.len());
            &rest[..end]
        });
        tags.collect()
    }

    fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("</script><script>alert(1)</script>".to_owned()),
            Just("<!--<script>".to_owned()),
            Just("</title></style></noscript>".to_owned()),
            Just("' onfocus='alert(1)' x=\"".to_owned()),
            Just("\\u003c/script\\u003e".to_owned()),
            Just("]]>&lt;\u{2028}\0\u{fffe}".to_owned()),
            any::<String>(),
        ];
        proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn no_text_of_a_run_breaks_out_of_the_page(text in hostile()) {
            let (page, harmless) = (page_of(&text), page_of("harmless"));
            prop_assert_eq!(tags(&page), tags(&harmless));
            prop_assert_eq!(page.matches('"').count() % 2, harmless.matches('"').count() % 2);
            let from = page.find("id=\"data\">").unwrap() + 10;
            let json = &page[from..from + page[from..].find("</script>").unwrap()];
            let data: Value = serde_json::from_str(json).unwrap();
            for place in ["/title", "/runs/0/name", "/runs/0/planner", "/plans/0/name", "/traces/0/lanes/0/name"] {
                prop_assert_eq!(data.pointer(place).and_then(Value::as_str), Some(text.as_str()));
            }
        }
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let page = page_of("harmless");
        // A namespace is a name, not an address.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for asking in [
            "http:", "https:", "src=", "href=", "@import", "fetch(", "import(",
        ] {
            assert!(!page.contains(asking), "{asking} is in the page");
        }
    }
}
