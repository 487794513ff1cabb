use ::image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::{Value, json};

use super::{Preprocess, fit::Fit};
use crate::tests::json_file;

fn values(config: &Value, side: u32, image: &DynamicImage) -> (Vec<usize>, Vec<f32>) {
    let tensor = Preprocess::new(Some(config), side).unwrap().apply(image).unwrap();
    (tensor.dims().to_vec(), tensor.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn every_image_gets_the_size_of_the_tower() {
    let clip = json!({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}});
    let square = json!({"size": {"height": 32, "width": 32}, "do_center_crop": false});
    let old = json!({"size": 32, "crop_size": 32, "resample": 2});
    let none = json!({"do_resize": false, "crop_size": 32});
    for config in [clip, square, old, none, Value::Null] {
        for (width, height) in [(32, 32), (1, 1), (7, 90), (640, 480), (33, 31)] {
            let (shape, values) = values(&config, 32, &DynamicImage::new_rgb8(width, height));
            assert_eq!(shape, [3, 32, 32], "{config} {width} x {height}");
            assert!(values.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn colours_are_scaled_and_normalized() {
    let config = json!({
        "size": {"height": 1, "width": 1}, "do_center_crop": false,
        "image_mean": [0.5, 0.5, 0.0], "image_std": [0.5, 0.5, 1.0],
    });
    let rgb = DynamicImage::from(RgbImage::from_pixel(1, 1, Rgb([255, 0, 51])));
    let (_, found) = values(&config, 1, &rgb);
    for (found, expected) in found.iter().zip([1.0, -1.0, 0.2]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    // Transparency is dropped, not blended.
    let rgba = DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([255, 0, 51, 0])));
    assert_eq!(values(&config, 1, &rgba).1, found);
}

#[test]
fn the_middle_is_cut_out() {
    let raw =
        json!({"do_resize": false, "crop_size": 2, "do_rescale": false, "do_normalize": false});
    let row = |width: u32| {
        let pixel = |x: u32, _: u32| Rgb([u8::try_from(x).unwrap() + 1, 0, 0]);
        DynamicImage::from(RgbImage::from_fn(width, 2, pixel))
    };
    for (width, expected) in [(2, [1.0, 2.0]), (4, [2.0, 3.0]), (5, [2.0, 3.0]), (1, [0.0, 1.0])] {
        let (_, values) = values(&raw, 2, &row(width));
        assert_eq!(values[..2], expected, "{width}");
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    for config in [
        json!({"size": {"height": 64, "width": 64}, "do_center_crop": false}),
        json!({"size": {"shortest_edge": 32}, "do_center_crop": false}),
        json!({"crop_size": 16}),
        json!({"size": {"longest_edge": 32}}),
        json!({"size": 0}),
        json!({"resample": 5}),
        json!({"resample": "bicubic"}),
        json!({"do_pad": true}),
        json!({"do_center_crop": "no", "size": {"height": 32, "width": 32}}),
        json!({"rescale_factor": "1/255"}),
        json!({"image_processor_type": "LlavaNextImageProcessor"}),
        json!({"feature_extractor_type": "ViTFeatureExtractor"}),
        json!({"image_grid_pinpoints": [[32, 64]]}),
        json!({"crop_pct": 0.9}),
        json!({"default_to_square": true, "size": 32}),
        json!({"use_square_size": true}),
        json!({"image_mean": [0.5]}),
        json!({"image_std": [0.0, 1.0, 1.0]}),
    ] {
        assert!(Preprocess::new(Some(&config), 32).is_err(), "{config}");
    }
    let harmless = json!({"processor_class": "LlavaProcessor", "do_pad": false, "crop_pct": null,
        "default_to_square": true, "image_processor_type": "LlavaImageProcessor", "resample": null});
    assert_eq!(Preprocess::new(Some(&harmless), 32).unwrap(), Preprocess::new(None, 32).unwrap());
    let preprocess = Preprocess::new(None, 32).unwrap();
    for (width, height) in [(0, 5), (1, 1000), (100_000, 2)] {
        let error = preprocess.apply(&DynamicImage::new_rgb8(width, height)).unwrap_err();
        assert_eq!(error.error_type(), "bad_image", "{width} x {height}");
    }
}

#[test]
fn sizes_are_those_of_transformers() {
    let golden = json_file("qwen3-vl", "golden.json");
    for row in golden["sizes"].as_array().unwrap() {
        let row: Vec<u64> = serde_json::from_value(row.clone()).unwrap();
        let [height, width, square, least, most, high, wide] = row[..] else { panic!("{row:?}") };
        let number = |it: u64| u32::try_from(it).unwrap();
        let read = |config: &Value| Fit::read(config, number(square)).unwrap();
        let fit = read(&json!({"size": {"shortest_edge": least, "longest_edge": most}}));
        let found = fit.of(number(width), number(height));
        assert_eq!(found, (number(wide), number(high)), "{row:?}");
        assert_eq!(fit, read(&json!({"min_pixels": least, "max_pixels": most, "size": null})));
    }
    let said_nothing = Fit::read(&json!({}), 28).unwrap();
    assert_eq!(said_nothing.of(3000, 3000), (980, 980));
    assert_eq!(said_nothing.of(1, 1), (56, 56));
}

#[test]
fn no_image_has_more_squares_than_it_may() {
    let bounds = json!({"size": {"shortest_edge": 65536, "longest_edge": 16_777_216}});
    let fit = Fit::read(&bounds, 32).unwrap();
    let squares = |fit: Fit, width: u32, height: u32| {
        let (width, height) = fit.of(width, height);
        (width / 32) as usize * (height / 32) as usize
    };
    assert_eq!(squares(fit, 4096, 4096), 16_384);
    for limit in [256, 300, 1024, 5000] {
        for (width, height) in
            [(4096, 4096), (1, 1), (1, 200), (200, 1), (8000, 40), (333, 3333), (511, 513)]
        {
            let count = squares(fit.limited(limit), width, height);
            assert!((1..=limit).contains(&count), "{width} x {height}: {count} of {limit}");
        }
    }
    assert_eq!(squares(fit.limited(1024), 4096, 4096), 1024);
    assert_eq!(fit.limited(1024).of(640, 480), fit.of(640, 480));
    assert_eq!(fit.limited(20_000), fit);
    let limited = Preprocess::any_size(&bounds, 32).unwrap().limited(1024);
    assert_eq!(limited.size(4096, 2048).unwrap(), (1440, 704));
    let clip = Preprocess::new(None, 32).unwrap();
    assert_eq!(clip.clone().limited(1), clip);
}

#[test]
fn what_no_tower_for_any_size_takes_is_refused() {
    for (config, named) in [
        (json!({"do_resize": false}), "do_resize"),
        (json!({"do_pad": true}), "do_pad"),
        (json!({"do_center_crop": true}), "do_center_crop"),
        (json!({"size": {"shortest_edge": 256}}), "longest_edge"),
        (json!({"size": {"height": 64, "width": 64}}), "height"),
        (json!({"size": 448}), "size"),
        (json!({"size": {"shortest_edge": "small", "longest_edge": 4096}}), "shortest_edge"),
        (json!({"max_pixels": "many"}), "longest_edge"),
        (json!({"do_resize": "yes"}), "do_resize"),
        (json!({"rescale_factor": "1/255"}), "rescale_factor"),
        (json!({"image_mean": [0.5, 0.5, 0.5, "0.5"]}), "image_mean"),
        (json!({"crop_size": 448}), "crop_size"),
        (json!({"crop_pct": 0.9}), "crop_pct"),
        (json!({"image_processor_type": "CLIPImageProcessor"}), "CLIPImageProcessor"),
        (json!({"image_processor_type": "SmolVLMImageProcessor"}), "SmolVLMImageProcessor"),
        (json!({"min_pixels": 0}), "shortest_edge"),
        (json!({"max_pixels": 1_u64 << 40}), "longest_edge"),
        (json!({"min_pixels": 5000, "max_pixels": 4000}), "at least"),
        (json!({"resample": 5}), "resample"),
        (json!({"image_std": [0.0, 1.0, 1.0]}), "image_std"),
    ] {
        let error = Preprocess::any_size(&config, 8).unwrap_err().to_string();
        assert!(error.contains(named), "{config}: {error}");
    }
    assert!(Preprocess::any_size(&json!({}), 0).is_err());
    // As the file of Qwen3-VL names it, and what transformers adds to it.
    let plain =
        json!({"size": {"shortest_edge": 65536, "longest_edge": 16_777_216}, "patch_size": 16});
    let mut full = plain.clone();
    for (key, value) in [
        ("image_processor_type", json!("Qwen2VLImageProcessorFast")),
        ("processor_class", json!("Qwen3VLProcessor")),
        ("data_format", json!("channels_first")),
        ("crop_size", Value::Null),
        ("image_mean", Value::Null),
        ("do_center_crop", Value::Null),
        ("do_pad", json!(false)),
        ("temporal_patch_size", json!(2)),
        ("merge_size", json!(2)),
    ] {
        full[key] = value;
    }
    let read = |config: &Value| Preprocess::any_size(config, 32).unwrap();
    assert_eq!(read(&full), read(&plain));
    let preprocess = Preprocess::any_size(&json!({}), 28).unwrap();
    assert_eq!(preprocess.size(1, 200).unwrap(), (28, 812));
    for (width, height) in [(0, 5), (1, 201)] {
        let error = preprocess.apply(&DynamicImage::new_rgb8(width, height)).unwrap_err();
        assert_eq!(error.error_type(), "bad_image", "{width} x {height}");
    }
}
