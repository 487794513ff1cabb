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
    /// A tensor as numbers that can be calculated with.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError>;

    /// The weight of a linear layer, (outputs, inputs).
    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Result<Matrix, LoadError>;
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
pub(super) struct Tensors(pub(super) HashMap<String, Tensor>);

impl Weights for Tensors {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let Some(tensor) = self.0.remove(name) else {
            return Err(LoadError::MissingTensor { name: name.to_owned() });
        };
        check_shape(name, shape, tensor.dims())?;
        Ok(tensor.contiguous()?)
    }

    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Result<Matrix, LoadError> {
        Ok(Matrix::Float(self.tensor(name, &[shape.0, shape.1])?))
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
