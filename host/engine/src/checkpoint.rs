//! The files of a model or an adapter, in a folder or inside the binary.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::{config::EmbeddedFile, error::LoadError};

/// Everything but weights is read into memory at once. The largest tokenizers have 40 MB.
const MAX_TEXT_BYTES: u64 = 256 << 20;

/// The names and places of a file's tensors. safetensors' own readers have the same bound.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The type that the numbers of a file have in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    As(DType),
    /// Those of 16 bits stay what they are, and all others become `f32`.
    Halves,
}

impl Stored {
    fn of(self, file: DType) -> DType {
        match self {
            Self::As(dtype) => dtype,
            Self::Halves if matches!(file, DType::F16 | DType::BF16) => file,
            Self::Halves => DType::F32,
        }
    }
}

/// Where files are read from.
#[derive(Clone)]
pub(crate) enum Files {
    Embedded(&'static [EmbeddedFile]),
    Folder(PathBuf),
}

impl Files {
    /// For messages.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Embedded(_) => "the model inside the program".to_owned(),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }

    /// The file's text, or nothing where there is no such file.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, LoadError> {
        let Some(bytes) = self.bytes(name, MAX_TEXT_BYTES)? else { return Ok(None) };
        String::from_utf8(bytes.into_owned())
            .map(Some)
            .map_err(|_| LoadError::Config { file: name.to_owned(), reason: "not UTF-8".into() })
    }

    /// The file's JSON, or nothing where there is no such file.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>, LoadError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| LoadError::Config { file: name.to_owned(), reason: error.to_string() })
    }

    /// The JSON of a file that has to be there.
    pub(crate) fn required_json(&self, name: &str) -> Result<Value, LoadError> {
        self.json(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn missing(&self, name: &str) -> LoadError {
        LoadError::MissingFile { file: name.to_owned(), place: self.place() }
    }

    /// The tensors of `{stem}.safetensors`, or of the shards that `{stem}.safetensors.index.json` lists, on `device`. Tensors of
    /// integers (old checkpoints keep position ids) are left out.
    pub(crate) fn tensors(
        &self,
        stem: &str,
        device: &Device,
        stored: Stored,
    ) -> Result<HashMap<String, Tensor>, LoadError> {
        let mut tensors = HashMap::new();
        for shard in self.shards(stem)? {
            let into = Target { device, stored, tensors: &mut tensors };
            match self {
                Self::Embedded(_) => {
                    let bytes = self.bytes(&shard, u64::MAX)?;
                    let bytes = bytes.ok_or_else(|| self.missing(&shard))?;
                    into.read(&shard, bytes.len() as u64, &*bytes)?;
                }
                Self::Folder(folder) => {
                    let path = folder.join(&shard);
                    let file = File::open(&path).map_err(|source| match source.kind() {
                        io::ErrorKind::NotFound => self.missing(&shard),
                        _ => LoadError::Read { path: path.clone(), source },
                    })?;
                    let size = file.metadata().map_or(0, |metadata| metadata.len());
                    into.read(&shard, size, file)?;
                }
            }
        }
        Ok(tensors)
    }

    fn shards(&self, stem: &str) -> Result<BTreeSet<String>, LoadError> {
        let index = format!("{stem}.safetensors.index.json");
        let Some(json) = self.json(&index)? else {
            return Ok(BTreeSet::from([format!("{stem}.safetensors")]));
        };
        shards_of(&json).map_err(|reason| LoadError::Config { file: index, reason })
    }

    fn bytes(&self, name: &str, limit: u64) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        let too_large = || LoadError::TooLarge { file: name.to_owned(), limit };
        match self {
            Self::Embedded(files) => {
                let found = files.iter().copied().find(|(file, _)| *file == name);
                match found {
                    Some((_, bytes)) if bytes.len() as u64 > limit => Err(too_large()),
                    Some((_, bytes)) => Ok(Some(Cow::Borrowed(bytes))),
                    None => Ok(None),
                }
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                let size = match fs::metadata(&path) {
                    Ok(metadata) => metadata.len(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(source) => return Err(LoadError::Read { path, source }),
                };
                if size > limit {
                    return Err(too_large());
                }
                let bytes = fs::read(&path).map_err(|source| LoadError::Read { path, source })?;
                Ok(Some(Cow::Owned(bytes)))
            }
        }
    }
}

/// Where tensors of a file go.
struct Target<'a> {
    device: &'a Device,
    stored: Stored,
    tensors: &'a mut HashMap<String, Tensor>,
}

impl Target<'_> {
    /// Reads a safetensors file tensor by tensor, so that no weight is in memory twice.
    fn read(self, file: &str, size: u64, mut bytes: impl Read) -> Result<(), LoadError> {
        let wrong = |reason: String| LoadError::Config { file: file.to_owned(), reason };
        let read = |error: io::Error| wrong(error.to_string());
        let mut length = [0; 8];
        bytes.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES.min(size) {
            return Err(wrong("it does not begin as a safetensors file does".to_owned()));
        }
        let mut header = vec![0; length as usize];
        bytes.read_exact(&mut header).map_err(read)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| wrong(error.to_string()))?;
        if 8 + length + metadata.data_len() as u64 != size {
            return Err(wrong("it is cut off; fetch it again".to_owned()));
        }
        let mut buffer = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let (start, end) = info.data_offsets;
            buffer.resize(end - start, 0);
            bytes.read_exact(&mut buffer).map_err(read)?;
            let Ok(dtype) = DType::try_from(info.dtype) else { continue };
            if dtype.is_float() {
                let tensor = Tensor::from_raw_buffer(&buffer, dtype, &info.shape, self.device)?;
                self.tensors.insert(name, tensor.to_dtype(self.stored.of(dtype))?);
            }
        }
        Ok(())
    }
}

/// The files that an index names. They lie beside it: a name with a folder in it is refused, wherever it would lead.
pub(crate) fn shards_of(index: &Value) -> Result<BTreeSet<String>, String> {
    let map = index.get("weight_map").and_then(Value::as_object).ok_or("it has no weight_map")?;
    map.values()
        .map(|value| match value.as_str() {
            Some(name) if !name.is_empty() && !name.contains(['/', '\\']) => Ok(name.to_owned()),
            _ => Err(format!("{value} is no file name")),
        })
        .collect()
}
