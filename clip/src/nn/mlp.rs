use super::{Activation, Linear};
use burn::prelude::*;

/// Two linear layers around an activation.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    /// width → hidden.
    pub c_fc: Linear<B>,
    /// hidden → width.
    pub c_proj: Linear<B>,
    /// Between the two.
    #[module(skip)]
    pub activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// # Shapes
    ///
    /// - x, output: `[..., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        self.c_proj
            .forward(self.activation.forward(self.c_fc.forward(x)))
    }
}
