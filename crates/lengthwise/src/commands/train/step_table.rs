//! One line a step, in columns; a narrow terminal gets fewer.

use console::truncate_str;
use lengthwise_train::StepRecord;

/// A column, in the order they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Step,
    Loss,
    /// Of held-out data, where it was computed after the step.
    Validation,
    GradientNorm,
    Sequences,
    Tokens,
    Predicted,
    Measured,
    Error,
    Speed,
    PlanWait,
    Plan,
}

use Column::{
    Error, GradientNorm, Loss, Measured, Plan, PlanWait, Predicted, Sequences, Speed, Step, Tokens,
    Validation,
};

const ALL: [Column; 12] = [
    Step,
    Loss,
    Validation,
    GradientNorm,
    Sequences,
    Tokens,
    Predicted,
    Measured,
    Error,
    Speed,
    PlanWait,
    Plan,
];

/// Which column goes first where there is no room.
const DISPENSABLE: [Column; 8] = [
    PlanWait,
    Error,
    Sequences,
    GradientNorm,
    Predicted,
    Tokens,
    Measured,
    Speed,
];

/// What stands where nothing is known.
const UNKNOWN: &str = "–";

/// Room that a plan should have.
const PLAN_WIDTH: usize = 12;

const GAP: usize = 2;

/// The columns that fit a terminal, or all of them.
#[derive(Clone, Debug)]
pub struct StepTable {
    num_steps: u64,
    columns: Vec<Column>,
    /// What a line may take.
    width: Option<usize>,
}

impl StepTable {
    /// A table of so many steps, with a column for validation or without, for a terminal of this width.
    pub fn new(num_steps: u64, validates: bool, width: Option<usize>) -> Self {
        // Some pseudo-terminals don't know their width, and say 0.
        let width = width.filter(|&width| width > 0);
        let mut table = StepTable {
            num_steps,
            columns: (ALL.into_iter())
                .filter(|&column| validates || column != Validation)
                .collect(),
            width,
        };
        for dispensable in DISPENSABLE {
            if width.is_none_or(|width| table.needed_width() <= width) {
                break;
            }
            table.columns.retain(|&column| column != dispensable);
        }
        table
    }

    fn needed_width(&self) -> usize {
        let widths: usize = self
            .columns
            .iter()
            .map(|&column| self.column_width(column) + GAP)
            .sum();
        widths - GAP
    }

    fn column_width(&self, column: Column) -> usize {
        match column {
            Step => 2 * self.num_steps.to_string().len() + 1,
            Loss | PlanWait => 8,
            Tokens | Error => 7,
            Sequences | Predicted | Measured | Speed | GradientNorm => 9,
            Validation => 10,
            Plan => PLAN_WIDTH,
        }
    }

    /// The names of the columns.
    pub fn header(&self) -> String {
        self.line(|column| {
            match column {
                Step => "step",
                Loss => "loss",
                Validation => "validation",
                GradientNorm => "grad norm",
                Sequences => "sequences",
                Tokens => "tokens",
                Predicted => "predicted",
                Measured => "measured",
                Error => "off by",
                Speed => "tokens/s",
                PlanWait => "waited",
                Plan => "plan",
            }
            .to_owned()
        })
    }

    /// A step.
    pub fn row(&self, record: &StepRecord) -> String {
        self.line(|column| match column {
            Step => format!("{}/{}", record.step, self.num_steps),
            Loss => match record.loss {
                Some(loss) => format!("{loss:.4}"),
                None => UNKNOWN.to_owned(),
            },
            Validation => match &record.validation {
                Some(validation) => format!("{:.4}", validation.loss),
                None => String::new(),
            },
            // Of models that train well it is about 1; what is far from it must not be as wide as it is long.
            GradientNorm => match record.gradient_norm {
                norm if norm == 0.0 || (1e-3..1e5).contains(&norm) => format!("{norm:.3}"),
                norm => format!("{norm:.2e}"),
            },
            Sequences => record.num_sequences.to_string(),
            Tokens => record.num_tokens.to_string(),
            Predicted => format!("{:.3} s", record.report.predicted_step.get()),
            Measured => format!("{:.3} s", record.measured.get()),
            Error => format!("{:.1} %", 100.0 * record.recent_error),
            Speed => format!("{:.0}", record.tokens_per_second()),
            PlanWait => format!("{:.3} s", record.plan_wait.get()),
            Plan => record.plan.to_string(),
        })
    }

    fn line(&self, cell: impl Fn(Column) -> String) -> String {
        let cells: Vec<String> = self
            .columns
            .iter()
            .map(|&column| match column {
                // The last, and as long as it is.
                Plan => cell(column),
                _ => format!("{:>1$}", cell(column), self.column_width(column)),
            })
            .collect();
        let line = cells.join(&" ".repeat(GAP));
        match self.width {
            Some(width) => truncate_str(&line, width, "…").into_owned(),
            None => line,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use lengthwise_core::{
        Activations, Bytes, Degree, GlobalBatch, Group, MicroBatch, Plan, Rank, Seconds,
        SequenceIndex, Strategy,
    };
    use lengthwise_data::BatchOrigin;
    use lengthwise_plan::{Attempts, PlanReport, StopReason};
    use lengthwise_train::{RankTime, ValidationRecord};

    use super::*;

    fn plan(micro_batches: &[&[u32]]) -> Plan {
        let mut sequence = 0;
        let micro_batch = |degrees: &&[u32]| {
            let mut rank = 0;
            let group = |&degree: &u32| {
                sequence += 1;
                rank += degree;
                Group {
                    strategy: Strategy::ulysses(
                        Degree::new(degree).unwrap(),
                        Activations::Recompute,
                    ),
                    ranks: (rank - degree..rank).map(Rank).collect(),
                    sequences: vec![SequenceIndex(sequence - 1)],
                }
            };
            MicroBatch {
                groups: degrees.iter().map(group).collect(),
            }
        };
        Plan::new(micro_batches.iter().map(micro_batch).collect())
    }

    /// A step whose figures tell each other apart.
    pub fn record(step: u64) -> StepRecord {
        let seconds = |value| Seconds::new(value).unwrap();
        StepRecord {
            step,
            loss: Some(5.5 - step as f64 / 8.0),
            gradient_norm: 1.5,
            learning_rate: 0.001,
            num_sequences: 41,
            num_tokens: 49_012,
            num_labels: 49_000,
            origin: BatchOrigin {
                epoch: 2,
                num_pieces: 1,
                ..BatchOrigin::default()
            },
            batch: GlobalBatch::from_lens([40_000, 8_000, 900, 62, 50]).unwrap(),
            plan: plan(&[&[8], &[4, 2, 1, 1]]),
            predicted_groups: vec![
                vec![seconds(1.25)],
                vec![seconds(0.8), seconds(0.5), seconds(0.25), seconds(0.125)],
            ],
            predicted_overhead: seconds(0.1),
            predicted_step_overhead: seconds(0.05),
            predicted: seconds(2.3),
            costs_version: 4,
            recent_error: 0.0625,
            report: PlanReport {
                predicted_step: seconds(2.25),
                lower_bound: seconds(2.0),
                bounded_degrees: None,
                stop_reason: StopReason::Converged,
                solve_time: seconds(0.0005),
                tried: Attempts::default(),
            },
            measured: seconds(2.5),
            rank_times: vec![
                RankTime {
                    compute: seconds(1.5),
                    exchange: seconds(0.25),
                    wait: seconds(0.75),
                };
                8
            ],
            emulated: None,
            plan_wait: seconds(0.0125),
            measured_peak_memory: Bytes::from_mib(40),
            predicted_peak_memory: Bytes::from_mib(44),
            measured_peak_host_memory: Bytes::from_mib(3),
            predicted_peak_host_memory: Bytes::from_mib(4),
            num_groups: 5,
            validation: step.is_multiple_of(3).then(|| ValidationRecord {
                loss: 5.75 - step as f64 / 8.0,
                num_labels: 9_000,
                num_tokens: 9_001,
                predicted: seconds(0.25),
                measured: seconds(0.375),
            }),
        }
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns() {
        let tables = [
            None,
            Some(100),
            Some(80),
            Some(60),
            Some(30),
            Some(9),
            Some(1),
        ]
        .map(|width| {
            let table = StepTable::new(100, false, width);
            let lines = [table.header(), table.row(&record(7))];
            for line in &lines {
                assert!(
                    line.chars().count() <= width.unwrap_or(usize::MAX),
                    "{line:?} in {width:?}"
                );
            }
            format!("{width:?}\n{}\n{}", lines[0], lines[1])
        });
        insta::assert_snapshot!(tables.join("\n\n"));
    }

    #[test]
    fn losses_of_held_out_data_have_a_column_that_stays() {
        let lines = [None, Some(60)].map(|width| {
            let table = StepTable::new(100, true, width);
            [
                table.header(),
                table.row(&record(8)),
                table.row(&record(9)),
                table.row(&StepRecord {
                    loss: None,
                    num_labels: 0,
                    gradient_norm: 0.0,
                    ..record(10)
                }),
                table.row(&StepRecord {
                    gradient_norm: 123_456.0,
                    ..record(11)
                }),
            ]
            .join("\n")
        });
        insta::assert_snapshot!(lines.join("\n\n"));
    }
}
