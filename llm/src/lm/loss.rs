use super::Predictions;
use burn::prelude::*;
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, IndexingUpdateOp, TensorData};
use clip::nn::{linear, lookup};

/// Mean cross-entropy of the predicted tokens, with gradients; 0 without a graph if nothing is predicted.
///
/// Logits exist for as many rows at a time as fit in `memory` bytes, at least one: a whole `[tokens, vocab]` would be
/// gigabytes for a vocabulary of 128,256. Their gradients are taken at once in closed form, so no chunk outlives its turn. A
/// few MB do for a CPU; a GPU is quicker with some hundred.
///
/// # Shapes
///
/// - hidden: `[batch, seq, width]`, from the decoder
/// - head: `[vocab, width]`, the parameter itself ([`Llama::head_weight`](crate::Llama::head_weight)): it gets a gradient
///   if it is a leaf that requires one
/// - output: `[1]`, f32
///
/// # Panics
///
/// Panics if a position or a token is beyond the shapes.
pub fn cross_entropy<B: AutodiffBackend>(
    hidden: Tensor<B, 3>,
    head: Tensor<B, 2>,
    predictions: &Predictions,
    memory: usize,
) -> Tensor<B, 1> {
    let device = hidden.device();
    if predictions.is_empty() {
        return Tensor::zeros([1], (&device, DType::F32));
    }
    let rows = gather(hidden, predictions);
    let trained = head.is_require_grad();
    let (value, grads) = in_chunks(
        rows.clone().inner(),
        head.clone().inner(),
        predictions,
        memory,
        Some(trained),
    );
    let (to_rows, to_head) = grads.expect("asked for");
    // A linear function of rows and head with these gradients, whose own value is taken away again.
    let mut carrier = dot(rows, to_rows);
    if let Some(to_head) = to_head {
        carrier = carrier + dot(head, to_head);
    }
    carrier.clone() - carrier.detach() + Tensor::from_inner(value)
}

/// [`cross_entropy`] without gradients, for validation.
///
/// # Shapes
///
/// - as [`cross_entropy`]
pub fn cross_entropy_value<B: Backend>(
    hidden: Tensor<B, 3>,
    head: Tensor<B, 2>,
    predictions: &Predictions,
    memory: usize,
) -> Tensor<B, 1> {
    if predictions.is_empty() {
        return Tensor::zeros([1], (&hidden.device(), DType::F32));
    }
    in_chunks(gather(hidden, predictions), head, predictions, memory, None).0
}

fn gather<B: Backend>(hidden: Tensor<B, 3>, predictions: &Predictions) -> Tensor<B, 2> {
    let ([batch, seq, width], device) = (hidden.dims(), hidden.device());
    let positions: Vec<i32> = predictions.positions.iter().map(|at| *at as i32).collect();
    let positions = Tensor::from_data(positions.as_slice(), &device);
    lookup(hidden.reshape([batch * seq, width]), positions)
}

fn dot<B: AutodiffBackend>(x: Tensor<B, 2>, gradient: Tensor<B::InnerBackend, 2>) -> Tensor<B, 1> {
    (x.cast(DType::F32) * Tensor::from_inner(gradient)).sum()
}

/// Gradients with respect to rows and head, f32.
type Gradients<B> = (Tensor<B, 2>, Option<Tensor<B, 2>>);

/// Mean cross-entropy of rows; with gradients, and whether the head wants one, if asked for.
fn in_chunks<B: Backend>(
    rows: Tensor<B, 2>,
    head: Tensor<B, 2>,
    predictions: &Predictions,
    memory: usize,
    gradients: Option<bool>,
) -> (Tensor<B, 1>, Option<Gradients<B>>) {
    let (device, dtype) = (rows.device(), rows.dtype());
    let (count, [vocab, width]) = (predictions.len(), head.dims());
    let head = head.cast(dtype);
    let mut value = Tensor::zeros([1], (&device, DType::F32));
    let mut to_rows = Vec::new();
    let mut to_head =
        (gradients == Some(true)).then(|| Tensor::zeros([vocab, width], (&device, DType::F32)));
    let chunk = (memory / (4 * vocab)).max(1);
    for (i, tokens) in predictions.tokens.chunks(chunk).enumerate() {
        let part = rows.clone().narrow(0, i * chunk, tokens.len());
        let logits = linear(part.clone(), head.clone(), None).cast(DType::F32);
        let log = log_softmax(logits, 1);
        let ids: Vec<i32> = tokens.iter().map(|id| *id as i32).collect();
        // In one row: of more axes burn's CUDA backend pads the last one.
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &device);
        let ids = ids.unsqueeze_dim::<2>(1);
        value = value - log.clone().gather(1, Tensor::clone(&ids)).sum();
        if gradients.is_none() {
            continue;
        }
        let less = Tensor::full([tokens.len(), 1], -1.0, (&device, DType::F32));
        let up = log.exp().scatter(1, ids, less, IndexingUpdateOp::Add) / count as f32;
        let up = up.cast(dtype);
        to_rows.push(up.clone().matmul(head.clone()).cast(DType::F32));
        if let Some(sum) = to_head.take() {
            to_head = Some(sum + up.transpose().matmul(part).cast(DType::F32));
        }
    }
    let gradients = gradients.map(|_| (Tensor::cat(to_rows, 0), to_head));
    (value / count as f32, gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LlamaConfig;
    use crate::model::Llama;
    use burn::backend::Autodiff;
    use burn::optim::{AdamConfig, GradientsParams, Optimizer};
    use burn::tensor::Distribution;
    use burn_flex::Flex;
    use clip::Precision;

    type B = Autodiff<Flex>;

    /// The formula as it stands in books.
    fn plain(hidden: Tensor<B, 3>, head: Tensor<B, 2>, predictions: &Predictions) -> Tensor<B, 1> {
        let log = log_softmax(linear(gather(hidden, predictions), head, None), 1);
        let ids: Vec<i32> = predictions.tokens.iter().map(|id| *id as i32).collect();
        let ids = TensorData::new(ids, [predictions.len(), 1]);
        log.gather(1, Tensor::from_data(ids, &Default::default()))
            .mean()
            .neg()
    }

    fn close(a: Tensor<Flex, 2>, b: Tensor<Flex, 2>) {
        let largest = b.clone().abs().max().into_scalar();
        let distance = (a - b).abs().max().into_scalar();
        assert!(distance <= 1e-6 * largest, "{distance} of {largest}");
    }

    #[test]
    fn chunks_of_any_size_give_the_loss_and_gradients_of_the_whole() {
        let device = Default::default();
        let random = |rows, width| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<B, 2>::random([rows, width], normal, &device).inner()
        };
        let (states, table) = (random(12, 5), random(7, 5));
        let labels: Vec<_> = (0..12).map(|i| (i % 4 != 2).then_some(i * 5 % 7)).collect();
        let predictions = Predictions::new(&labels, 4);
        let run = |loss: &dyn Fn(Tensor<B, 3>, Tensor<B, 2>) -> Tensor<B, 1>, trained: bool| {
            let states = Tensor::<B, 2>::from_inner(states.clone()).require_grad();
            let table = Tensor::<B, 2>::from_inner(table.clone()).set_require_grad(trained);
            let value = loss(states.clone().reshape([3, 4, 5]), table.clone());
            let grads = (value.clone() * 3.0).backward();
            (
                value.into_scalar(),
                states.grad(&grads).unwrap(),
                table.grad(&grads),
            )
        };
        let whole = run(&|states, table| plain(states, table, &predictions), true);
        for memory in [0, 4 * 7, 3 * 4 * 7, 1 << 20] {
            let chunked = |states, table| cross_entropy(states, table, &predictions, memory);
            let got = run(&chunked, true);
            assert!((got.0 - whole.0).abs() < 1e-6 * whole.0);
            close(got.1, whole.1.clone());
            close(got.2.unwrap(), whole.2.clone().unwrap());
            let frozen = run(&chunked, false);
            close(frozen.1, whole.1.clone());
            assert!(frozen.2.is_none(), "a frozen head gets no gradient");
        }
        let states = Tensor::<Flex, 2>::reshape(states.clone(), [3, 4, 5]);
        let value = cross_entropy_value(states, table.clone(), &predictions, 0).into_scalar();
        assert!((value - whole.0).abs() < 1e-6 * whole.0);
    }

    #[test]
    fn bf16_states_give_nearly_the_loss_and_gradients_of_f32() {
        let device = Default::default();
        let normal = Distribution::Normal(0.0, 1.0);
        let states = Tensor::<B, 3>::random([2, 8, 16], normal, &device).inner();
        let head = Tensor::<B, 2>::random([30, 16], normal, &device).inner();
        let labels: Vec<_> = (0..16).map(Some).collect();
        let predictions = Predictions::new(&labels, 8);
        let run = |dtype| {
            let states = Tensor::<B, 3>::from_inner(states.clone()).require_grad();
            let head = Tensor::<B, 2>::from_inner(head.clone()).require_grad();
            let loss = cross_entropy(states.clone().cast(dtype), head.clone(), &predictions, 500);
            let grads = loss.backward();
            let head = head.grad(&grads).unwrap();
            let states = states.grad(&grads).unwrap().reshape([16, 16]);
            (loss.into_scalar(), [states, head])
        };
        let (whole, half) = (run(DType::F32), run(DType::BF16));
        assert!((half.0 - whole.0).abs() < 0.01 * whole.0);
        for (half, whole) in half.1.into_iter().zip(whole.1) {
            let distance = (half - whole.clone()).abs().max().into_scalar();
            let largest = whole.abs().max().into_scalar();
            assert!(distance < 0.02 * largest, "{distance} of {largest}");
        }
    }

    #[test]
    fn a_tiny_llama_learns_two_lines_by_heart() {
        let device = Default::default();
        let config = LlamaConfig {
            hidden_size: 32,
            head_dim: 8,
            intermediate_size: 48,
            num_hidden_layers: 2,
            ..LlamaConfig::tiny(20)
        };
        let mut model: Llama<B> = config.init(0, Precision::F32, &device);
        let lines = [0, 5, 6, 7, 8, 9, 0, 6, 5, 10, 11, 12];
        let labels: Vec<_> = lines.iter().map(|id| Some(*id as u32)).collect();
        let predictions = Predictions::new(&labels, 6);
        let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(lines.to_vec(), [2, 6]), &device);
        let mut adam = AdamConfig::new().init();
        let mut losses = Vec::new();
        for _ in 0..200 {
            let bias = model.model.causal_bias(0, 6, &device);
            let hidden = model.model.forward(ids.clone(), bias);
            let loss = cross_entropy(hidden, model.head_weight(), &predictions, 100);
            losses.push(loss.clone().into_scalar());
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = adam.step(1e-2, model, grads);
        }
        // Before: each of 20 tokens alike. After: all but the choice between the two second tokens.
        assert!((losses[0] - 20f32.ln()).abs() < 0.1, "{}", losses[0]);
        let last = losses[199];
        assert!((last - 0.2 * 2f32.ln()).abs() < 0.01, "{last}");
    }

    #[test]
    fn nothing_to_predict_costs_nothing() {
        let device = Default::default();
        let hidden = Tensor::<B, 3>::ones([1, 2, 3], &device).require_grad();
        let head = Tensor::<B, 2>::ones([4, 3], &device);
        let predictions = Predictions::new(&[Some(1), None], 2);
        let loss = cross_entropy(hidden, head, &predictions, 1 << 20);
        assert_eq!(loss.into_scalar(), 0.0);
    }
}
