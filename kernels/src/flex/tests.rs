//! Every kernel against burn's own operations: odd shapes, strides, gradients of all inputs, with and without them.

use crate as kernels;
use crate::Activation;
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::activation::{gelu_approximate, sigmoid, softmax};
use burn::tensor::{DType, Distribution};
use burn_flex::Flex;
use proptest::prelude::*;

type Train = Autodiff<Flex>;

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<Flex, D> {
    let n = shape.iter().product::<usize>();
    // Smooth noise with no pattern that a shape could fit.
    let value =
        |i: usize| ((i as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.547).fract() * 3.0;
    let values: Vec<f32> = (0..n).map(|i| value(i) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn leaf<const D: usize>(value: &Tensor<Flex, D>) -> Tensor<Train, D> {
    Tensor::from_inner(value.clone()).require_grad()
}

fn host<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

/// Equal to `at_most` of the largest entry.
#[track_caller]
fn assert_close<const D: usize>(
    got: Tensor<Flex, D>,
    want: Tensor<Flex, D>,
    at_most: f32,
    what: &str,
) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (host(got), host(want));
    let largest = want.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
    let gaps = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
    let worst = gaps.fold(0.0, f32::max);
    assert!(worst <= at_most * largest, "{what}: {worst} of {largest}");
}

/// Gradients of a weighted sum of the output.
macro_rules! gradients {
    ($output:expr, $($leaf:expr),*) => {{
        let output = $output;
        let weights = Tensor::from_inner(random(output.dims(), 99));
        let grads = (output * weights).sum().backward();
        ($($leaf.grad(&grads).unwrap()),*)
    }};
}

fn plain_layer_norm<const D: usize>(
    x: Tensor<Train, D>,
    w: Tensor<Train, 1>,
    b: Tensor<Train, 1>,
) -> Tensor<Train, D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    centred / (variance + 1e-5).sqrt() * w.unsqueeze() + b.unsqueeze()
}

fn plain_activation(kind: Activation, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
    match kind {
        Activation::Gelu => x.clone() * ((x / 2f64.sqrt()).erf() + 1.0) * 0.5,
        Activation::GeluTanh => gelu_approximate(x),
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
    }
}

fn plain_attention(
    qkv: Tensor<Train, 3>,
    heads: usize,
    mask: Option<Tensor<Train, 4>>,
) -> Tensor<Train, 3> {
    let [batch, seq, width] = qkv.dims();
    let head_dim = width / 3 / heads;
    let qkv = qkv.reshape([batch, seq, 3, heads, head_dim]);
    let [q, k, v] = [0, 1, 2].map(|i| {
        let part = qkv.clone().narrow(2, i, 1);
        part.squeeze_dim::<4>(2).swap_dims(1, 2)
    });
    let scores = q.matmul(k.transpose()) * (head_dim as f64).powf(-0.5);
    let scores = match mask {
        Some(mask) => scores + mask,
        None => scores,
    };
    let context = softmax(scores, 3).matmul(v).swap_dims(1, 2);
    context.reshape([batch, seq, width / 3])
}

fn plain_grouped(
    [q, k, v]: [Tensor<Train, 3>; 3],
    heads: usize,
    shared: usize,
    mask: Option<Tensor<Train, 4>>,
) -> Tensor<Train, 3> {
    let ([batch, seq, width], [_, keys, _]) = (q.dims(), k.dims());
    let (dim, group) = (width / heads, heads / shared);
    let q = q.reshape([batch, seq, heads, dim]).swap_dims(1, 2);
    // The heads that share keys and values as positions of one.
    let q = q.reshape([batch, shared, group * seq, dim]);
    let [k, v] = [k, v].map(|x| x.reshape([batch, keys, shared, dim]).swap_dims(1, 2));
    let scores = q.matmul(k.transpose()) * (dim as f64).powf(-0.5);
    let scores = match mask {
        Some(mask) if mask.dims()[2] == seq => scores + mask.repeat_dim(2, group),
        Some(mask) => scores + mask,
        None => scores,
    };
    let seen = softmax(scores, 3).matmul(v);
    let seen = seen.reshape([batch, heads, seq, dim]).swap_dims(1, 2);
    seen.reshape([batch, seq, width])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_of_few_rows_and_of_bf16_weights_are_the_plain_ones(
        rows in 1usize..20, inputs in 1usize..300, outputs in 1usize..600, by_input: bool, narrow_x: bool, narrow_weight: bool,
    ) {
        let dtype = |narrow| if narrow { DType::BF16 } else { DType::F32 };
        let x = random([rows, inputs], 1).cast(dtype(narrow_x));
        let weight = match by_input {
            true => random([inputs, outputs], 2).cast(dtype(narrow_weight)).swap_dims(0, 1),
            false => random([outputs, inputs], 2).cast(dtype(narrow_weight)),
        };
        let got = kernels::product(&x, &weight);
        prop_assert_eq!(got.is_some(), rows <= 8 || narrow_weight);
        if let Some(got) = got {
            prop_assert_eq!(got.dtype(), x.dtype());
            let want = x.cast(DType::F32).matmul(weight.cast(DType::F32).transpose());
            let most = if narrow_x { 1e-2 } else { 2e-5 };
            assert_close(got.cast(DType::F32), want, most, "product");
        }
    }

    #[test]
    fn a_row_is_added_to_every_row(rows in 1usize..40, seq in 1usize..9, width in 1usize..90, swapped: bool) {
        let x = match swapped {
            true => random([seq, rows, width], 1).swap_dims(0, 1),
            false => random([rows, seq, width], 1),
        };
        let row = random([1, seq, width], 2);
        let (lx, lrow) = (leaf(&x), leaf(&row));
        let got = kernels::add_row(&lx, &lrow).unwrap();
        let want = lx.clone() + lrow.clone();
        assert_close(got.clone().inner(), want.clone().inner(), 0.0, "output");
        assert_close(kernels::add_row(&x, &row).unwrap(), want.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lx, lrow), gradients!(want, lx, lrow));
        assert_close(got.0, want.0, 0.0, "gradient of x");
        assert_close(got.1, want.1, 1e-5, "gradient of the row");
    }

    #[test]
    fn layer_norm_is_the_plain_one(batch in 1usize..70, seq in 1usize..5, width in 1usize..70, swapped: bool) {
        let x = match swapped {
            true => random([seq, batch, width], 1).swap_dims(0, 1),
            false => random([batch, seq, width], 1),
        };
        let (w, b) = (random([width], 2), random([width], 3));
        let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
        let got = kernels::layer_norm(&lx, &lw, &lb, 1e-5).unwrap();
        let want = plain_layer_norm(lx.clone(), lw.clone(), lb.clone());
        // A row of one has no deviation to speak of.
        let most = if width == 1 { 1e-3 } else { 2e-5 };
        assert_close(got.clone().inner(), want.clone().inner(), most, "output");
        let without = kernels::layer_norm(&x, &w, &b, 1e-5).unwrap();
        assert_close(without, got.clone().inner(), 0.0, "without gradients");
        let got = gradients!(got, lx, lw, lb);
        let want = gradients!(want, lx, lw, lb);
        if width > 2 {
            assert_close(got.0, want.0, 1e-4, "x");
        }
        assert_close(got.1, want.1, 1e-4, "weight");
        assert_close(got.2, want.2, 1e-5, "bias");
    }

    #[test]
    fn activations_are_the_plain_ones(rows in 1usize..300, columns in 1usize..130, transposed: bool) {
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            let x = match transposed {
                true => random([columns, rows], 4).transpose(),
                false => random([rows, columns], 4),
            };
            let x = x * 2.0;
            let lx = leaf(&x);
            let got = kernels::activation(kind, &lx).unwrap();
            let want = plain_activation(kind, lx.clone());
            let what = format!("{kind:?}");
            // They are x times a number that is off by a rounding of 1, however small it is, so x counts among the entries.
            let beside = |y: Tensor<Flex, 2>| Tensor::cat(vec![y, x.clone()], 1);
            assert_close(beside(got.clone().inner()), beside(want.clone().inner()), 1e-6, &what);
            assert_close(kernels::activation(kind, &x).unwrap(), got.clone().inner(), 0.0, &what);
            let (got, want) = (gradients!(got, lx), gradients!(want, lx));
            assert_close(beside(got), beside(want), 2e-6, &what);
        }
    }

    #[test]
    fn linear_layers_are_the_plain_ones(rows in 1usize..300, inputs in 1usize..70, outputs in 1usize..70) {
        let (x, w, b) = (random([inputs, rows], 5).transpose(), random([outputs, inputs], 6), random([outputs], 7));
        let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
        let got = kernels::linear(&lx, &lw, &lb).unwrap();
        let want = lx.clone().matmul(lw.clone().transpose()) + lb.clone().unsqueeze();
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        assert_close(kernels::linear(&x, &w, &b).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let got = gradients!(got, lx, lw, lb);
        let want = gradients!(want, lx, lw, lb);
        assert_close(got.0, want.0, 2e-6, "x");
        assert_close(got.1, want.1, 2e-6, "weight");
        assert_close(got.2, want.2, 2e-6, "bias");
    }

    // With AVX-512, wide ones go another way.
    #[test]
    fn wide_linear_layers_are_the_plain_ones(
        rows in 1usize..400, inputs in 0usize..6, long in 0usize..2, outputs in 1usize..300,
    ) {
        let inputs = 512 + 16 * inputs + 1024 * long;
        let (x, w, b) = (random([rows, inputs], 5), random([outputs, inputs], 6), random([outputs], 7));
        let got = kernels::linear(&x, &w, &b).unwrap();
        let want = x.matmul(w.transpose()) + b.unsqueeze();
        assert_close(got, want, 2e-6, "output");
    }

    #[test]
    fn attention_is_the_plain_one(
        batch in 1usize..5, seq in 1usize..40, heads in 1usize..4, head_dim in 1usize..20, kind in 0usize..3,
    ) {
        let width = heads * head_dim;
        let qkv = random([batch, seq, 3 * width], 8);
        // The last query sees nothing: its weights are all alike.
        let hidden = |i: usize| match (i * 7 + 3).is_multiple_of(5) && i / seq % seq != i % seq || i / seq % seq == seq - 1 {
            true => -1e9,
            false => (i % 3) as f32 * 0.1,
        };
        let mask = |images: usize| {
            let values: Vec<f32> = (0..images * seq * seq).map(hidden).collect();
            Tensor::<Flex, 4>::from_data(TensorData::new(values, [images, 1, seq, seq]), &Default::default())
        };
        let mask = [None, Some(mask(1)), Some(mask(batch))][kind].clone();
        let lx = leaf(&qkv);
        let tracked = mask.clone().map(Tensor::from_inner);
        let got = kernels::attention(&lx, heads, tracked.as_ref()).unwrap();
        let want = plain_attention(lx.clone(), heads, tracked);
        assert_close(got.clone().inner(), want.clone().inner(), 3e-6, "output");
        let without = kernels::attention(&qkv, heads, mask.as_ref()).unwrap();
        assert_close(without, got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lx), gradients!(want, lx));
        assert_close(got, want, 1e-5, "qkv");
    }

    #[test]
    fn grouped_attention_is_the_plain_one(
        batch in 1usize..4, seq in 1usize..20, keys in 1usize..30, shared in 1usize..3, group in 1usize..4,
        head_dim in 1usize..12, kind in 0usize..5,
    ) {
        let heads = shared * group;
        let q = random([batch, seq, heads * head_dim], 30);
        let (k, v) = (random([batch, keys, shared * head_dim], 31), random([batch, keys, shared * head_dim], 32));
        let mask = |images: usize, rows: usize| {
            // The last row sees nothing: its weights are all alike.
            let hidden = |i: usize| match (i * 7 + 3).is_multiple_of(5) && !i.is_multiple_of(keys) || i / keys % rows == rows - 1 {
                true => -1e9,
                false => (i % 3) as f32 * 0.1,
            };
            let values: Vec<f32> = (0..images * rows * keys).map(hidden).collect();
            Tensor::<Flex, 4>::from_data(TensorData::new(values, [images, 1, rows, keys]), &Default::default())
        };
        let mask = [None, Some(mask(1, 1)), Some(mask(batch, 1)), Some(mask(batch, seq)), Some(mask(1, group * seq))][kind].clone();
        let (lq, lk, lv) = (leaf(&q), leaf(&k), leaf(&v));
        let tracked = mask.clone().map(Tensor::from_inner);
        let got = kernels::grouped_attention([&lq, &lk, &lv], heads, shared, tracked.as_ref()).unwrap();
        let want = plain_grouped([lq.clone(), lk.clone(), lv.clone()], heads, shared, tracked);
        assert_close(got.clone().inner(), want.clone().inner(), 3e-6, "output");
        let without = kernels::grouped_attention([&q, &k, &v], heads, shared, mask.as_ref()).unwrap();
        assert_close(without, got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lq, lk, lv), gradients!(want, lq, lk, lv));
        // A single key has all the weight, whatever query and key are: their gradients are rounding.
        if keys > 1 {
            assert_close(got.0, want.0, 1e-5, "q");
            assert_close(got.1, want.1, 1e-5, "k");
        }
        assert_close(got.2, want.2, 1e-5, "v");
    }

    #[test]
    fn rms_norm_is_the_plain_one(batch in 1usize..70, seq in 1usize..5, width in 1usize..70) {
        let (x, w) = (random([batch, seq, width], 40), random([width], 41));
        let (lx, lw) = (leaf(&x), leaf(&w));
        let got = kernels::rms_norm(&lx, &lw, 1e-5).unwrap();
        let square = lx.clone().square().mean_dim(2);
        let want = lx.clone() / (square + 1e-5).sqrt() * lw.clone().unsqueeze();
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        assert_close(kernels::rms_norm(&x, &w, 1e-5).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lx, lw), gradients!(want, lx, lw));
        // In a row of one nothing but the sign of x is left, and the gradient is rounding.
        if width > 1 {
            assert_close(got.0, want.0, 1e-5, "x");
        }
        assert_close(got.1, want.1, 1e-5, "weight");
    }

    #[test]
    fn rotary_positions_are_the_plain_ones(batch in 1usize..4, seq in 1usize..20, heads in 1usize..4, half in 1usize..9, shared: bool) {
        let dim = 2 * half;
        let x = random([batch, seq, heads * dim], 50);
        let images = if shared { 1 } else { batch };
        // No sines and cosines of one angle: whatever is in the tables counts.
        let (cos, sin) = (random([images, seq, 1, dim], 51), random([images, seq, 1, dim], 52));
        let tables = (Tensor::from_inner(cos.clone()), Tensor::from_inner(sin.clone()));
        let lx = leaf(&x);
        let got = kernels::rotary(&lx, &tables.0, &tables.1).unwrap();
        let split = lx.clone().reshape([batch, seq, heads, dim]);
        let turned = Tensor::cat(vec![split.clone().narrow(3, half, half).neg(), split.clone().narrow(3, 0, half)], 3);
        let want = (split * tables.0 + turned * tables.1).reshape([batch, seq, heads * dim]);
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        assert_close(kernels::rotary(&x, &cos, &sin).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lx), gradients!(want, lx));
        assert_close(got, want, 1e-6, "x");
    }

    #[test]
    fn a_swiglu_gate_is_the_plain_one(rows in 1usize..300, columns in 1usize..130, transposed: bool) {
        let gate = match transposed {
            true => random([columns, rows], 60).transpose(),
            false => random([rows, columns], 60),
        };
        let (gate, up) = (gate * 2.0, random([rows, columns], 61));
        let (lg, lu) = (leaf(&gate), leaf(&up));
        let got = kernels::swiglu(&lg, &lu).unwrap();
        let want = lg.clone() * sigmoid(lg.clone()) * lu.clone();
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        assert_close(kernels::swiglu(&gate, &up).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lg, lu), gradients!(want, lg, lu));
        assert_close(got.0, want.0, 2e-6, "gate");
        assert_close(got.1, want.1, 2e-6, "up");
    }

    #[test]
    fn an_adamw_update_is_the_plain_one_to_the_last_bit(n in 1usize..40_000) {
        let [w, g, m] = [10, 11, 12].map(|seed| random([n], seed));
        let v = random([n], 13).square();
        let numbers = kernels::AdamW { beta1: 0.9, beta2: 0.98, eps: 1e-6, step_size: 3e-3, root: 0.7, keep: 0.999 };
        let got = kernels::adamw(numbers, [&w, &g, &m, &v]).unwrap();
        let m = m * 0.9 + g.clone() * (1.0 - 0.9);
        let v = v * 0.98 + g.square() * (1.0 - 0.98);
        let w = w * 0.999 - m.clone() * 3e-3 / (v.clone().sqrt() / 0.7 + 1e-6);
        for (got, want) in got.into_iter().zip([w, m, v]) {
            assert_close(got, want, 0.0, "update");
        }
    }
}

#[test]
fn large_scores_and_rows_of_one_weight_are_no_accident() {
    let qkv = random([1, 6, 12], 20) * 1e4;
    let lx = leaf(&qkv);
    let got = kernels::attention(&lx, 2, None).unwrap();
    let want = plain_attention(lx.clone(), 2, None);
    assert_close(got.inner(), want.inner(), 1e-6, "output");
}

#[test]
fn what_no_kernel_knows_is_left_alone() {
    use burn_ndarray::NdArray;
    let device = Default::default();
    let x = Tensor::<NdArray, 2>::random([2, 3], Distribution::Default, &device);
    assert!(kernels::activation(Activation::Gelu, &x).is_none());
    let x = random([2, 3], 1);
    assert!(kernels::activation(Activation::Gelu, &x.clone().cast(DType::BF16)).is_none());
    let (long, short) = (random([4], 2), random([3], 2));
    assert!(kernels::layer_norm(&x, &long, &long, 1e-5).is_none());
    assert!(kernels::layer_norm(&x, &short, &short, 1e-5).is_some());
    // A mask that takes a gradient.
    let qkv = leaf(&random([1, 2, 6], 3));
    let mask = leaf(&random([1, 1, 2, 2], 4));
    assert!(kernels::attention(&qkv, 2, Some(&mask)).is_none());
    assert!(kernels::attention(&qkv, 4, None).is_none());
    // Heads that cannot be shared out; keys and values of different lengths.
    let (q, k) = (random([1, 2, 6], 5), random([1, 2, 4], 6));
    assert!(kernels::grouped_attention([&q, &k, &k], 3, 2, None).is_none());
    assert!(kernels::grouped_attention([&q, &q, &q], 0, 1, None).is_none());
    assert!(kernels::grouped_attention([&q, &q, &random([1, 3, 6], 7)], 3, 3, None).is_none());
    let table = random([1, 2, 1, 4], 8);
    assert!(
        kernels::rotary(&q, &table, &table).is_none(),
        "6 is no multiple of 4"
    );
    assert!(kernels::rms_norm(&x, &long, 1e-5).is_none());
    assert!(kernels::swiglu(&x, &random([3, 2], 9)).is_none());
}

#[test]
fn only_the_gradients_that_are_wanted_are_taken() {
    let (x, w, b) = (random([5, 4], 1), random([4], 2), random([4], 3));
    let frozen = Tensor::<Train, 1>::from_inner(w);
    let (lx, lb) = (leaf(&x), leaf(&b));
    let y = kernels::layer_norm(&lx, &frozen, &lb, 1e-5).unwrap();
    let grads = y.square().sum().backward();
    assert!(frozen.grad(&grads).is_none());
    assert!(lx.grad(&grads).is_some() && lb.grad(&grads).is_some());
}
