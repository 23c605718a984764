//! Why a command ended without doing what it was asked.

use lengthwise_core::words::harmless;
use lengthwise_inputs::InputError;
use lengthwise_outputs::OutputError;

use crate::exit::Exit;

/// The one error a command ends with, and what the user can do about it. Of files that they repeat, both hold nothing that
/// a terminal would act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Something the user wrote breaks a rule; nothing was run. Exit code 2.
    pub fn input(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::BadInput,
            message: harmless(&message.into()),
            hint: None,
        }
    }

    /// The run began and could not be finished. Exit code 1.
    pub fn run(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::RunFailed,
            message: harmless(&message.into()),
            hint: None,
        }
    }

    /// All was done, but some of the results could not be written where they were to be. Exit code 3.
    pub fn unsaved(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::NotSaved,
            message: harmless(&message.into()),
            hint: None,
        }
    }

    /// A signal has asked a run to end, and its state is saved. Exit code 4.
    pub fn stopped(message: impl Into<String>) -> Self {
        Failure {
            exit: Exit::Stopped,
            message: harmless(&message.into()),
            hint: None,
        }
    }

    /// Adds advice, printed on its own `hint:` line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(harmless(&hint.into()));
        self
    }

    /// What is wrong: lowercase, no full stop, with the place, the value and the rule.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would help.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        let failure = Failure::input(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        let failure = Failure::input(match error.argument() {
            Some(argument) => format!("--{argument}: {error}"),
            None => error.to_string(),
        });
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
