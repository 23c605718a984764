//! What is said of a run as a whole.

use std::collections::BTreeSet;

use lengthwise_core::{Bytes, Degree, Seconds};
use lengthwise_data::{Batches, Census};
use lengthwise_train::{StepRecord, TrainSummary, Validation};

use crate::quantity::{count, grouped};
use crate::settings::TrainSettings;

/// A machine that is later than this at emulating does not show how a cluster would fare.
const TOO_LATE: f64 = 0.05;

/// Gathers what the summary says beyond what the trainer sums up.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// Whether the run has begun its work.
    pub begun: bool,
    /// Whether costs are those of the checkpoint that was gone on from.
    pub costs_are_resumed: bool,
    census: Census,
    /// Of each of several sources, its share of all tokens and what it gives in an epoch.
    sources: Vec<(f64, Census)>,
    num_files: usize,
    num_repeated_files: u64,
    num_skipped_rows: u64,
    skipped_row: Option<String>,
    context: u64,
    device_memory: Bytes,
    first_loss: Option<f64>,
    last_loss: Option<f64>,
    num_steps: u64,
    num_labels: u64,
    /// Steps, and the losses of held-out data after them.
    best_validation: Option<(u64, f64)>,
    last_validation: Option<(u64, f64)>,
    num_validations: u64,
    degrees: BTreeSet<Degree>,
    predicted: Seconds,
    /// By the clocks of emulated devices.
    emulated: Seconds,
    /// Of the last step.
    recent_error: f64,
    /// Where costs come from, unless they are measured.
    profile: Option<String>,
    later_plan_wait: Seconds,
    predicted_peak_memory: Bytes,
    predicted_peak_host_memory: Bytes,
    /// What devices have of their hosts, where that is limited.
    host_shares: BTreeSet<Bytes>,
    epoch: u64,
}

impl RunReport {
    /// A report of a run that is about to begin.
    pub fn new(settings: &TrainSettings, batches: &Batches) -> Self {
        let devices = settings.options.cluster.devices().iter();
        let (num_skipped_rows, skipped_row) = batches.documents().skipped();
        RunReport {
            num_skipped_rows,
            skipped_row: skipped_row.map(str::to_owned),
            census: *batches.census(),
            sources: batches.sources(),
            num_files: batches.documents().num_files(),
            num_repeated_files: batches.documents().num_repeated_files(),
            context: settings.data.cut.context.0,
            profile: (settings.profile.as_ref()).map(|profile| profile.value.display().to_string()),
            device_memory: (devices.clone())
                .map(|device| device.memory())
                .min()
                .unwrap_or_default(),
            host_shares: devices
                .filter_map(|device| device.limited_host_memory())
                .collect(),
            ..RunReport::default()
        }
    }

    /// Adds a step.
    pub fn step(&mut self, record: &StepRecord) {
        if self.num_steps > 0 {
            self.later_plan_wait += record.plan_wait;
        }
        if let Some(loss) = record.loss {
            self.first_loss.get_or_insert(loss);
            self.last_loss = Some(loss);
        }
        if let Some(validation) = &record.validation {
            let evaluated = (record.step, validation.loss);
            let is_better = |&(_, best): &(u64, f64)| validation.loss < best || best.is_nan();
            if self.best_validation.as_ref().is_none_or(is_better) {
                self.best_validation = Some(evaluated);
            }
            self.last_validation = Some(evaluated);
            self.num_validations += 1;
        }
        self.num_labels += record.num_labels;
        self.num_steps += 1;
        self.degrees
            .extend(record.plan.degrees().into_iter().flatten());
        self.predicted += record.predicted;
        self.emulated += record.emulated.unwrap_or_default();
        self.recent_error = record.recent_error;
        self.predicted_peak_memory = self.predicted_peak_memory.max(record.predicted_peak_memory);
        self.predicted_peak_host_memory =
            (self.predicted_peak_host_memory).max(record.predicted_peak_host_memory);
        self.epoch = record.origin.epoch;
    }

    /// The profile that costs come from.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// What the corpus is, and what of it will not be trained on.
    pub fn corpus(&self) -> String {
        let census = &self.census;
        let mut lines = vec![format!(
            "corpus     {} in {}: {} and {} an epoch",
            count(census.num_documents, "document"),
            count(self.num_files as u64, "file"),
            count(census.num_sequences, "sequence"),
            count(census.num_tokens, "token"),
        )];
        lines.extend((1..).zip(&self.sources).map(|(number, (share, census))| {
            format!(
                "source {number:<4}{:.1} % of the tokens, from {}: {} and {} an epoch",
                100.0 * share,
                count(census.num_documents, "document"),
                count(census.num_sequences, "sequence"),
                count(census.num_tokens, "token"),
            )
        }));
        lines.extend(
            self.losses()
                .into_iter()
                .map(|loss| format!("           {loss}")),
        );
        lines.join("\n")
    }

    /// What was done to documents, each in a phrase; nothing if all are trained on as they are.
    fn losses(&self) -> Vec<String> {
        let census = &self.census;
        let context = format!("more than {} tokens", grouped(self.context));
        let phrases = [
            (
                census.num_split,
                format!("{} of {context} split", count(census.num_split, "document")),
            ),
            (
                census.num_truncated,
                format!(
                    "{} of {context} truncated, losing {}",
                    count(census.num_truncated, "document"),
                    count(census.num_cut_tokens, "token")
                ),
            ),
            (
                census.num_skipped,
                format!(
                    "{} of {context} skipped, with {}",
                    count(census.num_skipped, "document"),
                    count(census.num_skipped_tokens, "token")
                ),
            ),
            (
                census.num_short,
                format!(
                    "{} below data.min_tokens left out, with {}",
                    count(census.num_short, "sequence"),
                    count(census.num_short_tokens, "token")
                ),
            ),
            (
                census.num_empty,
                format!("{} left out as empty", count(census.num_empty, "document")),
            ),
            (
                self.num_skipped_rows,
                format!(
                    "{} skipped as corrupt, such as {}",
                    count(self.num_skipped_rows, "row"),
                    self.skipped_row.as_deref().unwrap_or("one")
                ),
            ),
            (
                self.num_repeated_files,
                format!(
                    "{} met again and taken once",
                    count(self.num_repeated_files, "file")
                ),
            ),
        ];
        phrases
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(_, phrase)| phrase)
            .collect()
    }

    /// What the run came to.
    pub fn summary(&self, summary: &TrainSummary) -> String {
        if self.num_steps == 0 {
            return "\ntrained    nothing: the checkpoint is behind the last step of train.steps"
                .to_owned();
        }
        let speed = summary.num_tokens as f64 / summary.measured.get().max(f64::MIN_POSITIVE);
        let degrees: Vec<String> = self.degrees.iter().map(Degree::to_string).collect();
        let losses = match (self.first_loss, self.last_loss) {
            (Some(first), Some(last)) => {
                format!("{first:.4} at the first step, {last:.4} at the last")
            }
            _ => "none".to_owned(),
        };
        let mut lines = vec![
            String::new(),
            format!(
                "trained    {} parameters in {}: {} of {}, {:.1} s, {} tokens/s",
                grouped(summary.num_parameters),
                count(summary.steps, "step"),
                count(summary.num_tokens, "token"),
                count(summary.num_sequences, "sequence"),
                summary.measured.get(),
                grouped(speed as u64),
            ),
            format!("loss       {losses}"),
        ];
        if self.num_labels < summary.num_tokens {
            let labels = count(self.num_labels, "label");
            lines[1] = format!("{}, {labels}", lines[1]);
        }
        lines.extend(self.validations(summary));
        lines.extend([
            format!(
                "plans      degrees {}; {} created",
                degrees.join(" "),
                count(summary.num_groups as u64, "group"),
            ),
            format!(
                "waiting    {:.3} s for plans, {:.3} s of it after the first step",
                summary.plan_wait.get(),
                self.later_plan_wait.get(),
            ),
            format!(
                "time       {:.1} s predicted, {:.1} s measured; the last predictions were off by {:.1} %",
                self.predicted.get(),
                summary.measured.get(),
                100.0 * self.recent_error,
            ),
            format!(
                "memory     {} predicted, {} measured at most, of {} a device",
                self.predicted_peak_memory, summary.measured_peak_memory, self.device_memory,
            ),
        ]);
        lines.extend(self.host_memory(summary));
        lines.push(self.epochs(summary));
        if self.emulated > Seconds::ZERO {
            lines.push(self.lateness(summary.measured));
        }
        let losses = self.losses();
        if !losses.is_empty() {
            lines.push(format!("           each epoch: {}", losses.join("; ")));
        }
        lines.join("\n")
    }
}

impl RunReport {
    /// What became of held-out data, if there was some.
    fn validations(&self, summary: &TrainSummary) -> Option<String> {
        let (last_step, last) = self.last_validation?;
        let (best_step, best) = self.best_validation?;
        let best = if best_step == last_step {
            "the best".to_owned()
        } else {
            format!("the best {best:.4} after step {best_step}")
        };
        Some(format!(
            "validation {last:.4} after the last step, {best}; {} took {:.1} s",
            count(self.num_validations, "evaluation"),
            summary.validation.get(),
        ))
    }

    /// What devices held on their hosts, if something was moved there.
    fn host_memory(&self, summary: &TrainSummary) -> Option<String> {
        let (predicted, measured) = (
            self.predicted_peak_host_memory,
            summary.measured_peak_host_memory,
        );
        let shares = &self.host_shares;
        let of_share = match (shares.first(), shares.last()) {
            (Some(least), Some(most)) if least < most => format!(", of {least} to {most} for each"),
            (Some(share), _) => format!(", of {share} for each"),
            _ => String::new(),
        };
        (predicted > Bytes(0)).then(|| {
            format!("on hosts   {predicted} predicted, {measured} measured at most for a device{of_share}")
        })
    }

    /// How often data was trained on.
    fn epochs(&self, summary: &TrainSummary) -> String {
        let sequences = count(summary.num_sequences, "sequence");
        if self.sources.is_empty() {
            return format!(
                "data       {sequences}, {:.2} epochs of {}; epoch {} at the end",
                summary.num_sequences as f64 / self.census.num_sequences.max(1) as f64,
                grouped(self.census.num_sequences),
                self.epoch,
            );
        }
        // Tokens are drawn by the shares, as far as whole sequences allow.
        let of_source = (1..).zip(&self.sources).map(|(number, (share, census))| {
            let epochs = share * summary.num_tokens as f64 / census.num_tokens.max(1) as f64;
            match number {
                1 => format!("{epochs:.2} epochs of source 1"),
                _ => format!("{epochs:.2} of source {number}"),
            }
        });
        let of_sources: Vec<String> = of_source.collect();
        format!("data       {sequences}: {}", of_sources.join(", "))
    }

    /// How well this machine kept the pace of the emulated cluster.
    fn lateness(&self, measured: Seconds) -> String {
        let emulated = self.emulated.get();
        let late = measured.get() / emulated - 1.0;
        let advice = if late > TOO_LATE {
            "; a smaller cluster.core_fraction would leave it more time"
        } else {
            ""
        };
        format!(
            "emulated   {emulated:.1} s by the devices' clocks, this machine was {:.1} % late{advice}",
            100.0 * late.max(0.0),
        )
    }
}

/// What a run is validated on, and when.
pub fn held_out(validation: &Validation) -> String {
    let sequences = validation.batches.iter().map(|batch| batch.sequences.len());
    format!(
        "validation {} and {} after every {} and the last",
        count(sequences.sum::<usize>() as u64, "sequence"),
        count(validation.num_tokens(), "token"),
        match validation.every.get() {
            1 => "step".to_owned(),
            every => count(every, "step"),
        },
    )
}
