//! A plan as a picture: ranks from top to bottom, time from left to right, a block for each group in the colour of its
//! degree. Ranks whose group has ended idle until the slowest one has, and a micro-batch ends with its overhead.

use std::fmt::Write;

use lengthwise_core::{Group, Rank, Seconds, Tokens};
use lengthwise_inputs::PlanFile;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 64.0;

/// The height of all ranks, and the most of one.
const HEIGHT: f64 = 384.0;
const ROW: f64 = 26.0;

/// Later micro-batches are left out, so that a page stays small.
const MOST_BLOCKS: usize = 4000;

const IDLE: &str = "#f4f4f8";
const OVERHEAD: &str = "#d3d3df";

/// The colours of degrees 1, 2 to 3, 4 to 7 and so on, and whether text on them is white.
const COLOURS: [(&str, bool); 8] = [
    ("#fde0a6", false),
    ("#fdbb6d", false),
    ("#f98f52", false),
    ("#e9634a", true),
    ("#c93f57", true),
    ("#9b2c6b", true),
    ("#682573", true),
    ("#371d63", true),
];

/// The plan as SVG; of `num_ranks` ranks, if that is known.
pub(crate) fn svg(file: &PlanFile, num_ranks: Option<u32>) -> String {
    let all = file.plan.micro_batches();
    let groups = || all.iter().flat_map(|micro_batch| &micro_batch.groups);
    let largest = groups().flat_map(|group| &group.ranks).max();
    let num_ranks = num_ranks
        .unwrap_or(0)
        .max(largest.map_or(0, |rank| rank.0.saturating_add(1)));
    let mut num_blocks = 0;
    let shown = all.iter().take_while(|micro_batch| {
        num_blocks += micro_batch.groups.len();
        num_blocks <= MOST_BLOCKS
    });
    let num_shown = shown.count().max(1).min(all.len());
    let canvas = Canvas {
        file,
        num_shown,
        row: (HEIGHT / f64::from(num_ranks.max(1))).min(ROW),
        num_ranks,
        total_s: 0.0,
        pixels_per_s: 0.0,
    };
    canvas.scaled().draw()
}

/// Where things go.
struct Canvas<'a> {
    file: &'a PlanFile,
    num_shown: usize,
    num_ranks: u32,
    /// The height of a rank.
    row: f64,
    /// What is shown; plans that were written by hand may take no time, or more than can be counted.
    total_s: f64,
    pixels_per_s: f64,
}

impl Canvas<'_> {
    fn scaled(mut self) -> Self {
        self.total_s = (0..self.num_shown).map(|at| self.width_s(at)).sum();
        if self.has_time() {
            self.pixels_per_s = (WIDTH - LEFT - RIGHT) / self.total_s;
        }
        self
    }

    fn has_time(&self) -> bool {
        self.total_s.is_normal()
    }

    /// Seconds of a micro-batch; 1 where nothing was predicted.
    fn makespan_s(&self, micro_batch: usize) -> f64 {
        let predictions = self.file.predictions.as_ref();
        let micro_batch = predictions.and_then(|all| all.micro_batches.get(micro_batch));
        micro_batch.map_or(1.0, |micro_batch| micro_batch.predicted_makespan.get())
    }

    /// Seconds that a micro-batch is drawn with: those of its slowest group where a plan tells a shorter makespan.
    fn width_s(&self, micro_batch: usize) -> f64 {
        self.slowest_s(micro_batch)
            .max(self.makespan_s(micro_batch))
    }

    fn slowest_s(&self, micro_batch: usize) -> f64 {
        let num_groups = self.file.plan.micro_batches()[micro_batch].groups.len();
        let times = (0..num_groups).map(|group| self.group_s(micro_batch, group));
        times.fold(0.0, f64::max)
    }

    /// Seconds of a group; all of its micro-batch's where nothing was predicted.
    fn group_s(&self, micro_batch: usize, group: usize) -> f64 {
        let predictions = self.file.predictions.as_ref();
        let of = predictions.and_then(|all| all.micro_batches.get(micro_batch));
        let group = of.and_then(|of| of.groups.get(group));
        group.map_or(self.makespan_s(micro_batch), |group| {
            group.predicted_time.get()
        })
    }

    fn rows_height(&self) -> f64 {
        self.row * f64::from(self.num_ranks)
    }

    fn draw(&self) -> String {
        let height = TOP + self.rows_height() + BOTTOM;
        let title = self.title();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\
             <title>{title}</title><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"600\" fill=\"#1c1c28\">{title}</text>"
        );
        self.draw_ranks(&mut svg);
        let mut left = LEFT;
        let mut labelled_to = 0.0;
        for at in 0..self.num_shown {
            let width = self.width_s(at) * self.pixels_per_s;
            self.draw_micro_batch(&mut svg, at, left, width);
            let label = at.to_string();
            let label_width = 8.0 * label.len() as f64;
            if left + width / 2.0 - label_width / 2.0 > labelled_to {
                text(
                    &mut svg,
                    left + width / 2.0,
                    TOP - 8.0,
                    "middle",
                    "#55556a",
                    &label,
                );
                labelled_to = left + width / 2.0 + label_width;
            }
            left += width;
        }
        text(&mut svg, LEFT - 6.0, TOP - 8.0, "end", "#55556a", "rank");
        self.draw_axis(&mut svg);
        self.draw_legend(&mut svg);
        svg + "</svg>"
    }

    /// Formats of this package write no markup, but a plan's texts come from anywhere; none of them is shown.
    fn title(&self) -> String {
        let num = self.file.plan.micro_batches().len();
        let num_sequences = self.file.lengths.seq_lens().len();
        let mut title = format!(
            "{num} micro-batch{}, {num_sequences} sequence{}, {} rank{}",
            if num == 1 { "" } else { "es" },
            plural(num_sequences),
            self.num_ranks,
            plural(self.num_ranks as usize),
        );
        if let Some(predicted) = &self.file.predictions {
            let _ = write!(title, ": predicted {}", predicted.predicted_step);
            let percent = predicted.gap.map(|gap| gap * 100.0);
            if let Some(percent) = percent.filter(|percent| percent.is_finite()) {
                let _ = write!(title, ", at most {percent:.1} % above the best");
            }
        }
        if self.num_shown < num {
            let _ = write!(title, " (the first {} micro-batches)", self.num_shown);
        }
        title
    }

    fn draw_ranks(&self, svg: &mut String) {
        let step = self.rank_step();
        for rank in (0..self.num_ranks).step_by(step as usize) {
            let y = TOP + self.row * (f64::from(rank) + 0.5) + 4.0;
            text(svg, LEFT - 6.0, y, "end", "#55556a", &rank.to_string());
        }
    }

    /// Every so many ranks have a label: a power of two, with room for text.
    fn rank_step(&self) -> u32 {
        let mut step = 1;
        while self.row * f64::from(step) < 14.0 && step < self.num_ranks {
            step *= 2;
        }
        step
    }

    fn draw_micro_batch(&self, svg: &mut String, at: usize, left: f64, width: f64) {
        let height = self.rows_height();
        let _ = write!(
            svg,
            "<rect x=\"{left:.2}\" y=\"{TOP}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{IDLE}\" \
             stroke=\"#b9b9c9\" stroke-width=\"0.5\"/>"
        );
        let groups = &self.file.plan.micro_batches()[at].groups;
        let worked = self.slowest_s(at) * self.pixels_per_s;
        let _ = write!(
            svg,
            "<rect x=\"{:.2}\" y=\"{TOP}\" width=\"{:.2}\" height=\"{height:.2}\" fill=\"{OVERHEAD}\"/>",
            left + worked,
            (width - worked).max(0.0)
        );
        for (index, group) in groups.iter().enumerate() {
            let width = self.group_s(at, index) * self.pixels_per_s;
            let name = self.name(at, index, group);
            let label = format!("{} · {} seq", group.degree(), group.sequences.len());
            let (colour, is_white) = colour(group.degree().get());
            let mut ranks: Vec<Rank> = group.ranks.clone();
            ranks.sort_unstable();
            for run in ranks.chunk_by(|a, b| a.0 + 1 == b.0) {
                let (y, height) = (
                    TOP + self.row * f64::from(run[0].0),
                    self.row * run.len() as f64,
                );
                let _ = write!(
                    svg,
                    "<rect x=\"{left:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\" \
                     stroke=\"#ffffff\" stroke-width=\"{:.2}\"><title>{name}</title></rect>",
                    (self.row / 8.0).clamp(0.1, 1.0),
                );
                let degree = group.degree().to_string();
                let fits = |label: &str| 6.5 * label.chars().count() as f64 + 6.0 <= width;
                let label = [label.as_str(), degree.as_str()]
                    .into_iter()
                    .find(|label| fits(label));
                if let Some(label) = label.filter(|_| height >= 13.0) {
                    let fill = if is_white { "#ffffff" } else { "#1c1c28" };
                    text(
                        svg,
                        left + width / 2.0,
                        y + height / 2.0 + 4.0,
                        "middle",
                        fill,
                        label,
                    );
                }
            }
        }
    }

    /// What a block says of its group.
    fn name(&self, micro_batch: usize, index: usize, group: &Group) -> String {
        let all = self.file.lengths.seq_lens();
        let seq_lens = group.sequences.iter();
        let tokens: Tokens = seq_lens
            .filter_map(|sequence| all.get(sequence.index()).copied())
            .sum();
        let num_sequences = group.sequences.len();
        let mut name = format!(
            "micro-batch {micro_batch}, group {index}: degree {}, {num_sequences} sequence{}, {tokens} tokens",
            group.degree(),
            plural(num_sequences)
        );
        let predictions = self.file.predictions.as_ref();
        let of = predictions.and_then(|all| all.micro_batches.get(micro_batch));
        if let Some(predicted) = of.and_then(|of| of.groups.get(index)) {
            let (time, memory) = (predicted.predicted_time, predicted.predicted_memory);
            let _ = write!(name, ", {time}, {memory} a device");
        }
        name
    }

    fn draw_axis(&self, svg: &mut String) {
        let y = TOP + self.rows_height();
        if self.file.predictions.is_none() || !self.has_time() {
            return;
        }
        let step = round_step(self.total_s / 6.0);
        for at in (0..=6).map(|tick| f64::from(tick) * step) {
            if at > self.total_s * 1.000_001 {
                break;
            }
            let x = LEFT + at * self.pixels_per_s;
            let _ = write!(
                svg,
                "<line x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{y:.2}\" y2=\"{:.2}\" stroke=\"#8a8a9e\"/>",
                y + 4.0
            );
            let label = Seconds::new(at).map_or_else(|_| String::new(), short_time);
            let anchor = if x > WIDTH - 40.0 { "end" } else { "middle" };
            text(svg, x, y + 17.0, anchor, "#55556a", &label);
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        let groups = self.file.plan.micro_batches().iter();
        let groups = groups.flat_map(|micro_batch| &micro_batch.groups);
        let mut degrees: Vec<u32> = groups.map(|group| group.degree().get()).collect();
        degrees.sort_unstable();
        degrees.dedup();
        let y = TOP + self.rows_height() + 36.0;
        text(svg, LEFT, y + 11.0, "start", "#55556a", "degree");
        let mut entries: Vec<(&str, String)> = Vec::new();
        for of_colour in degrees.chunk_by(|a, b| a.ilog2().min(7) == b.ilog2().min(7)) {
            let label = match of_colour {
                [first, .., last] => format!("{first} to {last}"),
                only => only.iter().map(u32::to_string).collect(),
            };
            entries.push((colour(of_colour[0]).0, label));
        }
        if self.file.predictions.is_some() {
            entries.push((IDLE, "idle".to_owned()));
            entries.push((OVERHEAD, "overhead".to_owned()));
        }
        let mut x = LEFT + 50.0;
        for (colour, label) in entries {
            let _ = write!(
                svg,
                "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{colour}\" \
                 stroke=\"#b9b9c9\" stroke-width=\"0.5\"/>"
            );
            text(svg, x + 19.0, y + 11.0, "start", "#1c1c28", &label);
            x += 36.0 + 7.0 * label.len() as f64;
        }
    }
}

fn colour(degree: u32) -> (&'static str, bool) {
    COLOURS[degree.max(1).ilog2().min(7) as usize]
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, fill: &str, content: &str) {
    let _ = write!(
        svg,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{content}</text>"
    );
}

fn plural(num: usize) -> &'static str {
    if num == 1 { "" } else { "s" }
}

/// 1, 2 or 5 times a power of ten, no less than `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// A time of the axis: `1.5 s` rather than `1.500 s`.
fn short_time(time: Seconds) -> String {
    let text = time.to_string();
    match text.split_once(' ') {
        Some((number, unit)) => {
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{} {unit}", if number.is_empty() { "0" } else { number })
        }
        None => text,
    }
}
