//! Which keys of preprocessor_config.json there may be: one that changes pixels and that nothing reads is refused.

use serde_json::Value;

/// What some processors do that is done here.
pub(super) struct Known {
    processors: &'static [&'static str],
    /// Keys that are read, other than the flags.
    read: &'static [&'static str],
}

/// One image becomes one of one size.
pub(super) const ONE_SIZE: Known = Known {
    processors: &[
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "LlavaImageProcessor",
        "LlavaImageProcessorFast",
        "SiglipImageProcessor",
        "SiglipImageProcessorFast",
    ],
    read: &["size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std"],
};

/// It becomes one of whole squares.
pub(super) const ANY_SIZE: Known = Known {
    processors: &[
        "Qwen2VLImageProcessor",
        "Qwen2VLImageProcessorFast",
        "Qwen3VLImageProcessor",
        "Qwen3VLImageProcessorFast",
    ],
    read: &[
        "size",
        "min_pixels",
        "max_pixels",
        "patch_size",
        "merge_size",
        "temporal_patch_size",
        "resample",
        "rescale_factor",
        "image_mean",
        "image_std",
    ],
};

const FLAGS: [&str; 6] =
    ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb"];

/// Names, forms of what comes out, and the colour of a padding that is refused itself.
const HARMLESS: [&str; 11] = [
    "_valid_processor_keys",
    "auto_map",
    "background_color",
    "data_format",
    "device",
    "disable_grouping",
    "image_seq_length",
    "input_data_format",
    "pad_size",
    "processor_class",
    "return_tensors",
];

/// Says what is wrong with the keys of `config`.
pub(super) fn check(config: &Value, known: &Known) -> Result<(), String> {
    for (key, value) in config.as_object().into_iter().flatten() {
        match key.as_str() {
            "image_processor_type" | "feature_extractor_type" => {
                let is_known = value.is_null()
                    || value.as_str().is_some_and(|name| known.processors.contains(&name));
                if !is_known {
                    return Err(format!("{key} {value} is not supported"));
                }
            }
            flag if FLAGS.contains(&flag) => {
                if !value.is_boolean() && !value.is_null() {
                    return Err(format!("{key} is {value}, which is neither true nor false"));
                }
            }
            // It says what a size of one number means.
            "default_to_square" => {
                if value.as_bool() == Some(true) && config.get("size").is_some_and(Value::is_number)
                {
                    return Err("default_to_square with a size of one number".to_owned());
                }
            }
            "rescale_factor" if !value.is_number() && !value.is_null() => {
                return Err(format!("rescale_factor is {value}, no number"));
            }
            read if known.read.contains(&read) || HARMLESS.contains(&read) => {}
            _ if is_off(value) => {}
            _ => return Err(format!("{key} is not supported")),
        }
    }
    Ok(())
}

/// What is off has no effect, whatever it is.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
