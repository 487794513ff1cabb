//! Rotary positions: how far each pair of numbers of a head turns at each place.

use serde_json::Value;

use super::{
    bad_config,
    places::{Axis, Sections},
    unsupported,
};
use crate::error::LoadError;

/// The turning of one model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rope {
    /// Turns per place, one for each pair.
    frequencies: Vec<f32>,
    /// YaRN makes queries and keys longer with it.
    length: f32,
    /// Which coordinate of a token turns each pair, where they differ.
    axes: Option<Vec<Axis>>,
}

/// How positions beyond the ones of the training are reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scaling {
    Plain,
    Linear { factor: f32 },
    Llama3 { factor: f32, low: f32, high: f32, original: f32 },
    Yarn { factor: f32, attention: f32, fast: f32, slow: f32, original: f32, truncate: bool },
}

impl Rope {
    /// From a config.json: transformers 5 puts everything into `rope_parameters`; older versions write `rope_theta` and
    /// `rope_scaling`.
    pub(super) fn read(raw: &Value, head: usize, context: usize) -> Result<Self, LoadError> {
        let object = |key: &str| raw.get(key).filter(|value| value.is_object());
        let parameters = object("rope_parameters");
        let theta = parameters
            .and_then(|parameters| parameters.get("rope_theta"))
            .or_else(|| raw.get("rope_theta"))
            .and_then(Value::as_f64)
            .unwrap_or(10_000.0) as f32;
        let scaling = match parameters.or_else(|| object("rope_scaling")) {
            Some(scaling) => Scaling::read(scaling, context)?,
            None => Scaling::Plain,
        };
        Ok(Self::new(theta, scaling, head))
    }

    /// As [`Self::read`], for pairs that are turned by different coordinates of a token: `mrope_section` beside the rest.
    /// `theta` is the one of a config.json without any.
    pub(super) fn read_sections(
        raw: &Value,
        head: usize,
        context: usize,
        theta: f64,
    ) -> Result<Self, LoadError> {
        let mut rest = raw.as_object().cloned().unwrap_or_default();
        let named = |key: &&str| raw.get(*key).is_some_and(Value::is_object);
        let key = ["rope_parameters", "rope_scaling"].into_iter().find(named);
        let mut object = key.and_then(|key| rest.remove(key)).unwrap_or_default();
        let sections = Sections::read(&mut object, head / 2)?;
        let own = object.as_object_mut().and_then(|object| object.remove("rope_theta"));
        let given = own.and_then(|theta| theta.as_f64());
        let given = given.or_else(|| raw.get("rope_theta")?.as_f64());
        rest.insert("rope_theta".to_owned(), given.unwrap_or(theta).into());
        if let Some(key) = key {
            rest.insert(key.to_owned(), object);
        }
        let rest = Value::Object(rest);
        Ok(Self { axes: Some(sections.axes()), ..Self::read(&rest, head, context)? })
    }

    /// `theta` is the base of the turns of a head with `head` numbers.
    pub(super) fn new(theta: f32, scaling: Scaling, head: usize) -> Self {
        let mut frequencies: Vec<f32> =
            (0..head).step_by(2).map(|i| 1.0 / theta.powf(i as f32 / head as f32)).collect();
        let mut length = 1.0;
        match scaling {
            Scaling::Plain => {}
            Scaling::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            Scaling::Llama3 { factor, low, high, original } => {
                for frequency in &mut frequencies {
                    let wave = 2.0 * std::f32::consts::PI / *frequency;
                    if wave > original / low {
                        *frequency /= factor;
                    } else if wave >= original / high {
                        let smooth = (original / wave - low) / (high - low);
                        *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                    }
                }
            }
            Scaling::Yarn { factor, attention, fast, slow, original, truncate } => {
                length = attention;
                // The pair that turns so many times within the original length.
                let pair = |turns: f32| {
                    let places = original / (turns * 2.0 * std::f32::consts::PI);
                    head as f32 * places.ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (pair(fast), pair(slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(head as f32 - 1.0));
                if low == high {
                    high += 0.001;
                }
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let kept = 1.0 - ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency = *frequency / factor * (1.0 - kept) + *frequency * kept;
                }
            }
        }
        Self { frequencies, length, axes: None }
    }

    /// For each pair, which coordinate of a token turns it. None where all are turned by how many tokens are before.
    pub(super) fn axes(&self) -> Option<&[Axis]> {
        self.axes.as_deref()
    }

    /// Each pair turns so many times slower.
    pub(super) fn slowed(mut self, times: &[f32]) -> Result<Self, LoadError> {
        let usable = |times: &f32| times.is_finite() && *times > 0.0;
        if times.len() != self.frequencies.len() || !times.iter().all(usable) {
            return Err(LoadError::Weights(
                "the factors of its rotary positions are not a number above 0 for each pair".into(),
            ));
        }
        self.frequencies.iter_mut().zip(times).for_each(|(frequency, times)| *frequency /= times);
        Ok(self)
    }

    /// Cosines and sines of the first `places` places, a row for each.
    pub(super) fn tables(&self, places: usize) -> (Vec<f32>, Vec<f32>) {
        let angles = (0..places).flat_map(|place| {
            self.frequencies.iter().map(move |frequency| place as f32 * frequency)
        });
        angles.map(|angle| (angle.cos() * self.length, angle.sin() * self.length)).unzip()
    }
}

impl Scaling {
    /// What YaRN makes queries and keys longer with, where nothing else is said.
    pub(super) fn yarn_length(factor: f32) -> f32 {
        longer(factor, 1.0)
    }

    fn read(raw: &Value, context: usize) -> Result<Self, LoadError> {
        if raw.get("partial_rotary_factor").and_then(Value::as_f64).unwrap_or(1.0) != 1.0 {
            return Err(unsupported("partial_rotary_factor"));
        }
        let kind = raw.get("rope_type").or_else(|| raw.get("type")).and_then(Value::as_str);
        let kind = kind.unwrap_or("default");
        let known: &[&str] = match kind {
            "default" => &[],
            "linear" => &["factor"],
            "llama3" => &[
                "factor",
                "low_freq_factor",
                "high_freq_factor",
                "original_max_position_embeddings",
            ],
            "yarn" => &[
                "factor",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "original_max_position_embeddings",
                "truncate",
            ],
            other => return Err(unsupported(&format!("rope_type {other:?}"))),
        };
        let always = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        for (key, value) in raw.as_object().into_iter().flatten() {
            if !value.is_null() && !known.contains(&key.as_str()) && !always.contains(&key.as_str())
            {
                return Err(bad_config(format!("{kind} positions have no {key}")));
            }
        }
        let optional = |key: &str| raw.get(key).and_then(Value::as_f64).map(|value| value as f32);
        let number = |key: &str| {
            optional(key)
                .filter(|value| *value > 0.0)
                .ok_or_else(|| bad_config(format!("{kind} positions need {key}")))
        };
        Ok(match kind {
            "linear" => Self::Linear { factor: number("factor")? },
            "llama3" => Self::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            },
            "yarn" => {
                let factor = number("factor")?;
                let implied = match (optional("mscale"), optional("mscale_all_dim")) {
                    (Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
                        longer(factor, one) / longer(factor, all)
                    }
                    _ => Self::yarn_length(factor),
                };
                Self::Yarn {
                    factor,
                    attention: optional("attention_factor").unwrap_or(implied),
                    fast: optional("beta_fast").unwrap_or(32.0),
                    slow: optional("beta_slow").unwrap_or(1.0),
                    original: optional("original_max_position_embeddings")
                        .unwrap_or(context as f32),
                    truncate: raw.get("truncate").and_then(Value::as_bool).unwrap_or(true),
                }
            }
            _ => Self::Plain,
        })
    }
}

fn longer(scale: f32, by: f32) -> f32 {
    if scale <= 1.0 { 1.0 } else { 0.1 * by * scale.ln() + 1.0 }
}
