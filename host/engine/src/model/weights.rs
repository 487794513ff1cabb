//! Where a decoder finds its weights: tensors of a checkpoint, by their names in transformers.

use std::{collections::HashMap, sync::Arc};

use candle_core::{
    DType, Tensor,
    quantized::{QMatMul, QTensor},
};

use super::packed::Packed;
use crate::error::LoadError;

/// Tensors by name. Each is taken out once, so that what nobody takes is freed.
pub(super) trait Weights {
    /// A tensor, of the type that is calculated with.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError>;

    /// The weight of a linear layer, (outputs, inputs), of the type that it is stored with.
    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Result<Matrix, LoadError>;

    /// Names of the tensors that nothing has taken, in any order.
    fn rest(&self) -> Vec<&str>;
}

/// Refuses a checkpoint with tensors that nothing has read: it is of another model than the one that was built, and without
/// them its answers would be wrong. `unused` says which ones this model can do without.
pub(super) fn check_rest(
    weights: &dyn Weights,
    unused: impl Fn(&str) -> bool,
) -> Result<(), LoadError> {
    let rest = weights.rest().into_iter();
    match rest.filter(|name| !is_computed(name) && !unused(name)).min() {
        None => Ok(()),
        Some(name) => Err(LoadError::Unsupported {
            feature: format!("tensor {name}"),
            instead: "the model that the configuration describes has no such part",
        }),
    }
}

/// Tables of rotary positions, which old versions of transformers saved. They are computed from the configuration, there and here.
fn is_computed(name: &str) -> bool {
    ["inv_freq", "cos_cached", "sin_cached"]
        .iter()
        .any(|table| name.strip_suffix(*table).is_some_and(|rest| rest.ends_with("rotary_emb.")))
}

/// What a linear layer multiplies with.
#[derive(Clone)]
pub(super) enum Matrix {
    Float(Tensor),
    Quantized(QMatMul),
    /// Quantized, for the kernels here.
    Packed(Arc<Packed>),
}

impl Matrix {
    /// Quantized as it is in the file, or as floats where candle has no products for its type.
    pub(super) fn quantized(tensor: QTensor) -> Result<Self, LoadError> {
        Ok(match QMatMul::from_arc(Arc::new(tensor))? {
            QMatMul::Tensor(tensor) => Self::Float(tensor.to_dtype(DType::F32)?),
            QMatMul::QTensor(tensor) => match Packed::new(&tensor)? {
                Some(packed) => Self::Packed(Arc::new(packed)),
                None => Self::Quantized(QMatMul::QTensor(tensor)),
            },
            other => Self::Quantized(other),
        })
    }
}

/// Tensors of safetensors files.
pub(super) struct Tensors {
    all: HashMap<String, Tensor>,
    dtype: DType,
}

impl Tensors {
    /// `dtype` is what is calculated with. On a GPU all tensors have it; on a CPU matrices may have 16 bits.
    pub(super) fn new(all: HashMap<String, Tensor>, dtype: DType) -> Self {
        Self { all, dtype }
    }

    pub(super) fn into_inner(self) -> HashMap<String, Tensor> {
        self.all
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let Some(tensor) = self.all.remove(name) else {
            return Err(LoadError::MissingTensor { name: name.to_owned() });
        };
        check_shape(name, shape, tensor.dims())?;
        Ok(tensor.contiguous()?)
    }
}

impl Weights for Tensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        Ok(self.take(name, shape)?.to_dtype(self.dtype)?)
    }

    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Result<Matrix, LoadError> {
        Ok(Matrix::Float(self.take(name, &[shape.0, shape.1])?))
    }

    fn rest(&self) -> Vec<&str> {
        self.all.keys().map(String::as_str).collect()
    }
}

pub(super) fn check_shape(
    name: &str,
    expected: &[usize],
    found: &[usize],
) -> Result<(), LoadError> {
    if expected == found {
        return Ok(());
    }
    Err(LoadError::Shape {
        name: name.to_owned(),
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}
