//! Rotary positions: how far each pair of numbers of a head turns at each place.

use serde_json::{Value, json};

use super::{
    bad_config, flag, number,
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
        let (theta, scaling) = Scaling::of(raw, context, 10_000.0)?;
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
        let mut settings = settings(raw)?.cloned().unwrap_or_default();
        let sections = Sections::read(&mut settings, head / 2)?;
        let rest = json!({"rope_theta": raw.get("rope_theta"), "rope_parameters": settings});
        let (theta, scaling) = Scaling::of(&rest, context, theta)?;
        Ok(Self { axes: Some(sections.axes()), ..Self::new(theta, scaling, head) })
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

    /// What a config.json says of its turns, with their base: `theta` where it says nothing.
    pub(super) fn of(raw: &Value, context: usize, theta: f64) -> Result<(f32, Self), LoadError> {
        let theta = number(raw, "rope_theta", theta)?;
        let Some(settings) = settings(raw)? else { return Ok((theta as f32, Self::Plain)) };
        Ok((number(settings, "rope_theta", theta)? as f32, Self::read(settings, context)?))
    }

    fn read(raw: &Value, context: usize) -> Result<Self, LoadError> {
        if number(raw, "partial_rotary_factor", 1.0)? != 1.0 {
            return Err(unsupported("partial_rotary_factor"));
        }
        let set = |key: &str| raw.get(key).filter(|value| !value.is_null());
        let kind = match set("rope_type").or_else(|| set("type")) {
            None => "default",
            Some(kind) => kind
                .as_str()
                .ok_or_else(|| bad_config(format!("rope_type is {kind}, which is no text")))?,
        };
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
        let optional = |key: &str| -> Result<Option<f32>, LoadError> {
            let Some(value) = set(key) else { return Ok(None) };
            let found = value.as_f64().map(|value| value as f32);
            found.map(Some).ok_or_else(|| bad_config(format!("{key} is {value}, no number")))
        };
        let number = |key: &str| -> Result<f32, LoadError> {
            optional(key)?
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
                let implied = match (optional("mscale")?, optional("mscale_all_dim")?) {
                    (Some(one), Some(all)) if one != 0.0 && all != 0.0 => {
                        longer(factor, one) / longer(factor, all)
                    }
                    _ => Self::yarn_length(factor),
                };
                Self::Yarn {
                    factor,
                    attention: optional("attention_factor")?.unwrap_or(implied),
                    fast: optional("beta_fast")?.unwrap_or(32.0),
                    slow: optional("beta_slow")?.unwrap_or(1.0),
                    original: optional("original_max_position_embeddings")?
                        .unwrap_or(context as f32),
                    truncate: flag(raw, "truncate", true)?,
                }
            }
            _ => Self::Plain,
        })
    }
}

/// `rope_parameters` or, in older files, `rope_scaling`. What both say has to be the same: versions differ on which of them wins.
fn settings(raw: &Value) -> Result<Option<&Value>, LoadError> {
    let mut found = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(value) = raw.get(key).filter(|value| !value.is_null()) else { continue };
        let Some(object) = value.as_object() else {
            return Err(bad_config(format!("{key} is {value}, which is no object")));
        };
        if object.is_empty() {
            continue;
        }
        if found.is_some_and(|other| other != value) {
            return Err(unsupported("rope_scaling beside another rope_parameters"));
        }
        found = Some(value);
    }
    Ok(found)
}

fn longer(scale: f32, by: f32) -> f32 {
    if scale <= 1.0 { 1.0 } else { 0.1 * by * scale.ln() + 1.0 }
}
