//! Takes each setting from where it counts most.

use std::env;
use std::path::{Path, PathBuf};

use lengthwise_core::words::shown;
use lengthwise_cost::text_file::read_file;
use lengthwise_inputs::suggestion;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::overrides::{OverrideSource, Overrides};
use super::place::{Place, Setting, broken};
use super::train::RENAMED;
use super::value::{Value, Written};
use crate::failure::Failure;

/// A settings file's text, and where it is.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    text: String,
}

impl SettingsFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_file(path).map_err(|error| {
            let path = path.display();
            Failure::input(format!("can't read the settings file {path}: {error}"))
                .hint("name a file like examples/quickstart.toml")
        })?;
        let text = String::from_utf8(text).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
            Failure::input(format!(
                "{}:{line}: settings files are UTF-8 text; this line is not",
                path.display()
            ))
            .hint("save it as UTF-8")
        })?;
        Ok(SettingsFile {
            path: path.to_owned(),
            text,
        })
    }

    /// A file that is nowhere.
    #[cfg(test)]
    pub fn from_text(text: &str) -> Self {
        SettingsFile {
            path: PathBuf::from("settings.toml"),
            text: text.to_owned(),
        }
    }

    fn line(&self, offset: usize) -> &str {
        let before = self.text.get(..offset).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        self.text[start..].lines().next().unwrap_or_default()
    }

    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Place::File {
            path: self.path.clone(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
        }
    }
}

/// Reads the settings of a file and of this run.
pub struct Reader<'a> {
    file: &'a SettingsFile,
    table: DeTable<'a>,
    overrides: &'a Overrides,
    shown: Vec<(&'static str, String, Place)>,
}

impl<'a> Reader<'a> {
    /// A reader of settings, all of which must be among `keys`, each as `section.key`.
    pub fn new(
        file: &'a SettingsFile,
        overrides: &'a Overrides,
        keys: &[&'static str],
    ) -> Result<Self, Failure> {
        let table = DeTable::parse(&file.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let rule = error.message().lines().collect::<Vec<_>>().join(", ");
            Failure::input(format!("{}: this is not TOML: {rule}", file.place(offset)))
                .hint(format!("the line is: {}", shown(file.line(offset))))
        })?;
        let reader = Reader {
            file,
            table: table.into_inner(),
            overrides,
            shown: Vec::new(),
        };
        reader.check_keys(keys)?;
        Ok(reader)
    }

    fn check_keys(&self, keys: &[&'static str]) -> Result<(), Failure> {
        for (section_name, section) in &self.table {
            let place = self.file.place(section_name.span().start);
            let name = section_name.get_ref();
            let mut sections: Vec<&str> = keys
                .iter()
                .filter_map(|key| key.split('.').next())
                .collect();
            sections.dedup();
            if !sections.contains(&name.as_ref()) {
                let failure = Failure::input(format!(
                    "{place}: there is no section or key {} at the top",
                    shown(name)
                ));
                // A key of some section, written above all sections, is as likely as a misspelt section.
                let home = keys.iter().find(|key| key.ends_with(&format!(".{name}")));
                return Err(match home.and_then(|key| key.split('.').next()) {
                    Some(home) => failure.hint(format!("{name} belongs below [{home}]")),
                    None => failure.hint(suggestion(name, &sections, "the sections are")),
                });
            }
            let DeValue::Table(section) = section.get_ref() else {
                let failure = Failure::input(format!(
                    "{place}: {} must be a section, not a value",
                    shown(name)
                ));
                return Err(failure.hint(format!(
                    "write [{}] on a line, and its keys below",
                    shown(name)
                )));
            };
            for (key, value) in section {
                let full = format!("{name}.{}", key.get_ref());
                if !keys.contains(&full.as_str()) {
                    let place = self.file.place(key.span().start);
                    let written = &self.file.text[value.span()];
                    return Err(unknown_key(&place, &full, written, keys));
                }
            }
        }
        for (index, one) in self.overrides.0.iter().enumerate() {
            if !keys.contains(&one.key.as_str()) {
                let place = Place::Run(one.source.clone());
                return Err(unknown_key(&place, &one.key, &one.text, keys));
            }
            let on_command_line =
                |source: &OverrideSource| !matches!(source, OverrideSource::Variable(_));
            let twice = |earlier: &&super::overrides::Override| {
                earlier.key == one.key
                    && on_command_line(&earlier.source)
                    && on_command_line(&one.source)
            };
            if let Some(earlier) = self.overrides.0[..index].iter().find(twice) {
                let place = Place::Run(one.source.clone());
                let rule = format!("{} was already given as {}", one.key, shown(&earlier.text));
                return Err(broken(&one.key, &one.text, &place, rule).hint("give it once"));
            }
        }
        Ok(())
    }

    /// The setting, if it was written anywhere.
    pub fn optional<T: Value>(&mut self, key: &'static str) -> Result<Option<Setting<T>>, Failure> {
        let (written, place, value) =
            if let Some(one) = self.overrides.0.iter().find(|one| one.key == key) {
                let place = Place::Run(one.source.clone());
                (one.text.clone(), place, T::read(Written::Text(&one.text)))
            } else if let Some(value) = self.in_file(key) {
                let place = self.file.place(value.span().start);
                let written = self.file.text[value.span()].to_owned();
                (written, place, T::read(Written::Toml(value.get_ref())))
            } else {
                return Ok(None);
            };
        let Some(value) = value else {
            let rule = format!("it must be {}", T::EXPECTED);
            let hint = format!("write it like {}", T::EXAMPLE);
            return Err(broken(key, &written, &place, rule).hint(hint));
        };
        self.shown.push((key, value.show(), place.clone()));
        Ok(Some(Setting {
            value,
            key,
            written,
            place,
        }))
    }

    /// The setting, or its default.
    pub fn get<T: Value>(&mut self, key: &'static str, default: T) -> Result<Setting<T>, Failure> {
        if let Some(setting) = self.optional(key)? {
            return Ok(setting);
        }
        let written = default.show();
        self.shown.push((key, written.clone(), Place::Default));
        Ok(Setting {
            value: default,
            key,
            written,
            place: Place::Default,
        })
    }

    /// The setting, which has no default.
    pub fn required<T: Value>(&mut self, key: &'static str) -> Result<Setting<T>, Failure> {
        self.optional(key)?.ok_or_else(|| {
            let path = self.file.path.display();
            let (section, name) = key.split_once('.').unwrap_or_default();
            Failure::input(format!("{path}: {key} is missing; it has no default")).hint(format!(
                "write below [{section}] a line like {name} = {}",
                T::EXAMPLE
            ))
        })
    }

    /// A path with `~` and `${VARIABLE:-default}` replaced. A relative path of a file starts from the file's
    /// directory, one of the command line or the environment from the working directory.
    pub fn path<T>(&self, setting: &Setting<T>, path: &Path) -> Result<PathBuf, Failure> {
        let home = || env::home_dir().and_then(|home| home.into_os_string().into_string().ok());
        let path = path.to_string_lossy();
        let expanded = shellexpand::env_with_context(&path, |name| env::var(name).map(Some))
            .map_err(|error| {
                let name = &error.var_name;
                setting
                    .breaks(format!("the variable {name} is not set"))
                    .hint(format!(
                        "set it, or write ${{{name}:-…}} to say what stands for it otherwise"
                    ))
            })?;
        let expanded = PathBuf::from(shellexpand::tilde_with_context(&expanded, home).into_owned());
        if expanded.as_os_str().is_empty() {
            return Err(setting
                .breaks("a path in it is empty")
                .hint("name a file or a directory; . is the one that paths start from"));
        }
        match &setting.place {
            Place::File { path: file, .. } => {
                let directory = file.parent().unwrap_or(Path::new(""));
                Ok(directory.join(expanded))
            }
            _ => Ok(expanded),
        }
    }

    /// All settings that were read, in TOML, with the place each comes from.
    pub fn show(&self) -> String {
        // In the order in which sections were begun, whatever was read in between.
        let mut sections: Vec<(&str, Vec<String>)> = Vec::new();
        for (key, value, place) in &self.shown {
            let (section, name) = key.split_once('.').unwrap_or_default();
            let line = format!("{:40} # {place}", format!("{name} = {value}"));
            match sections.iter_mut().find(|(begun, _)| *begun == section) {
                Some((_, lines)) => lines.push(line),
                None => sections.push((section, vec![format!("[{section}]"), line])),
            }
        }
        let lines: Vec<String> = sections.into_iter().flat_map(|(_, lines)| lines).collect();
        lines.join("\n")
    }

    fn in_file(&self, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        let (section, name) = key.split_once('.')?;
        self.table.get(section)?.get_ref().as_table()?.get(name)
    }
}

fn unknown_key(place: &Place, key: &str, written: &str, keys: &[&'static str]) -> Failure {
    let section = key.split('.').next().unwrap_or_default();
    let of_section: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|known| known.split('.').next() == Some(section))
        .collect();
    let known = if of_section.is_empty() {
        keys
    } else {
        &of_section
    };
    let name = key.split('.').next_back().unwrap_or_default();
    let elsewhere = keys
        .iter()
        .find(|known| known.split('.').next_back() == Some(name));
    let renamed = RENAMED.iter().find(|(old, _)| *old == key);
    broken(key, written, place, "there is no such setting").hint(match (renamed, elsewhere) {
        (Some((_, renamed)), _) => (*renamed).to_owned(),
        (None, Some(elsewhere)) => format!("did you mean {elsewhere}?"),
        (None, None) => suggestion(key, known, "known are"),
    })
}
