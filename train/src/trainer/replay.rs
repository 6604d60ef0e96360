//! Block replay: activation checkpointing per residual block.
//!
//! Of a stack of blocks only the input of each block is kept. On the way back every block is run once more,
//! now with a graph, and its gradients are taken before the next one is touched (Chen et al., 2016,
//! "Training Deep Nets with Sublinear Memory Cost"). A stack costs one extra forward pass and holds one
//! `[batch, seq, width]` tensor per block plus the graph of a single block.

use super::alone::alone;
use super::seeds::BlockSeeds;
use crate::optimizer::gradients::Gradients;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::AutodiffBackend};

/// Stacks of blocks that were run without a graph and wait for their backward pass.
pub struct Replay<B: AutodiffBackend> {
    stacks: Vec<Stack<B>>,
}

/// Takes the gradient of a stack's output to that of its input, adding those of its parameters.
type Rewind<B> = Box<
    dyn FnOnce(
        Tensor<<B as AutodiffBackend>::InnerBackend, 3>,
        &mut Gradients<<B as AutodiffBackend>::InnerBackend>,
    ) -> Tensor<<B as AutodiffBackend>::InnerBackend, 3>,
>;

struct Stack<B: AutodiffBackend> {
    /// End of the graph below the blocks.
    input: Tensor<B, 3>,
    /// Start of the graph above the blocks.
    output: Tensor<B, 3>,
    rewind: Rewind<B>,
}

impl<B: AutodiffBackend> Default for Replay<B> {
    fn default() -> Self {
        Self { stacks: Vec::new() }
    }
}

impl<B: AutodiffBackend> Replay<B> {
    /// Runs `x` through the blocks and remembers their inputs. `forward` must do the same in both passes.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - output: `[batch, seq, width]`
    pub(crate) fn run<M: AutodiffModule<B> + 'static>(
        &mut self,
        blocks: &[M],
        x: Tensor<B, 3>,
        seeds: BlockSeeds<B::Device>,
        forward: impl Fn(&M, Tensor<B, 3>) -> Tensor<B, 3> + 'static,
    ) -> Tensor<B, 3> {
        let mut inputs = Vec::with_capacity(blocks.len());
        let mut hidden = x.clone().inner();
        for (index, block) in blocks.iter().enumerate() {
            inputs.push(hidden.clone());
            let untracked = block.clone().no_grad();
            let _alone = seeds.before::<B>(index);
            hidden = forward(&untracked, Tensor::from_inner(hidden)).inner();
        }
        let output = Tensor::from_inner(hidden).require_grad();
        let blocks = blocks.to_vec();
        let rewind: Rewind<B> = Box::new(move |mut up, total| {
            for (index, (block, input)) in blocks.iter().zip(inputs).enumerate().rev() {
                let leaf = Tensor::from_inner(input).require_grad();
                let output = {
                    let _alone = seeds.before::<B>(index);
                    forward(block, leaf.clone())
                };
                let mut grads = dot(output, up).backward();
                up = leaf
                    .grad_remove(&mut grads)
                    .expect("a block's output depends on its input");
                total.add(Gradients::take(&mut grads, block));
            }
            up
        });
        self.stacks.push(Stack {
            input: x,
            output: output.clone(),
            rewind,
        });
        output
    }

    /// Gradients of `loss` with respect to the parameters of `model`, the blocks included.
    pub fn backward<M: AutodiffModule<B>>(
        mut self,
        loss: Tensor<B, 1>,
        model: &M,
    ) -> Gradients<B::InnerBackend> {
        let _alone = alone();
        let mut grads = connected(loss).backward();
        let mut total = Gradients::take(&mut grads, model);
        let mut pending: Vec<_> = self
            .stacks
            .iter()
            .map(|stack| stack.output.grad_remove(&mut grads))
            .collect();
        drop(grads);
        // Later stacks may have fed on earlier ones, so they go first.
        while let (Some(stack), Some(up)) = (self.stacks.pop(), pending.pop()) {
            let Some(up) = up else { continue };
            let down = (stack.rewind)(up, &mut total);
            let mut grads = connected(dot(stack.input, down)).backward();
            total.add(Gradients::take(&mut grads, model));
            for (earlier, pending) in self.stacks.iter().zip(&mut pending) {
                if let Some(more) = earlier.output.grad_remove(&mut grads) {
                    *pending = Some(match pending.take() {
                        Some(sum) => sum + more,
                        None => more,
                    });
                }
            }
        }
        total
    }
}

/// A scalar whose gradient with respect to `x` is `up`.
pub(crate) fn dot<B: AutodiffBackend, const D: usize>(
    x: Tensor<B, D>,
    up: Tensor<B::InnerBackend, D>,
) -> Tensor<B, 1> {
    (x * Tensor::from_inner(up)).sum()
}

/// The same value in a graph that has at least one leaf: a loss of frozen parameters alone has none, and
/// could not be taken backwards.
pub(crate) fn connected<B: AutodiffBackend>(loss: Tensor<B, 1>) -> Tensor<B, 1> {
    let anchor = Tensor::<B, 1>::zeros([1], (&loss.device(), loss.dtype())).require_grad();
    loss + anchor
}
