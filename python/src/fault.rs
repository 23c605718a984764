//! What goes wrong, until it is a Python exception.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lengthwise_core::words::harmless;
use lengthwise_inputs::{InputError, OwnedProblem};
use lengthwise_plan::PlanError;
use lengthwise_sim::SimError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An error that is not bound to Python yet, so that it can come from any thread.
#[derive(Debug)]
pub(crate) struct Fault {
    class: Class,
    message: String,
    hint: Option<String>,
}

/// The class of `lengthwise.errors`.
#[derive(Debug)]
enum Class {
    Input,
    InputType,
    Infeasible(Infeasible),
    Rule,
    Internal,
}

/// The sequence that fits no group.
#[derive(Debug, Default)]
struct Infeasible {
    sequence: Option<u32>,
    seq_len: Option<u64>,
    needed_degree: Option<u32>,
    predicted_memory_bytes: Option<u64>,
    budget_bytes: Option<u64>,
}

impl Fault {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Fault {
            class,
            message: harmless(&message.into()),
            hint: None,
        }
    }

    /// A value that breaks a rule.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Class::Input, message)
    }

    /// An argument of a wrong type.
    pub(crate) fn input_type(message: impl Into<String>) -> Self {
        Self::new(Class::InputType, message)
    }

    /// A rule that can't be kept, or can't be one.
    pub(crate) fn rule(message: impl Into<String>) -> Self {
        Self::new(Class::Rule, message)
    }

    /// What should never happen.
    pub(crate) fn internal(message: &str) -> Self {
        let message = format!("a fault of Lengthwise itself: {message}");
        Self::new(Class::Internal, message)
    }

    /// What would help.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as a type error.
    #[must_use]
    pub(crate) fn of_type(mut self) -> Self {
        self.class = Class::InputType;
        self
    }

    /// Why a planner has no plan for a problem.
    pub(crate) fn unplannable(problem: &OwnedProblem, error: PlanError) -> Self {
        let mut fields = Infeasible::default();
        let PlanError::DoesNotFit {
            sequence,
            seq_len,
            predicted_memory,
            budget,
            ..
        } = error
        else {
            let is_rule = matches!(
                error,
                PlanError::RuleCannotBeKept { .. }
                    | PlanError::NoPlanKeepsRules { .. }
                    | PlanError::BreaksRule { .. }
                    | PlanError::Megatron(_)
            );
            let fault = Fault::from(problem.unplannable(error));
            return if is_rule {
                Fault {
                    class: Class::Rule,
                    ..fault
                }
            } else {
                fault
            };
        };
        let told = problem.unplannable(error);
        match &told {
            // No sequence is to blame.
            InputError::FilledByModel { .. } => {}
            told => {
                fields = Infeasible {
                    sequence: Some(sequence.0),
                    seq_len: Some(seq_len.0),
                    needed_degree: match told {
                        InputError::DegreeBeyondCluster { needed, .. }
                        | InputError::DegreeBeyondChoice { needed, .. } => Some(*needed),
                        _ => None,
                    },
                    predicted_memory_bytes: Some(predicted_memory.0),
                    budget_bytes: Some(budget.0),
                };
            }
        }
        Fault {
            class: Class::Infeasible(fields),
            ..Fault::from(told)
        }
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What `work` returns; where it panics, which it never should, an error rather than the end of the process.
    pub(crate) fn catch<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|panic| Err(Fault::internal(text_of(&*panic))))
    }

    /// The exception.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        match self.exception(py) {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    }

    fn exception(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item("hint", self.hint)?;
        let name = match self.class {
            Class::Input => "InputError",
            Class::InputType => "InputTypeError",
            Class::Rule => "RuleError",
            Class::Internal => "InternalError",
            Class::Infeasible(infeasible) => {
                fields.set_item("sequence", infeasible.sequence)?;
                fields.set_item("seq_len", infeasible.seq_len)?;
                fields.set_item("needed_degree", infeasible.needed_degree)?;
                fields.set_item("predicted_memory_bytes", infeasible.predicted_memory_bytes)?;
                fields.set_item("budget_bytes", infeasible.budget_bytes)?;
                "InfeasibleError"
            }
        };
        let class = py.import("lengthwise.errors")?.getattr(name)?;
        class.call((self.message,), Some(&fields))
    }
}

impl From<InputError> for Fault {
    fn from(error: InputError) -> Self {
        let fault = Fault::input(match error.argument() {
            Some(argument) => format!("{argument}: {error}"),
            None => error.to_string(),
        });
        match error.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }
}

impl From<SimError> for Fault {
    fn from(error: SimError) -> Self {
        Fault::input(error.to_string())
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("a panic without a message")
}
