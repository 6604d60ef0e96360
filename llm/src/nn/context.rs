use super::{Dropout, Rotation};
use burn::prelude::*;

/// What all layers share in one pass over a batch.
#[derive(Debug, Clone)]
pub struct Context<B: Backend> {
    /// Turns of the positions.
    pub rotation: Rotation<B>,
    /// Added to the attention scores; see [`Decoder::bias`](crate::Decoder::bias). None lets every query see every key.
    pub bias: Option<Tensor<B, 4>>,
    /// What LoRA drops of its inputs; none outside training.
    pub dropout: Option<Dropout>,
}

impl<B: Backend> Context<B> {
    /// Without dropout.
    pub fn new(rotation: Rotation<B>, bias: Option<Tensor<B, 4>>) -> Self {
        Self {
            rotation,
            bias,
            dropout: None,
        }
    }

    /// The same with these draws of dropout.
    pub fn with_dropout(self, dropout: Option<Dropout>) -> Self {
        Self { dropout, ..self }
    }
}
