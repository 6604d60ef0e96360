//! Which kernels a backend has.

use crate::{Activation, AdamW, Ids, Raw, Updates};
use burn::prelude::*;
use burn::tensor::Bytes;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::RwLock;

/// The kernels of a backend, plain or under `Autodiff`. Each is `None` for inputs that it cannot take; those not written are
/// `None` for all. Shapes and formulas are those of the functions of the same name in this crate.
#[allow(missing_docs)] // said there
pub trait Kernels<B: Backend>: Send + Sync {
    fn layer_norm(&self, _x_weight_bias: [Raw<B>; 3], _eps: f64) -> Option<Raw<B>> {
        None
    }

    fn activation(&self, _kind: Activation, _x: Raw<B>) -> Option<Raw<B>> {
        None
    }

    fn attention(&self, _qkv: Raw<B>, _heads: usize, _mask: Option<Raw<B>>) -> Option<Raw<B>> {
        None
    }

    fn grouped_attention(
        &self,
        _qkv: [Raw<B>; 3],
        _heads: usize,
        _shared: usize,
        _mask: Option<Raw<B>>,
    ) -> Option<Raw<B>> {
        None
    }

    fn rms_norm(&self, _x_weight: [Raw<B>; 2], _eps: f64) -> Option<Raw<B>> {
        None
    }

    fn rotary(&self, _x: Raw<B>, _cos_sin: [Raw<B>; 2]) -> Option<Raw<B>> {
        None
    }

    fn swiglu(&self, _gate_up: [Raw<B>; 2]) -> Option<Raw<B>> {
        None
    }

    fn linear(&self, _x_weight_bias: [Raw<B>; 3]) -> Option<Raw<B>> {
        None
    }

    fn linear_activation(&self, _kind: Activation, _x_weight_bias: [Raw<B>; 3]) -> Option<Raw<B>> {
        None
    }

    fn linear_add(&self, _x_weight_bias_beside: [Raw<B>; 4]) -> Option<Raw<B>> {
        None
    }

    fn add_row(&self, _x_row: [Raw<B>; 2]) -> Option<Raw<B>> {
        None
    }

    fn embedding(&self, _table: Raw<B>, _ids: Ids<B>) -> Option<Raw<B>> {
        None
    }

    fn look_up(
        &self,
        pixels: Bytes,
        _images: usize,
        _tables: &[[f32; 256]; 3],
        _device: &Device<B>,
    ) -> Result<Raw<B>, Bytes> {
        Err(pixels)
    }

    fn ids(&self, _ids: &[i32], _shape: [usize; 2], _device: &Device<B>) -> Option<Ids<B>> {
        None
    }

    fn in_host_memory(&self) -> bool {
        false
    }

    fn product(&self, _x_weight: [Raw<B>; 2]) -> Option<Raw<B>> {
        None
    }

    fn adamw(&self, _numbers: AdamW, _tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
        None
    }

    fn adamw_all(&self, updates: Updates<Raw<B>>) -> Result<Vec<[Raw<B>; 3]>, Updates<Raw<B>>> {
        Err(updates)
    }

    fn norm(&self, _tensors: Vec<Raw<B>>) -> Option<Raw<B>> {
        None
    }

    fn scale(&self, tensors: Vec<Raw<B>>, _factor: Raw<B>) -> Result<Vec<Raw<B>>, Vec<Raw<B>>> {
        Err(tensors)
    }
}

/// Backend → its `&'static dyn Kernels`.
static REGISTERED: RwLock<Option<HashMap<TypeId, Box<dyn Any + Send + Sync>>>> = RwLock::new(None);

/// From now on the layers of backend `B` ask these kernels first. To be called for a backend and for `Autodiff` of it, before
/// the first model is run; again is harmless.
pub fn register<B: Backend>(kernels: &'static dyn Kernels<B>) {
    let mut registered = REGISTERED.write().unwrap_or_else(|e| e.into_inner());
    let table = registered.get_or_insert_default();
    table.insert(TypeId::of::<B>(), Box::new(kernels));
}

/// The kernels of a backend; those of flex need no registering.
pub(crate) fn of<B: Backend>() -> Option<&'static dyn Kernels<B>> {
    #[cfg(feature = "flex")]
    if crate::flex::is_flex::<B>() {
        return Some(&crate::flex::FlexKernels);
    }
    let registered = REGISTERED.read().unwrap_or_else(|e| e.into_inner());
    let kernels = registered.as_ref()?.get(&TypeId::of::<B>())?;
    kernels.downcast_ref().copied()
}
