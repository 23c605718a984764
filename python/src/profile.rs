//! Measured costs as Python has them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;

use lengthwise_cost::{Measurement, Profile as CostProfile};
use lengthwise_inputs::InputError;
use lengthwise_outputs::FileOutput;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::cost_arguments::{CostArguments, NamedProfile, WrittenCosts};
use crate::fault::Fault;
use crate::values;

/// The costs of one model on one kind of cluster, as a TOML file holds them.
///
/// `Profile.read` reads such a file. `Planner(profile=...)` plans by it, and ``lengthwise`` takes the files that `save`
/// writes. Profiles are equal if all that they hold is, and they pickle.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Profile(NamedProfile);

impl Profile {
    pub(crate) fn named(&self) -> &NamedProfile {
        &self.0
    }
}

impl From<NamedProfile> for Profile {
    fn from(named: NamedProfile) -> Self {
        Profile(named)
    }
}

#[pymethods]
impl Profile {
    /// Read a profile file.
    ///
    /// Parameters
    /// ----------
    /// path : str or os.PathLike
    ///     A file in TOML.
    ///
    /// Returns
    /// -------
    /// Profile
    ///
    /// Raises
    /// ------
    /// InputError
    ///     The file can't be read or breaks a rule.
    #[staticmethod]
    #[pyo3(signature = (path, /))]
    fn read(path: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name = values::name("path", path)?;
        let named = path.py().detach(|| NamedProfile::read(&name));
        named.map(Profile).map_err(|fault| fault.raise(path.py()))
    }

    /// Read a profile from the text of its file.
    ///
    /// Parameters
    /// ----------
    /// text : str
    ///     TOML.
    /// name : str, default "profile"
    ///     What errors call it.
    ///
    /// Returns
    /// -------
    /// Profile
    ///
    /// Raises
    /// ------
    /// InputError
    ///     The text breaks a rule.
    #[staticmethod]
    #[pyo3(signature = (text, /, name = "profile"))]
    fn from_toml(text: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let written = values::text("text", text)?;
        let profile = CostProfile::from_toml(&written);
        let profile = profile.map_err(|error| {
            Fault::from(InputError::profile(Path::new(name), error)).raise(text.py())
        })?;
        Ok(Profile(NamedProfile {
            profile: Arc::new(profile),
            place: name.to_owned(),
        }))
    }

    /// Fit costs to measured micro-batches.
    ///
    /// What was not measured stays what the given costs say: devices, heads, the bytes that groups exchange, strategies
    /// and exchanges without a measurement, and memory where no peak was measured.
    ///
    /// Parameters
    /// ----------
    /// measurements : iterable of Measurement or mapping
    ///     Micro-batches, as objects or with the keys of the `[[measurements]]` of a profile's file: one for each cost
    ///     that they are to settle at least, which are the overhead, two for each kind of strategy, and one for each
    ///     degree that exchanges, inside a node and across nodes apart. Of unequal groups the slowest counts.
    /// profile : str, os.PathLike or Profile, optional
    ///     The costs to start from.
    /// cluster, model : str or os.PathLike, optional
    ///     The same from a model on a described cluster.
    /// context : int or str, optional
    ///     The longest sequence, in tokens.
    /// name : str, optional
    ///     What reports call the profile; that of the costs to start from by default.
    ///
    /// Returns
    /// -------
    /// Profile
    ///     With its measurements and what was predicted for each. No device is predicted to hold less than it held.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     Too few micro-batches, or the index of one that can't be.
    #[staticmethod]
    #[pyo3(signature = (
        measurements, /, *, profile = None, cluster = None, model = None, context = None, name = None
    ))]
    fn fit(
        measurements: &Bound<'_, PyAny>,
        profile: Option<&Bound<'_, PyAny>>,
        cluster: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let py = measurements.py();
        let written = WrittenCosts {
            profile,
            cluster,
            model,
            context,
            ..WrittenCosts::default()
        };
        let of_costs = CostArguments::read(py, &written)?;
        if measurements.try_iter().is_err() {
            let fault = values::bad("measurements", measurements, "it must be a list of them");
            return Err(fault.of_type().raise(py));
        }
        let rows = py
            .import("lengthwise.measurement")?
            .getattr("rows_as_json")?;
        let rows: Vec<String> = rows.call1((measurements,))?.extract()?;
        let fitted = py.detach(|| Fault::catch(|| fit(&rows, &of_costs, name)));
        fitted.map(Profile).map_err(|fault| fault.raise(py))
    }

    /// The text of its file, in TOML.
    ///
    /// Returns
    /// -------
    /// str
    fn to_toml(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.0.profile.to_toml();
        text.map_err(|error| {
            Fault::from(InputError::profile(Path::new(&self.0.place), error)).raise(py)
        })
    }

    /// Write the profile to a file.
    ///
    /// Parameters
    /// ----------
    /// path : str or os.PathLike
    ///     Where to.
    /// overwrite : bool, default False
    ///     Whether a file that is there may be replaced.
    ///
    /// Raises
    /// ------
    /// FileExistsError
    ///     There is a file, which is left as it is; `hint` says how to replace it.
    /// OSError
    ///     The file can't be written; `filename` is its path.
    #[pyo3(signature = (path, /, *, overwrite = false))]
    fn save(&self, path: &Bound<'_, PyAny>, overwrite: bool) -> PyResult<()> {
        let py = path.py();
        let (name, text) = (values::name("path", path)?, self.to_toml(py)?);
        let written = FileOutput::at(Path::new(&name)).and_then(|output| match overwrite {
            true => output.write_there(text.as_bytes()),
            false => output.write_new(text.as_bytes()),
        });
        written.map_err(|error| unwritten(py, &name, error).unwrap_or_else(|error| error))
    }

    /// str: What reports call it.
    #[getter]
    fn name(&self) -> &str {
        &self.0.profile.name
    }

    /// int: The longest sequence that it holds for, in tokens.
    #[getter]
    fn context(&self) -> u64 {
        self.0.profile.context_tokens
    }

    /// list of dict: The micro-batches that it was fitted to or compared with, with the keys of a profile's file.
    #[getter]
    fn measurements<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = serde_json::to_string(&self.0.profile.measurements);
        let rows = rows.map_err(|error| Fault::input(error.to_string()).raise(py))?;
        py.import("json")?.call_method1("loads", (rows,))
    }

    /// float or None: The mean relative error over the micro-batches that costs were fitted to.
    #[getter]
    fn fitted_error(&self) -> Option<f64> {
        self.0.profile.fit.as_ref().map(|fit| fit.fitted_error)
    }

    /// float or None: The same over micro-batches that the fit has not seen.
    #[getter]
    fn held_out_error(&self) -> Option<f64> {
        self.0.profile.fit.as_ref()?.held_out_error
    }

    /// dict or None: The model and the ranks that were measured, with the keys of a profile's file.
    #[getter]
    fn measured_for<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(measured_for) = &self.0.profile.measured_for else {
            return Ok(None);
        };
        let text = serde_json::to_string(measured_for);
        let text = text.map_err(|error| Fault::input(error.to_string()).raise(py))?;
        py.import("json")?.call_method1("loads", (text,)).map(Some)
    }

    /// float or None: The mean deviation of the times of one micro-batch that was run again and again while measuring,
    /// from their median.
    #[getter]
    fn noise(&self) -> Option<f64> {
        self.0.profile.fit.as_ref()?.noise
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let other = other.cast::<Profile>();
        other.is_ok_and(|other| self.0.profile == other.get().0.profile)
    }

    fn __hash__(&self) -> u64 {
        // Equal profiles have one name, and few are ever told apart by a hash.
        let mut hasher = DefaultHasher::new();
        self.0.profile.name.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let profile = &self.0.profile;
        let num_devices = profile
            .cluster(None)
            .map_or(0, |cluster| cluster.num_devices());
        format!(
            "Profile({:?}, devices={num_devices}, context={})",
            profile.name, profile.context_tokens
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String, String))> {
        let class = py.get_type::<Profile>();
        let text = self.to_toml(py)?;
        Ok((class.getattr("from_toml")?, (text, self.0.place.clone())))
    }
}

/// The costs that arguments describe, fitted to micro-batches in JSON.
fn fit(
    rows: &[String],
    of_costs: &CostArguments,
    name: Option<String>,
) -> Result<NamedProfile, Fault> {
    let rows = rows.iter().enumerate().map(|(index, row)| {
        let read: Result<Measurement, _> = serde_json::from_str(row);
        read.map_err(|error| Fault::input(format!("measurement {index}: {error}")))
    });
    let measurements = rows.collect::<Result<_, _>>()?;
    let costs = of_costs.costs()?;
    let start = CostProfile {
        context_tokens: costs.context.0,
        name: name.unwrap_or_else(|| costs.name.clone()),
        ..costs.profile().clone()
    };
    let fitted = start.fitted_to(measurements);
    let fitted = fitted.map_err(|error| Fault::input(error.to_string()))?;
    Ok(NamedProfile {
        place: fitted.name.clone(),
        profile: Arc::new(fitted),
    })
}

/// The exception for a file that can't be written: that of the system, with the path as the caller gave it.
fn unwritten(py: Python<'_>, path: &str, error: io::Error) -> PyResult<PyErr> {
    let Some(code) = error.raw_os_error().or_else(|| code_of(error.kind())) else {
        return Ok(error.into());
    };
    let text: String = py
        .import("os")?
        .call_method1("strerror", (code,))?
        .extract()?;
    // Python has a class of its own for each of the usual codes.
    let exception = py
        .get_type::<PyOSError>()
        .call1((code, text, path.to_owned()))?;
    if error.kind() == io::ErrorKind::AlreadyExists {
        let hint = "add overwrite=True to replace it";
        exception.setattr("hint", hint)?;
        // From Python 3.11 on.
        if exception.hasattr("add_note")? {
            exception.call_method1("add_note", (format!("hint: {hint}"),))?;
        }
    }
    Ok(PyErr::from_value(exception))
}

/// The number of an error of the C library, of those that are found out before the system is asked.
fn code_of(kind: io::ErrorKind) -> Option<i32> {
    match kind {
        io::ErrorKind::NotFound => Some(2),
        io::ErrorKind::PermissionDenied => Some(13),
        io::ErrorKind::AlreadyExists => Some(17),
        io::ErrorKind::NotADirectory => Some(20),
        io::ErrorKind::IsADirectory => Some(21),
        _ => None,
    }
}
