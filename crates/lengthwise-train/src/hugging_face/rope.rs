//! Reads how positions are embedded: `rope_theta` and `rope_scaling`, or `rope_parameters` with both in it.

use serde_json::Value;

use super::ConfigError;
use super::fields::Fields;
use crate::model::{Rope, RopeScaling};

/// The base where none is given, as in transformers.
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding of a model with this `max_position_embeddings`.
pub fn rope(fields: &mut Fields, context: usize) -> Result<Rope, ConfigError> {
    let theta = fields.positive("rope_theta")?;
    let original = fields.size("original_max_position_embeddings")?;
    let scaling = fields.object("rope_scaling")?;
    let parameters = fields.object("rope_parameters")?;
    let (key, mut scaling) = match (scaling, parameters) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::Bad {
                key: "rope_scaling".to_owned(),
                value: "{…}".to_owned(),
                rule: "rope_parameters is given too".to_owned(),
            });
        }
        (Some(scaling), None) => ("rope_scaling", scaling),
        (None, Some(parameters)) => ("rope_parameters", parameters),
        (None, None) => {
            let theta = theta.unwrap_or(DEFAULT_THETA);
            return Ok(Rope::plain(theta));
        }
    };
    let inner_theta = scaling.positive("rope_theta")?;
    if let (Some(outer), Some(inner)) = (theta, inner_theta)
        && outer != inner
    {
        let rule = format!("{key}.rope_theta is {inner}");
        return Err(fields.bad("rope_theta", &outer.into(), rule));
    }
    let theta = inner_theta.or(theta).unwrap_or(DEFAULT_THETA);
    if let Some(part) = scaling.take("partial_rotary_factor")
        && part.as_f64() != Some(1.0)
    {
        return Err(scaling.bad("partial_rotary_factor", &part, "only 1 is computed"));
    }
    let (kind, older_kind) = (scaling.text("rope_type")?, scaling.text("type")?);
    if let (Some(kind), Some(older)) = (&kind, &older_kind)
        && kind != older
    {
        let rule = format!("{key}.rope_type is {kind:?}");
        return Err(scaling.bad("type", &older.clone().into(), rule));
    }
    let kind = kind.or(older_kind).unwrap_or_else(|| "default".to_owned());
    let mut scaling = Scaling {
        fields: scaling,
        theta,
        context,
        original,
    };
    let read = match kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: scaling.factor()?,
        },
        "llama3" => scaling.llama3()?,
        "yarn" => scaling.yarn()?,
        _ => {
            let rule = "the types default, linear, llama3 and yarn are computed";
            return Err(scaling.fields.bad("rope_type", &kind.into(), rule));
        }
    };
    if let Some((key, value)) = scaling.fields.first_left() {
        return Err(scaling.fields.unknown(key, value));
    }
    Ok(Rope {
        theta,
        scaling: read,
    })
}

struct Scaling {
    fields: Fields,
    theta: f64,
    context: usize,
    /// The context of the first training, where it is given at the top.
    original: Option<usize>,
}

impl Scaling {
    fn factor(&mut self) -> Result<f64, ConfigError> {
        let factor = self.optional_factor()?;
        factor.ok_or_else(|| self.fields.missing("factor"))
    }

    fn optional_factor(&mut self) -> Result<Option<f64>, ConfigError> {
        let factor = self.fields.positive("factor")?;
        match factor {
            Some(factor) if factor < 1.0 => {
                let rule = "it must be 1 or more";
                Err(self.fields.bad("factor", &factor.into(), rule))
            }
            factor => Ok(factor),
        }
    }

    fn required(&mut self, key: &str) -> Result<f64, ConfigError> {
        let value = self.fields.positive(key)?;
        value.ok_or_else(|| self.fields.missing(key))
    }

    /// The context of the first training; that of the model where none is given, as in transformers.
    fn original_context(&mut self) -> Result<f64, ConfigError> {
        let key = "original_max_position_embeddings";
        let inner = self.fields.size(key)?;
        if let (Some(inner), Some(outer)) = (inner, self.original)
            && inner != outer
        {
            let rule = format!("at the top {key} is {outer}");
            return Err(self.fields.bad(key, &inner.into(), rule));
        }
        Ok(inner.or(self.original).unwrap_or(self.context) as f64)
    }

    fn llama3(&mut self) -> Result<RopeScaling, ConfigError> {
        let factor = self.factor()?;
        let low_freq_factor = self.required("low_freq_factor")?;
        let high_freq_factor = self.required("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            let rule = format!("it must be above low_freq_factor = {low_freq_factor}");
            let value = high_freq_factor.into();
            return Err(self.fields.bad("high_freq_factor", &value, rule));
        }
        Ok(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context: self.original_context()?,
        })
    }

    fn yarn(&mut self) -> Result<RopeScaling, ConfigError> {
        if self.theta <= 1.0 {
            let rule = "it must be above 1 for yarn";
            return Err(self.fields.bad("rope_theta", &self.theta.into(), rule));
        }
        let original_context = self.original_context()?;
        let factor = self.optional_factor()?;
        let factor = factor.unwrap_or(self.context as f64 / original_context);
        let scale = |mscale: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * mscale * factor.ln() + 1.0
            }
        };
        let mscale = self.optional_number("mscale")?;
        let mscale_all_dim = self.optional_number("mscale_all_dim")?;
        let by_mscale = match (mscale, mscale_all_dim) {
            (Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        let attention_factor = self.fields.positive("attention_factor")?;
        let beta_fast = self.fields.positive("beta_fast")?.unwrap_or(32.0);
        let beta_slow = self.fields.positive("beta_slow")?.unwrap_or(1.0);
        if beta_fast < beta_slow {
            let rule = format!("it must be beta_slow = {beta_slow} or more");
            return Err(self.fields.bad("beta_fast", &beta_fast.into(), rule));
        }
        let truncate = self.fields.flag("truncate")?.unwrap_or(true);
        // Of the first configs with YaRN; it says where the weights come from.
        self.fields.flag("finetuned")?;
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: attention_factor.unwrap_or(by_mscale),
            beta_fast,
            beta_slow,
            original_context,
            truncate,
        })
    }

    /// A number above 0; 0 stands for none, as in transformers.
    fn optional_number(&mut self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.fields.take(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(0.0) => Ok(None),
                Some(number) if number > 0.0 => Ok(Some(number)),
                _ => Err(self.fields.bad(
                    key,
                    &Value::clone(&value),
                    "it must be a number, 0 or more",
                )),
            },
        }
    }
}
