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
        self.c_proj.forward(self.hidden(x))
    }

    /// `beside` plus what [`forward`](Self::forward) gives.
    ///
    /// # Shapes
    ///
    /// - x, beside, output: `[..., width]`
    pub fn forward_beside<const D: usize>(
        &self,
        x: Tensor<B, D>,
        beside: Tensor<B, D>,
    ) -> Tensor<B, D> {
        self.c_proj.forward_beside(self.hidden(x), beside)
    }

    /// The activation of the first layer, in one go where there is a kernel.
    fn hidden<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let mut shape = x.dims();
        let rows = shape[..D - 1].iter().product::<usize>();
        let flat = x.clone().reshape([rows, shape[D - 1]]);
        let weight = self.c_fc.weight.val();
        let bias = self.c_fc.bias.as_ref().map(|bias| bias.val());
        shape[D - 1] = weight.dims()[0];
        let made = bias.and_then(|bias| {
            kernels::linear_activation(self.activation.kind(), &flat, &weight, &bias)
        });
        match made {
            Some(hidden) => hidden.reshape(shape),
            None => self.activation.forward(self.c_fc.forward(x)),
        }
    }
}
