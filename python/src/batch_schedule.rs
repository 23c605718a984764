//! Batches of documents of known lengths, as Python has them.

use std::num::NonZero;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lengthwise_data::{BatchSchedule as DataSchedule, Order, Position};
use pyo3::prelude::*;

use crate::batch_arguments::WrittenBatches;
use crate::census::Census;
use crate::fault::Fault;
use crate::lengths;
use crate::scheduled_batch::ScheduledBatch;
use crate::values;

/// Which sequences make which batch: an iterator of `ScheduledBatch`, as the trainer draws them.
///
/// In an epoch every sequence comes once. A batch takes sequences strictly in their order; the first that does not fit
/// begins the next batch. At the end of an epoch a batch is filled up from the next one, unless no other is wanted.
///
/// Parameters
/// ----------
/// lengths : sequence of int, array or buffer
///     The lengths of all documents in tokens; one of 0 tokens is left out.
/// context : int or str
///     The longest sequence in tokens.
/// overlong : str, default "split"
///     What becomes of longer documents: "split", "truncate" or "skip".
/// min_tokens : int or str, default 1
///     The shortest sequence.
/// tokens : int or str, optional
///     The most tokens of a batch; a single sequence may exceed it.
/// sequences : int, optional
///     The number of sequences of a batch, in place of `tokens`.
/// seed : int, optional
///     Of the order, which is another one every epoch; without, sequences come as documents do.
/// epochs : int, optional
///     After how many epochs batches end.
///
/// Raises
/// ------
/// InputError, InputTypeError
///     An argument that can't be used, or documents that give no sequence.
#[pyclass(frozen, module = "lengthwise._lengthwise")]
pub(crate) struct BatchSchedule(Mutex<DataSchedule>);

impl BatchSchedule {
    fn lock(&self) -> MutexGuard<'_, DataSchedule> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, epoch: u64, num_drawn: u64) -> Result<DataSchedule, Fault> {
        let schedule = self.lock().clone();
        Ok(schedule.starting_at(Position { epoch, num_drawn })?)
    }
}

#[pymethods]
impl BatchSchedule {
    #[new]
    #[pyo3(signature = (
        lengths,
        /,
        *,
        context,
        overlong = None,
        min_tokens = None,
        tokens = None,
        sequences = None,
        seed = None,
        epochs = None,
    ), text_signature = "(lengths, /, *, context, overlong=\"split\", min_tokens=1, tokens=None, sequences=None, seed=None, epochs=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn new(
        py: Python<'_>,
        lengths: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        overlong: Option<&Bound<'_, PyAny>>,
        min_tokens: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
        sequences: Option<&Bound<'_, PyAny>>,
        seed: Option<&Bound<'_, PyAny>>,
        epochs: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let written = WrittenBatches {
            context,
            overlong,
            min_tokens,
            tokens,
            sequences,
        };
        let (rule, size) = written.read()?;
        let seed = values::optional(seed, |seed| values::whole_within("seed", seed, 0, u64::MAX))?;
        let epochs = values::optional(epochs, |epochs| {
            values::whole_within("epochs", epochs, 1, u64::MAX)
        })?;
        let documents = lengths::read_row(lengths)?;
        let order = seed.map_or(Order::AsGiven, |seed| Order::Shuffled { seed });
        let schedule = py.detach(|| DataSchedule::new(documents, rule, size, order));
        let mut schedule = schedule.map_err(|error| Fault::from(error).raise(py))?;
        if let Some(epochs) = epochs.and_then(NonZero::new) {
            schedule = schedule.ending_after(epochs);
        }
        Ok(BatchSchedule(Mutex::new(schedule)))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> Option<ScheduledBatch> {
        py.detach(|| {
            let mut schedule = self.lock();
            let batch = schedule.next()?;
            let Position { epoch, num_drawn } = schedule.position();
            Some(ScheduledBatch {
                batch,
                position: (epoch, num_drawn),
            })
        })
    }

    /// Go on at a position.
    ///
    /// Parameters
    /// ----------
    /// epoch : int
    ///     Counted from 1.
    /// num_drawn : int
    ///     Sequences of it that are drawn already.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     No schedule of these documents comes there.
    #[pyo3(signature = (epoch, num_drawn, /))]
    fn start_at(&self, py: Python<'_>, epoch: u64, num_drawn: u64) -> PyResult<()> {
        let moved = py.detach(|| {
            let moved = self.at(epoch, num_drawn)?;
            *self.lock() = moved;
            Ok(())
        });
        moved.map_err(|fault: Fault| fault.raise(py))
    }

    /// Return the number of batches from a position to the end.
    ///
    /// Parameters
    /// ----------
    /// epoch, num_drawn : int
    ///     As for `start_at`.
    ///
    /// Returns
    /// -------
    /// int or None
    ///     None where there is no end.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     No schedule of these documents comes there.
    #[pyo3(signature = (epoch, num_drawn, /))]
    fn num_batches_after(
        &self,
        py: Python<'_>,
        epoch: u64,
        num_drawn: u64,
    ) -> PyResult<Option<u64>> {
        let num_batches = py.detach(|| Ok(self.at(epoch, num_drawn)?.num_batches_left()));
        num_batches.map_err(|fault: Fault| fault.raise(py))
    }

    /// tuple of (int, int): The epoch, counted from 1, and how many of its sequences are drawn.
    #[getter]
    fn position(&self, py: Python<'_>) -> (u64, u64) {
        let Position { epoch, num_drawn } = py.detach(|| self.lock().position());
        (epoch, num_drawn)
    }

    /// Census: What the documents become in one epoch.
    #[getter]
    fn census(&self, py: Python<'_>) -> Census {
        Census(py.detach(|| *self.lock().census()))
    }

    /// tuple of (int, int, int): The document of the longest sequence, its first token and the one after its last.
    #[getter]
    fn longest(&self, py: Python<'_>) -> (u64, u64, u64) {
        let longest = py.detach(|| self.lock().longest());
        (longest.document, longest.tokens.start, longest.tokens.end)
    }

    /// int: The longest sequence allowed, in tokens.
    #[getter]
    fn context(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().rule().context.0)
    }

    /// str: What becomes of longer documents.
    #[getter]
    fn overlong(&self, py: Python<'_>) -> String {
        py.detach(|| self.lock().rule().overlong.to_string())
    }

    /// int: The shortest sequence allowed, in tokens.
    #[getter]
    fn min_tokens(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().rule().min_tokens.0)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (position, census) = (
            py.detach(|| self.lock().position()),
            self.census(py).0.num_sequences,
        );
        format!("BatchSchedule({census} sequences an epoch, at {position})")
    }
}
