//! Where documents come from: paths and the fields of their records, one source or several with weights.

use std::path::PathBuf;

use lengthwise_data::records::Fields;
use toml::de::{DeTable, DeValue};

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;
use crate::settings::value::{Value, Written};

/// A source of documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Files, directories and patterns.
    pub paths: Vec<PathBuf>,
    /// Its share of all tokens, compared with those of the others.
    pub weight: f64,
    /// Which fields of its records are meant.
    pub fields: Fields,
}

/// The fields that are written; what is not written is decided by what is.
#[derive(Clone, Debug, Default, PartialEq)]
struct FieldNames {
    text: Option<String>,
    prompt: Option<String>,
    completion: Option<String>,
    messages: Option<String>,
    tools: Option<String>,
}

impl FieldNames {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The fields that are meant; or what is wrong with them: the name of a field, and the rule it breaks.
    fn fields(&self) -> Result<Fields, (&'static str, String)> {
        let FieldNames {
            text,
            prompt,
            completion,
            messages,
            tools,
        } = self;
        let named = [
            ("text", text),
            ("prompt", prompt),
            ("completion", completion),
            ("messages", messages),
            ("tools", tools),
        ];
        for (index, (name, field)) in named.iter().enumerate() {
            let Some(field) = field else { continue };
            if field.is_empty() {
                return Err((name, "a field needs a name".to_owned()));
            }
            let mut earlier = named[..index].iter();
            if let Some((other, _)) = earlier.find(|(_, one)| one.as_ref() == Some(field)) {
                return Err((name, format!("{other} is the same field")));
            }
        }
        match (text, prompt, completion, messages, tools) {
            (_, _, _, None, Some(_)) => Err((
                "tools",
                "tools belong to messages, which are not given".to_owned(),
            )),
            (Some(_), _, _, Some(_), _) => Err(("messages", "text is given too".to_owned())),
            (_, Some(_), _, Some(_), _) => Err(("messages", "prompt is given too".to_owned())),
            (_, _, Some(_), Some(_), _) => Err(("messages", "completion is given too".to_owned())),
            (None, None, None, Some(messages), tools) => Ok(Fields::Messages {
                messages: messages.clone(),
                tools: tools.clone().unwrap_or_else(|| "tools".to_owned()),
            }),
            (Some(_), Some(_), _, None, None) => Err(("prompt", "text is given too".to_owned())),
            (Some(_), _, Some(_), None, None) => {
                Err(("completion", "text is given too".to_owned()))
            }
            (None, Some(prompt), Some(completion), None, None) => Ok(Fields::Completion {
                prompt: prompt.clone(),
                completion: completion.clone(),
            }),
            (None, Some(_), None, None, None) => {
                Err(("prompt", "there must be a completion too".to_owned()))
            }
            (None, None, Some(_), None, None) => {
                Err(("completion", "there must be a prompt too".to_owned()))
            }
            (Some(text), None, None, None, None) => Ok(Fields::Text(text.clone())),
            (None, None, None, None, None) => Ok(Fields::default()),
        }
    }
}

const HINT: &str = "give text, or prompt and completion, or messages";

/// The setting that names all paths, the sources, and the fields of those that name none.
pub type Named = (Setting<Vec<PathBuf>>, Vec<Source>, Fields);

/// The sources, and the setting that names them.
pub fn sources(reader: &mut Reader<'_>) -> Result<Named, Failure> {
    let text = reader.optional::<String>("data.text")?;
    let prompt = reader.optional::<String>("data.prompt")?;
    let completion = reader.optional::<String>("data.completion")?;
    let messages = reader.optional::<String>("data.messages")?;
    let tools = reader.optional::<String>("data.tools")?;
    let name = |setting: &Option<Setting<String>>| setting.as_ref().map(|one| one.value.clone());
    let names = FieldNames {
        text: name(&text),
        prompt: name(&prompt),
        completion: name(&completion),
        messages: name(&messages),
        tools: name(&tools),
    };
    let fields = names.fields().map_err(|(field, rule)| {
        let setting = match field {
            "text" => text,
            "prompt" => prompt,
            "completion" => completion,
            "messages" => messages,
            _ => tools,
        };
        match setting {
            Some(setting) => setting.breaks(rule).hint(HINT),
            None => Failure::input(format!("data.{field}: {rule}")).hint(HINT),
        }
    })?;
    let Some(tables) = reader.optional::<SourceTables>("data.sources")? else {
        let mut paths = reader.required::<Vec<PathBuf>>("data.paths")?;
        paths.must(
            !paths.value.is_empty(),
            "there must be a path",
            "name text files, JSONL or Parquet files, or directories of them",
        )?;
        paths.value = expanded(reader, &paths, &paths.value)?;
        let source = Source {
            paths: paths.value.clone(),
            weight: 1.0,
            fields: fields.clone(),
        };
        return Ok((paths, vec![source], fields));
    };
    if let Some(paths) = reader.optional::<Vec<PathBuf>>("data.paths")? {
        return Err(paths
            .breaks("data.sources are given too")
            .hint("make them a source of their own, with a weight"));
    }
    tables.must(
        !tables.value.0.is_empty(),
        "there must be a source",
        "leave it out, and give data.paths",
    )?;
    let mut sources = Vec::with_capacity(tables.value.0.len());
    for (number, table) in (1..).zip(&tables.value.0) {
        let broken = |rule: String| tables.breaks(format!("source {number}: {rule}"));
        let table = table
            .as_ref()
            .map_err(|rule| broken(rule.clone()).hint(KEYS_HINT))?;
        let of_source = match table.names.is_empty() {
            true => Ok(fields.clone()),
            false => table.names.fields(),
        };
        let of_source =
            of_source.map_err(|(field, rule)| broken(format!("{field}: {rule}")).hint(HINT))?;
        sources.push(Source {
            paths: expanded(reader, &tables, &table.paths)?,
            weight: table.weight,
            fields: of_source,
        });
    }
    let paths = Setting {
        value: sources
            .iter()
            .flat_map(|source| source.paths.clone())
            .collect(),
        key: tables.key,
        written: tables.written,
        place: tables.place,
    };
    Ok((paths, sources, fields))
}

fn expanded<T>(
    reader: &Reader<'_>,
    setting: &Setting<T>,
    paths: &[PathBuf],
) -> Result<Vec<PathBuf>, Failure> {
    paths
        .iter()
        .map(|path| reader.path(setting, path))
        .collect()
}

const KEYS_HINT: &str = "a source has paths, a weight (1 if not given), and text, or prompt and completion, or messages and tools";

/// A source as it is written.
#[derive(Clone, Debug, PartialEq)]
struct SourceTable {
    paths: Vec<PathBuf>,
    weight: f64,
    names: FieldNames,
}

/// Tables of sources, each of which may be wrong by itself.
struct SourceTables(Vec<Result<SourceTable, String>>);

impl Value for SourceTables {
    const EXPECTED: &'static str = "a list of tables, each with paths";
    const EXAMPLE: &'static str =
        r#"[{ paths = ["code"], weight = 0.7 }, { paths = ["prose"], weight = 0.3 }]"#;

    fn read(written: Written<'_>) -> Option<Self> {
        match written {
            Written::Toml(value) => {
                let tables = value
                    .as_array()?
                    .iter()
                    .map(|table| Some(SourceTable::read(table.get_ref().as_table()?)));
                tables.collect::<Option<_>>().map(SourceTables)
            }
            Written::Text(text) => {
                let line = format!("sources = {text}");
                let table = DeTable::parse(&line).ok()?;
                Self::read(Written::Toml(table.get_ref().get("sources")?.get_ref()))
            }
        }
    }

    fn show(&self) -> String {
        let tables = self.0.iter().map(|table| match table {
            Ok(table) => table.show(),
            Err(_) => "{}".to_owned(),
        });
        format!("[{}]", tables.collect::<Vec<_>>().join(", "))
    }
}

impl SourceTable {
    fn read(table: &DeTable<'_>) -> Result<Self, String> {
        let mut source = SourceTable {
            paths: Vec::new(),
            weight: 1.0,
            names: FieldNames::default(),
        };
        for (key, value) in table {
            let key: &str = key.get_ref();
            let value = value.get_ref();
            match key {
                "paths" => source.paths = expected(key, value)?,
                "weight" => source.weight = expected(key, value)?,
                "text" => source.names.text = Some(expected(key, value)?),
                "prompt" => source.names.prompt = Some(expected(key, value)?),
                "completion" => source.names.completion = Some(expected(key, value)?),
                "messages" => source.names.messages = Some(expected(key, value)?),
                "tools" => source.names.tools = Some(expected(key, value)?),
                other => {
                    return Err(format!(
                        "there is no key {}",
                        lengthwise_core::words::shown(other)
                    ));
                }
            }
        }
        if source.paths.is_empty() {
            return Err("there must be a path".to_owned());
        }
        if source.weight <= 0.0 {
            return Err(format!("weight = {}: it must be above 0", source.weight));
        }
        Ok(source)
    }

    fn show(&self) -> String {
        let FieldNames {
            text,
            prompt,
            completion,
            messages,
            tools,
        } = &self.names;
        let fields = [
            ("text", text),
            ("prompt", prompt),
            ("completion", completion),
            ("messages", messages),
            ("tools", tools),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, field)| Some((name, field.as_ref()?.show())));
        let all = [("paths", self.paths.show()), ("weight", self.weight.show())]
            .into_iter()
            .chain(fields);
        let all: Vec<String> = all
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        format!("{{ {} }}", all.join(", "))
    }
}

fn expected<T: Value>(key: &str, value: &DeValue<'_>) -> Result<T, String> {
    T::read(Written::Toml(value)).ok_or_else(|| format!("{key} must be {}", T::EXPECTED))
}
