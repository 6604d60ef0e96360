//! Every kernel against burn's own operations on LibTorch: odd shapes, strides, empty batches, with and without gradients,
//! f32 and bf16.

use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::activation::{gelu_approximate, sigmoid, softmax};
use burn::tensor::{DType, Distribution};
use burn_tch::LibTorch;
use kernels::Activation;
use proptest::prelude::*;

type Train = Autodiff<LibTorch>;

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<LibTorch, D> {
    kernels_tch::register();
    let n = shape.iter().product::<usize>();
    // Smooth noise with no pattern that a shape could fit.
    let value =
        |i: usize| ((i as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.547).fract() * 3.0;
    let values: Vec<f32> = (0..n).map(|i| value(i) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// As large as the other one's entries, or transposed in memory.
fn swapped_if(swapped: bool, [rows, columns]: [usize; 2], seed: u64) -> Tensor<LibTorch, 2> {
    match swapped {
        true => random([columns, rows], seed).transpose(),
        false => random([rows, columns], seed),
    }
}

fn leaf<const D: usize>(value: &Tensor<LibTorch, D>) -> Tensor<Train, D> {
    Tensor::from_inner(value.clone()).require_grad()
}

fn host<const D: usize>(tensor: Tensor<LibTorch, D>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().into_vec().unwrap()
}

/// Equal to `at_most` of the largest entry.
#[track_caller]
fn assert_close<const D: usize>(
    got: Tensor<LibTorch, D>,
    want: Tensor<LibTorch, D>,
    at_most: f32,
    what: &str,
) {
    assert_eq!(
        (got.dims(), got.dtype()),
        (want.dims(), want.dtype()),
        "{what}"
    );
    let (got, want) = (host(got), host(want));
    let largest = want.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
    let gaps = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
    let worst = gaps.fold(0.0, f32::max);
    assert!(worst <= at_most * largest, "{what}: {worst} of {largest}");
    assert!(got.iter().all(|x| x.is_finite()), "{what}");
}

/// Gradients of a weighted sum of the output.
macro_rules! gradients {
    ($output:expr, $($leaf:expr),*) => {{
        let output = $output.cast(DType::F32);
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
    let width = qkv.dims()[2] / 3;
    let parts = [0, 1, 2].map(|i| qkv.clone().narrow(2, i * width, width));
    plain_grouped(parts, heads, heads, mask)
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

fn plain_rms_norm(x: Tensor<Train, 3>, w: Tensor<Train, 1>) -> Tensor<Train, 3> {
    let square = x.clone().square().mean_dim(2);
    x / (square + 1e-5).sqrt() * w.unsqueeze()
}

fn plain_rotary(
    x: Tensor<Train, 3>,
    cos: Tensor<Train, 4>,
    sin: Tensor<Train, 4>,
) -> Tensor<Train, 3> {
    let ([batch, seq, width], dim) = (x.dims(), cos.dims()[3]);
    let x = x.reshape([batch, seq, width / dim, dim]);
    let [low, high] = [0, dim / 2].map(|start| x.clone().narrow(3, start, dim / 2));
    let turned = Tensor::cat(vec![high.neg(), low], 3);
    (x * cos + turned * sin).reshape([batch, seq, width])
}

/// Some keys hidden, and from the last row all: its weights are all alike.
fn mask(images: usize, rows: usize, keys: usize) -> Tensor<LibTorch, 4> {
    let hidden = |i: usize| match (i * 7 + 3).is_multiple_of(5) && !i.is_multiple_of(keys)
        || i / keys % rows == rows - 1
    {
        true => -1e9,
        false => (i % 3) as f32 * 0.1,
    };
    let values: Vec<f32> = (0..images * rows * keys).map(hidden).collect();
    let data = TensorData::new(values, [images, 1, rows, keys]);
    Tensor::from_data(data, &Default::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
        if width > 1 {
            assert_close(got.1, want.1, 1e-4, "weight");
        }
        assert_close(got.2, want.2, 1e-5, "bias");
    }

    #[test]
    fn activations_are_the_plain_ones(rows in 1usize..300, columns in 1usize..130, swapped: bool) {
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            let x = swapped_if(swapped, [rows, columns], 4) * 2.0;
            let lx = leaf(&x);
            let got = kernels::activation(kind, &lx).unwrap();
            let want = plain_activation(kind, lx.clone());
            let what = format!("{kind:?}");
            assert_close(got.clone().inner(), want.clone().inner(), 1e-6, &what);
            assert_close(kernels::activation(kind, &x).unwrap(), got.clone().inner(), 0.0, &what);
            let (got, want) = (gradients!(got, lx), gradients!(want, lx));
            assert_close(got, want, 2e-6, &what);
        }
    }

    #[test]
    fn linear_layers_are_the_plain_ones(rows in 1usize..90, inputs in 1usize..40, outputs in 1usize..40, swapped: bool) {
        let x = swapped_if(swapped, [rows, inputs], 5);
        let w = swapped_if(swapped, [outputs, inputs], 6);
        let b = random([outputs], 7);
        let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
        let got = kernels::linear(&lx, &lw, &lb).unwrap();
        let want = lx.clone().matmul(lw.clone().transpose()) + lb.clone().unsqueeze();
        assert_close(got.clone().inner(), want.clone().inner(), 2e-6, "output");
        assert_close(kernels::linear(&x, &w, &b).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let got = gradients!(got, lx, lw, lb);
        let want = gradients!(want, lx, lw, lb);
        assert_close(got.0, want.0, 2e-6, "x");
        assert_close(got.1, want.1, 2e-6, "weight");
        assert_close(got.2, want.2, 2e-6, "bias");
    }

    #[test]
    fn attention_is_the_plain_one(
        batch in 1usize..5, seq in 1usize..40, heads in 1usize..4, head_dim in 1usize..20, kind in 0usize..3,
    ) {
        let qkv = random([batch, seq, 3 * heads * head_dim], 8);
        let mask = [None, Some(mask(1, seq, seq)), Some(mask(batch, seq, seq))][kind].clone();
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
        let [k, v] = [31, 32].map(|seed| random([batch, keys, shared * head_dim], seed));
        let masks = [(1, 1), (batch, 1), (batch, seq), (1, group * seq)];
        let mask = kind.checked_sub(1).map(|kind| mask(masks[kind].0, masks[kind].1, keys));
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
        let want = plain_rms_norm(lx.clone(), lw.clone());
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
        let [cos, sin] = [51, 52].map(|seed| random([images, seq, 1, dim], seed));
        let (tracked_cos, tracked_sin) = (Tensor::from_inner(cos.clone()), Tensor::from_inner(sin.clone()));
        let lx = leaf(&x);
        let got = kernels::rotary(&lx, &tracked_cos, &tracked_sin).unwrap();
        let want = plain_rotary(lx.clone(), tracked_cos, tracked_sin);
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        assert_close(kernels::rotary(&x, &cos, &sin).unwrap(), got.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, lx), gradients!(want, lx));
        assert_close(got, want, 1e-6, "x");
    }

    #[test]
    fn a_swiglu_gate_is_the_plain_one(rows in 1usize..300, columns in 1usize..130, swapped: bool) {
        let gate = swapped_if(swapped, [rows, columns], 60) * 2.0;
        let up = random([rows, columns], 61);
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
    fn an_adamw_update_is_the_plain_one(n in 1usize..40_000, still: bool) {
        let [w, g, m] = [10, 11, 12].map(|seed| random([n], seed));
        let v = random([n], 13).square();
        let before = [&w, &g, &m, &v].map(|tensor| host(tensor.clone()));
        // A warm-up begins with a rate of zero.
        let (step_size, keep) = if still { (0.0, 1.0) } else { (3e-3, 0.999) };
        let numbers = kernels::AdamW { beta1: 0.9, beta2: 0.98, eps: 1e-6, step_size, root: 0.7, keep };
        let got = kernels::adamw(numbers, [&w, &g, &m, &v]).unwrap();
        let after = [&w, &g, &m, &v].map(|tensor| host(tensor.clone()));
        assert_eq!(before, after, "who holds the old weights goes on to do so");
        let m = m * 0.9 + g.clone() * (1.0 - 0.9);
        let v = v * 0.98 + g.square() * (1.0 - 0.98);
        let w = w * keep - m.clone() * step_size / (v.clone().sqrt() / 0.7 + 1e-6);
        for (got, want) in got.into_iter().zip([w, m, v]) {
            assert_close(got, want, 3e-7, "update");
        }
    }

    /// Beside the plain form in f32, of inputs that are bf16 numbers: an output is one rounding away, or two.
    #[test]
    fn in_bf16_sums_are_kept_in_f32(batch in 1usize..5, seq in 2usize..40, heads in 1usize..4, half in 1usize..40, masked: bool) {
        let (dim, width) = (2 * half, 2 * half * heads);
        let bf16 = |seed: u64, width: usize| random([batch, seq, width], seed).cast(DType::BF16);
        let exact = |x: &Tensor<LibTorch, 3>| leaf(&x.clone().cast(DType::F32));
        let close = |got: Tensor<LibTorch, 3>, want: Tensor<LibTorch, 3>, what: &str| {
            assert_close(got, want.cast(DType::BF16), 0.015, what);
        };

        // Scores are rounded, so not too large.
        let x = bf16(1, 3 * width) * 0.5;
        let (lx, ex) = (leaf(&x), exact(&x));
        let mask = masked.then(|| Tensor::from_inner(mask(1, seq, seq)));
        let got = kernels::attention(&lx, heads, mask.as_ref()).unwrap();
        let want = plain_attention(ex.clone(), heads, mask);
        close(got.clone().inner(), want.clone().inner(), "attention");
        close(gradients!(got, lx), gradients!(want, ex), "gradient of attention");

        let x = bf16(2, width);
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            let (lx, ex) = (leaf(&x), exact(&x));
            let got = kernels::activation(kind, &lx.clone().flatten::<2>(0, 1)).unwrap();
            let want = plain_activation(kind, ex.clone().flatten(0, 1));
            let (shaped, wanted) = (got.clone().inner(), want.clone().inner());
            close(shaped.unsqueeze(), wanted.unsqueeze(), &format!("{kind:?}"));
            close(gradients!(got, lx), gradients!(want, ex), &format!("gradient of {kind:?}"));
        }

        let w = random([width], 3);
        let (lx, ex, lw, ew) = (leaf(&x), exact(&x), leaf(&w), leaf(&w));
        let got = kernels::rms_norm(&lx, &lw, 1e-5).unwrap();
        let want = plain_rms_norm(ex.clone(), ew.clone());
        close(got.clone().inner(), want.clone().inner(), "RMS norm");
        let (got, want) = (gradients!(got, lx, lw), gradients!(want, ex, ew));
        close(got.0, want.0, "gradient of RMS norm");
        assert_close(got.1, want.1, 0.015, "gradient of its weight");

        let [cos, sin] = [4, 5].map(|seed| Tensor::from_inner(random([1, seq, 1, dim], seed)));
        let (lx, ex) = (leaf(&x), exact(&x));
        let got = kernels::rotary(&lx, &cos, &sin).unwrap();
        let want = plain_rotary(ex.clone(), cos, sin);
        close(got.clone().inner(), want.clone().inner(), "rotary positions");
        close(gradients!(got, lx), gradients!(want, ex), "gradient of rotary positions");

        let up = bf16(6, width);
        let (lx, lu, ex, eu) = (leaf(&x), leaf(&up), exact(&x), exact(&up));
        let got = kernels::swiglu(&lx, &lu).unwrap();
        let want = ex.clone() * sigmoid(ex.clone()) * eu.clone();
        close(got.clone().inner(), want.clone().inner(), "SwiGLU");
        let (got, want) = (gradients!(got, lx, lu), gradients!(want, ex, eu));
        close(got.0, want.0, "gradient of the gate");
        close(got.1, want.1, "gradient of what it lets through");
    }
}

#[test]
fn large_scores_and_long_rows_are_no_accident() {
    for shape in [[1, 6, 12], [2, 700, 24]] {
        let qkv = random(shape, 20) * 1e3;
        let lx = leaf(&qkv);
        let got = kernels::attention(&lx, 2, None).unwrap();
        let want = plain_attention(lx.clone(), 2, None);
        assert_close(got.inner(), want.inner(), 1e-5, "output");
    }
}

#[test]
fn what_no_kernel_knows_is_left_alone() {
    let x = random([2, 3], 1);
    let ints = Tensor::<LibTorch, 2>::random([2, 3], Distribution::Default, &Default::default());
    assert!(kernels::activation(Activation::Gelu, &ints.cast(DType::F64)).is_none());
    let (long, short) = (random([4], 2), random([3], 2));
    assert!(kernels::layer_norm(&x, &long, &long, 1e-5).is_none());
    assert!(kernels::layer_norm(&x, &short, &short, 1e-5).is_some());
    let mixed = kernels::layer_norm(&x.clone().cast(DType::BF16), &short, &short, 1e-5);
    assert!(mixed.is_none());
    // A mask that takes a gradient.
    let qkv = leaf(&random([1, 2, 6], 3));
    let mask = leaf(&random([1, 1, 2, 2], 4));
    assert!(kernels::attention(&qkv, 2, Some(&mask)).is_none());
    assert!(kernels::attention(&qkv, 4, None).is_none());
    assert!(kernels::attention(&random([0, 2, 6], 3), 2, None).is_none());
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
    let numbers = kernels::AdamW {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        step_size: 1e-3,
        root: 1.0,
        keep: 1.0,
    };
    assert!(kernels::adamw(numbers, [&long, &short, &long, &long]).is_none());
}

#[test]
fn updates_of_many_parameters_are_the_plain_ones_and_spare_what_others_hold() {
    let numbers = |i: usize| kernels::AdamW {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        step_size: [3e-3, 1e-3][i / 3 % 2],
        root: 0.7,
        keep: [1.0, 0.99][i % 2],
    };
    let made = |i: usize| {
        let n = i * 37 % 50 + 1;
        let [w, g, m] = [10, 11, 12].map(|part| random([n], part + i as u64));
        [w, g, m, random([n], 13 + i as u64).square()]
    };
    let updates: Vec<_> = (0..12).map(|i| (numbers(i), made(i))).collect();
    let held: Vec<_> = (0..3).map(|i| updates[i].1[i].clone()).collect();
    let before: Vec<_> = held.iter().map(|one| host(one.clone())).collect();
    let all = kernels::adamw_all(updates).map_err(|_| "refused").unwrap();
    for (i, got) in all.into_iter().enumerate() {
        let (
            kernels::AdamW {
                step_size, keep, ..
            },
            [w, g, m, v],
        ) = (numbers(i), made(i));
        let m = m * 0.9 + g.clone() * (1.0 - 0.9);
        let v = v * 0.98 + g.square() * (1.0 - 0.98);
        let w = w * keep - m.clone() * step_size / (v.clone().sqrt() / 0.7 + 1e-6);
        for (got, want) in got.into_iter().zip([w, m, v]) {
            assert_close(got, want, 3e-7, "update");
        }
    }
    let after: Vec<_> = held.into_iter().map(host).collect();
    assert_eq!(before, after, "what somebody else holds was written over");
    let odd = [
        random([4], 1),
        random([3], 1),
        random([4], 1),
        random([4], 1),
    ];
    assert!(kernels::adamw_all(vec![(numbers(0), made(0)), (numbers(0), odd)]).is_err());
}

#[test]
fn the_norm_is_over_all_tensors_and_scaling_reaches_each() {
    let tensors: Vec<_> = (1..40)
        .map(|i| random([i * 7 % 97 + 1], i as u64))
        .collect();
    let squares = tensors.iter().map(|t| t.clone().square().sum());
    let want = squares.reduce(|a, b| a + b).unwrap().sqrt();
    assert_close(kernels::norm(&tensors).unwrap(), want, 1e-6, "norm");
    // LibTorch adds up long ones badly on a CPU.
    assert!(kernels::norm(&[random([5000], 1)]).is_none());
    let factor = Tensor::<LibTorch, 1>::from_data([0.25], &Default::default());
    let held = tensors[5].clone();
    let before = host(held.clone());
    let wanted: Vec<_> = tensors.iter().map(|t| t.clone() * 0.25).collect();
    let scaled = kernels::scale(tensors, &factor)
        .map_err(|_| "refused")
        .unwrap();
    for (got, want) in scaled.into_iter().zip(wanted) {
        assert_close(got, want, 0.0, "scaled");
    }
    assert_eq!(
        before,
        host(held),
        "what somebody else holds was written over"
    );
}

#[test]
fn pixels_and_ids_arrive_as_they_are_looked_up() {
    let device = Default::default();
    let bytes: Vec<u8> = (0..2 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let table = |channel: usize| std::array::from_fn(|byte| (1000 * channel + byte) as f32 / 7.0);
    let tables: [[f32; 256]; 3] = std::array::from_fn(table);
    let upload = |count: usize, images: usize| {
        let bytes = burn::tensor::Bytes::from_bytes_vec(bytes[..count].to_vec());
        kernels::look_up::<LibTorch>(bytes, images, &tables, &device)
    };
    let got = upload(30, 2).map_err(|_| "refused").unwrap();
    assert_eq!(got.dims(), [2, 3, 5]);
    let value = |at: usize| {
        let (image, channel, pixel) = (at / 15, at / 5 % 3, at % 5);
        tables[channel][usize::from(bytes[image * 15 + pixel * 3 + channel])]
    };
    assert_eq!(host(got), (0..30).map(value).collect::<Vec<f32>>());
    for (count, images) in [(0, 1), (30, 0), (29, 2), (30, 4)] {
        assert_eq!(
            upload(count, images).err().map(|b| b.len()),
            Some(count),
            "as they came"
        );
    }
    let ids = kernels::ids::<LibTorch>(&[1, -2, 49_407, 4, 5, 6], [3, 2], &device).unwrap();
    assert_eq!(ids.dims(), [3, 2]);
    assert_eq!(
        ids.into_data().iter::<i64>().collect::<Vec<_>>(),
        [1, -2, 49_407, 4, 5, 6]
    );
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

#[test]
fn an_empty_batch_has_an_empty_output() {
    let (x, w, b) = (random([0, 6], 1), random([6], 2), random([6], 3));
    let square = random([6, 6], 4);
    let plain = [
        kernels::layer_norm(&x, &w, &b, 1e-5).unwrap(),
        kernels::linear(&x, &square, &b).unwrap(),
        kernels::activation(Activation::Gelu, &x).unwrap(),
        kernels::activation(Activation::QuickGelu, &x).unwrap(),
        kernels::swiglu(&x, &x).unwrap(),
    ];
    assert!(plain.iter().all(|output| output.dims() == [0, 6]));
    // These are left to burn.
    assert!(kernels::rms_norm(&x, &w, 1e-5).is_none());
    assert!(kernels::attention(&random([0, 5, 6], 5), 2, None).is_none());
}

/// What burn writes into in place, because nobody else seems to hold it, must not be what LibTorch needs for a gradient.
#[test]
fn an_output_that_is_written_over_does_not_change_the_gradient() {
    let qkv = random([2, 5, 12], 1);
    let lx = leaf(&qkv);
    let got = kernels::attention(&lx, 2, None).unwrap() * 2.0 + 1.0;
    let want = plain_attention(lx.clone(), 2, None) * 2.0 + 1.0;
    let (got, want) = (gradients!(got, lx), gradients!(want, lx));
    assert_close(got, want, 1e-5, "qkv");
}
