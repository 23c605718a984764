//! Measured costs as Python has them.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use lengthwise_cost::Profile as CostProfile;
use lengthwise_inputs::InputError;
use pyo3::prelude::*;

use crate::cost_arguments::NamedProfile;
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
    ///     There is a file already; it is left as it is.
    /// OSError
    ///     The file can't be written.
    #[pyo3(signature = (path, /, *, overwrite = false))]
    fn save(&self, path: &Bound<'_, PyAny>, overwrite: bool) -> PyResult<()> {
        let py = path.py();
        let (name, text) = (values::name("path", path)?, self.to_toml(py)?);
        let mut file = if overwrite {
            File::create(&name)?
        } else {
            File::create_new(&name)?
        };
        file.write_all(text.as_bytes())?;
        Ok(())
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

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let other = other.cast::<Profile>();
        other.is_ok_and(|other| self.0.profile == other.get().0.profile)
    }

    fn __hash__(&self) -> isize {
        // Equal profiles have one name; few of them are ever told apart by a hash.
        let bytes = self.0.profile.name.bytes();
        bytes.fold(0, |hash: isize, byte| {
            hash.wrapping_mul(31) ^ isize::from(byte as i8)
        })
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
