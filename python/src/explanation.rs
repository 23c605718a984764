//! What a length needs and may use, as Python has it.

use lengthwise_core::{Bytes, Seconds, Strategy as CoreStrategy, Tokens};
use lengthwise_cost::{Span, TimeParts};
use lengthwise_plan::{Choice as PlanChoice, Obstacle};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::strategy::Strategy;

/// A strategy for one sequence, in a group of its own.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Choice(PlanChoice);

#[pymethods]
impl Choice {
    /// Strategy: How the group would share the sequence.
    #[getter]
    fn strategy(&self) -> Strategy {
        Strategy(self.0.strategy)
    }

    /// int: The number of its ranks.
    #[getter]
    fn degree(&self) -> u32 {
        self.0.strategy.degree().get()
    }

    /// bool: Whether it would be on more than one node, as no node has room for it.
    #[getter]
    fn crosses_nodes(&self) -> bool {
        self.0.span == Span::ManyNodes
    }

    /// float: What the sequence would take, in seconds, without what a micro-batch takes in addition.
    #[getter]
    fn predicted_s(&self) -> f64 {
        self.0.predicted_time.get()
    }

    /// float: The part of that for computing, in seconds.
    #[getter]
    fn compute_s(&self) -> f64 {
        let TimeParts {
            dense, attention, ..
        } = self.0.predicted_parts;
        (dense + attention).get()
    }

    /// float: The part of that for exchanges inside the group, in seconds.
    #[getter]
    fn exchange_s(&self) -> f64 {
        self.0.predicted_parts.exchange.get()
    }

    /// float: What it would take of all devices of the group together, in seconds.
    #[getter]
    fn device_s(&self) -> f64 {
        self.0.device_time().get()
    }

    /// int: What each device would need for the sequence, in bytes.
    #[getter]
    fn memory_bytes(&self) -> u64 {
        self.0.predicted_memory.0
    }

    /// int: What the devices with most memory have for sequences, in bytes.
    #[getter]
    fn budget_bytes(&self) -> u64 {
        self.0.budget.0
    }

    /// int: What each device would need for it in its host's memory, in bytes.
    #[getter]
    fn host_memory_bytes(&self) -> u64 {
        self.0.predicted_host_memory.0
    }

    /// int or None: What the devices have for sequences of their hosts, in bytes; None where nothing limits it.
    #[getter]
    fn host_budget_bytes(&self) -> Option<u64> {
        let budget = self.0.host_budget;
        (budget < Bytes(u64::MAX)).then_some(budget.0)
    }

    /// bool: Whether a plan may use it.
    #[getter]
    fn is_possible(&self) -> bool {
        self.0.obstacle.is_none()
    }

    /// str or None: Why not, where a plan may not use it.
    #[getter]
    fn obstacle(&self) -> Option<String> {
        self.0.obstacle.as_ref().map(Obstacle::to_string)
    }

    fn __repr__(&self) -> String {
        let named = Named {
            exchange: self.0.strategy.ring_degree().get() > 1,
            activations: true,
        };
        format!("Choice({})", line(&self.0, named))
    }
}

/// The parts of a strategy that are named beside its degree: those by which choices differ.
#[derive(Clone, Copy)]
struct Named {
    exchange: bool,
    activations: bool,
}

/// What a choice costs.
fn line(choice: &PlanChoice, named: Named) -> String {
    let exchange = match named.exchange {
        true => exchange(choice.strategy),
        false => String::new(),
    };
    let activations = match named.activations {
        true => format!(" ({})", choice.strategy.activations()),
        false => String::new(),
    };
    let nodes = match choice.span {
        Span::OneNode => "",
        Span::ManyNodes => " across nodes",
    };
    let costs = format!(
        "degree {}{exchange}{activations}{nodes}: {}, {}",
        choice.strategy.degree(),
        choice.predicted_time,
        choice.predicted_memory
    );
    let costs = match choice.predicted_host_memory {
        Bytes(0) => costs,
        on_host => format!("{costs}, {on_host} of its host"),
    };
    match &choice.obstacle {
        None => costs,
        Some(obstacle) => format!("{costs}; not possible: {obstacle}"),
    }
}

/// How the ranks of a group exchange; one rank has nobody to exchange with.
fn exchange(strategy: CoreStrategy) -> String {
    match (
        strategy.ulysses_degree().get(),
        strategy.ring_degree().get(),
    ) {
        (1, 1) => String::new(),
        (_, 1) => " by ulysses".to_owned(),
        (1, _) => " by ring".to_owned(),
        (ulysses, ring) => format!(" by ulysses {ulysses} and ring {ring}"),
    }
}

/// What a length needs and may use: every degree with its time and memory, and why it can't be used, where it can't.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Explanation {
    seq_len: Tokens,
    choices: Vec<PlanChoice>,
    reason: Option<String>,
}

impl Explanation {
    /// `reason` says why there is no group for the sequence, if there is none.
    pub(crate) fn new(seq_len: Tokens, choices: Vec<PlanChoice>, reason: Option<String>) -> Self {
        Explanation {
            seq_len,
            choices,
            reason,
        }
    }

    fn possible(&self) -> impl Iterator<Item = &PlanChoice> {
        self.choices
            .iter()
            .filter(|choice| choice.obstacle.is_none())
    }

    /// What degrees alone do not say of these choices.
    fn named(&self) -> Named {
        let strategies = || self.choices.iter().map(|choice| choice.strategy);
        let mut activations = strategies().map(CoreStrategy::activations);
        let first = activations.next();
        Named {
            exchange: strategies().any(|strategy| strategy.ring_degree().get() > 1),
            activations: activations.any(|other| Some(other) != first),
        }
    }

    fn least(&self, of: impl Fn(&PlanChoice) -> Seconds) -> Option<&PlanChoice> {
        let by_time = |a: &&PlanChoice, b: &&PlanChoice| of(a).get().total_cmp(&of(b).get());
        self.possible().min_by(by_time)
    }
}

#[pymethods]
impl Explanation {
    /// int: The length in tokens.
    #[getter]
    fn seq_len(&self) -> u64 {
        self.seq_len.0
    }

    /// tuple of Choice: All strategies, by increasing degree.
    #[getter]
    fn choices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let choices = self.choices.iter().cloned().map(Choice);
        PyTuple::new(py, choices.collect::<Vec<Choice>>())
    }

    /// int or None: The smallest degree that a plan may use; None if there is none.
    #[getter]
    fn needed_degree(&self) -> Option<u32> {
        let needed = self.possible().next();
        needed.map(|choice| choice.strategy.degree().get())
    }

    /// tuple of int: The degrees that a plan may use, increasing.
    #[getter]
    fn possible_degrees<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let degrees = self.possible().map(|choice| choice.strategy.degree().get());
        let mut degrees: Vec<u32> = degrees.collect();
        degrees.dedup();
        PyTuple::new(py, degrees)
    }

    /// Choice or None: The one that takes least of all devices of its group together, which planners prefer.
    #[getter]
    fn cheapest(&self) -> Option<Choice> {
        self.least(PlanChoice::device_time).cloned().map(Choice)
    }

    /// Choice or None: The one that is done first.
    #[getter]
    fn fastest(&self) -> Option<Choice> {
        let fastest = self.least(|choice| choice.predicted_time);
        fastest.cloned().map(Choice)
    }

    /// str or None: Why there is no group for the sequence, if there is none.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn __repr__(&self) -> String {
        match (self.possible().next(), self.cheapest(), self.fastest()) {
            (Some(needed), Some(cheapest), Some(fastest)) => format!(
                "Explanation({} tokens need degree {}; cheapest {}; fastest {})",
                self.seq_len,
                needed.strategy.degree(),
                line(&cheapest.0, self.named()),
                line(&fastest.0, self.named()),
            ),
            _ => format!("Explanation({} tokens fit no group)", self.seq_len),
        }
    }

    fn __str__(&self) -> String {
        let mut lines = vec![match (&self.reason, self.possible().next()) {
            (_, Some(needed)) => {
                let needed = needed.strategy.degree();
                format!("{} tokens need degree {needed}", self.seq_len)
            }
            (Some(reason), None) => reason.clone(),
            (None, None) => format!("{} tokens fit no group", self.seq_len),
        }];
        let degree_of = |choice: Option<&PlanChoice>| choice.map(|choice| choice.strategy);
        let cheapest = degree_of(self.least(PlanChoice::device_time));
        let fastest = degree_of(self.least(|choice| choice.predicted_time));
        let named = self.named();
        for choice in &self.choices {
            let is = |other: Option<_>| other == Some(choice.strategy);
            let marks = match (is(cheapest), is(fastest)) {
                (true, true) => "  (cheapest, fastest)",
                (true, false) => "  (cheapest)",
                (false, true) => "  (fastest)",
                (false, false) => "",
            };
            lines.push(format!("  {}{marks}", line(choice, named)));
        }
        lines.join("\n")
    }
}
