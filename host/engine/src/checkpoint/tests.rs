use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor, safetensors};
use serde_json::json;

use super::{Files, Stored, shards_of};

#[test]
fn shards_make_up_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in [("a.safetensors", "one"), ("b.safetensors", "two")] {
        let half = Tensor::ones((2, 3), DType::BF16, &Device::Cpu).unwrap();
        let ids = Tensor::zeros(4, DType::I64, &Device::Cpu).unwrap();
        let tensors = HashMap::from([(name.to_owned(), half), (format!("{name}.ids"), ids)]);
        safetensors::save(&tensors, folder.path().join(file)).unwrap();
    }
    let index = json!({"weight_map": {"one": "a.safetensors", "two": "b.safetensors"}});
    fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();

    let files = Files::Folder(folder.path().to_owned());
    let tensors = files.tensors("model", &Device::Cpu, Stored::As(DType::F32)).unwrap();
    let mut names: Vec<_> = tensors.keys().cloned().collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    assert!(tensors.values().all(|tensor| tensor.dtype() == DType::F32));
    let halves = files.tensors("model", &Device::Cpu, Stored::Halves).unwrap();
    assert!(halves.values().all(|tensor| tensor.dtype() == DType::BF16));
}

#[test]
fn an_index_cannot_leave_its_folder() {
    for name in ["../a.safetensors", "/a.safetensors", "a\\b", "", "x/../../y"] {
        assert!(shards_of(&json!({"weight_map": {"w": name}})).is_err(), "{name}");
    }
    assert!(shards_of(&json!({})).is_err());
}

#[test]
fn a_file_that_is_missing_is_named() {
    const FILES: &[crate::EmbeddedFile] = &[("config.json", b"{"), ("other.json", b"{}")];
    let files = Files::Embedded(FILES);
    assert!(files.json("other.json").unwrap().is_some());
    assert!(files.json("none.json").unwrap().is_none());
    assert!(files.json("config.json").unwrap_err().to_string().starts_with("config.json is wrong"));
    let missing = files.tensors("model", &Device::Cpu, Stored::As(DType::F32)).unwrap_err();
    assert!(missing.to_string().contains("has no model.safetensors"), "{missing}");
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensor = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    safetensors::save(&HashMap::from([("one".to_owned(), tensor)]), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let files = Files::Folder(folder.path().to_owned());
    assert!(files.tensors("model", &Device::Cpu, Stored::As(DType::F32)).is_ok());
    for length in [0, 7, 8, 20, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error =
            files.tensors("model", &Device::Cpu, Stored::As(DType::F32)).unwrap_err().to_string();
        assert!(error.starts_with("model.safetensors is wrong"), "{length}: {error}");
    }
}
