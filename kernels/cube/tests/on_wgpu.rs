//! Every kernel against burn's own operations on the same device: odd shapes, strides, gradients of all inputs, with and without
//! them. On a machine without an adapter they are skipped, and say so.

use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::Bytes;
use burn::tensor::activation::{sigmoid, softmax};
use burn_wgpu::{WebGpu, WgpuDevice};
use kernels::Activation;
use std::sync::OnceLock;

type Gpu = WebGpu;
type Train = Autodiff<Gpu>;

/// The device, with the kernels registered; `None` where there is none.
fn device() -> Option<WgpuDevice> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let device = WgpuDevice::default();
        let answers = || Gpu::sync(&device).is_ok();
        let found = std::panic::catch_unwind(answers).unwrap_or(false);
        if found {
            kernels_cube::register::<Gpu, _>();
        }
        found
    });
    if !found {
        eprintln!("skipped: no WebGPU adapter answers here");
    }
    found.then(WgpuDevice::default)
}

macro_rules! device {
    () => {
        match device() {
            Some(device) => device,
            None => return,
        }
    };
}

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<Gpu, D> {
    let n = shape.iter().product::<usize>();
    // Smooth noise with no pattern that a shape could fit.
    let value =
        |i: usize| ((i as f64 * 12.9898 + seed as f64 * 78.233).sin() * 43_758.547).fract() * 3.0;
    let values: Vec<f32> = (0..n).map(|i| value(i) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn leaf<const D: usize>(value: &Tensor<Gpu, D>) -> Tensor<Train, D> {
    Tensor::from_inner(value.clone()).require_grad()
}

/// Equal to `at_most` of the largest entry.
#[track_caller]
fn assert_close<const D: usize>(
    got: Tensor<Gpu, D>,
    want: Tensor<Gpu, D>,
    at_most: f32,
    what: &str,
) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let [got, want] = [got, want].map(|t| t.into_data().into_vec::<f32>().unwrap());
    let largest = want.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
    let gaps = got.iter().zip(&want).map(|(a, b)| (a - b).abs());
    // A NaN is no gap that a comparison would find.
    let worst = gaps.fold(0.0, |worst: f32, gap| {
        if gap > worst || gap.is_nan() {
            gap
        } else {
            worst
        }
    });
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

#[test]
fn adamw_updates_of_many_parameters_are_the_plain_ones() {
    let _device = device!();
    // More than one launch of each kind; one shared tensor, which must not be overwritten.
    let sizes = [
        1usize, 3, 768, 4, 1, 2, 40_000, 30, 513, 16, 8, 12, 20, 24, 28, 32, 36, 44, 48, 52,
    ];
    let numbers = |keep: f64| kernels::AdamW {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        step_size: 3e-3,
        root: 0.7,
        keep,
    };
    let made = |seed: u64, n: usize| {
        let [w, g, m] = [10, 11, 12].map(|part| random([n], part + seed));
        [w, g, m, random([n], 13 + seed).square()]
    };
    let keep = |i: usize| if i.is_multiple_of(3) { 1.0 } else { 0.99 };
    let plain = |i: usize, n: usize| {
        let [w, g, m, v] = made(i as u64, n);
        let m = m * 0.9 + g.clone() * (1.0 - 0.9);
        let v = v * 0.98 + g.square() * (1.0 - 0.98);
        let w = w * keep(i) - m.clone() * 3e-3 / (v.clone().sqrt() / 0.7 + 1e-6);
        [w, m, v]
    };
    let mut updates: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(i, n)| (numbers(keep(i)), made(i as u64, *n)))
        .collect();
    let held = updates[2].1[0].clone();
    let before = held.clone().into_data();
    let last = updates.pop().unwrap();
    let all = kernels::adamw_all(updates).map_err(|_| "refused").unwrap();
    for (i, got) in all.into_iter().enumerate() {
        for (got, want) in got.into_iter().zip(plain(i, sizes[i])) {
            assert_close(got, want, 1e-6, "many");
        }
    }
    assert_eq!(
        held.into_data(),
        before,
        "a tensor that somebody else holds was overwritten"
    );
    let one = kernels::adamw(last.0, last.1.each_ref()).unwrap();
    for (got, want) in one.into_iter().zip(plain(19, 52)) {
        assert_close(got, want, 1e-6, "one");
    }
    // Halves of another length than the rest.
    let odd = [
        random([4], 1),
        random([3], 1),
        random([4], 1),
        random([4], 1),
    ];
    assert!(kernels::adamw_all(vec![(numbers(1.0), odd)]).is_err());
}

#[test]
fn the_norm_is_over_all_tensors_and_scaling_reaches_each() {
    let device = device!();
    let tensors: Vec<_> = (1..150)
        .map(|i| random([i * 7 % 97 + 1], i as u64))
        .collect();
    let squares = tensors.iter().map(|t| t.clone().square().sum());
    let want = squares.reduce(|a, b| a + b).unwrap().sqrt();
    assert_close(kernels::norm(&tensors).unwrap(), want, 1e-6, "norm");
    let factor = Tensor::<Gpu, 1>::from_data([0.25], &device);
    let held = tensors[5].clone();
    let before = held.clone().into_data();
    let wanted: Vec<_> = tensors.iter().map(|t| t.clone() * 0.25).collect();
    let scaled = kernels::scale(tensors, &factor)
        .map_err(|_| "refused")
        .unwrap();
    for (got, want) in scaled.into_iter().zip(wanted) {
        assert_close(got, want, 0.0, "scaled");
    }
    assert_eq!(held.into_data(), before);
}

fn plain_layer_norm(
    x: Tensor<Train, 3>,
    w: Tensor<Train, 1>,
    b: Tensor<Train, 1>,
) -> Tensor<Train, 3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / (variance + 1e-5).sqrt() * w.unsqueeze() + b.unsqueeze()
}

#[test]
fn layer_norm_is_the_plain_one() {
    device!();
    for (batch, seq, width) in [(3, 5, 64), (2, 7, 33), (600, 2, 6), (1, 1, 1500), (4, 3, 1)] {
        let x = random([seq, batch, width], 1).swap_dims(0, 1);
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
}

#[test]
fn rms_norm_is_the_plain_one() {
    device!();
    for (batch, seq, width) in [(3, 5, 64), (300, 2, 33), (2, 1, 130)] {
        let (x, w) = (random([batch, seq, width], 40), random([width], 41));
        let (lx, lw) = (leaf(&x), leaf(&w));
        let got = kernels::rms_norm(&lx, &lw, 1e-5).unwrap();
        let square = lx.clone().square().mean_dim(2);
        let want = lx.clone() / (square + 1e-5).sqrt() * lw.clone().unsqueeze();
        assert_close(got.clone().inner(), want.clone().inner(), 2e-6, "output");
        let (got, want) = (gradients!(got, lx, lw), gradients!(want, lx, lw));
        assert_close(got.0, want.0, 1e-5, "x");
        assert_close(got.1, want.1, 1e-5, "weight");
    }
}

/// The norm adds its gradient to those that other uses of its input have given before; those after it are added to it.
#[test]
fn a_norm_beside_a_residual_branch_has_the_plain_gradient() {
    device!();
    let (x, w, b) = (random([3, 5, 64], 1), random([64], 2), random([64], 3));
    let beside = |x: Tensor<Train, 3>, norm: &dyn Fn(Tensor<Train, 3>) -> Tensor<Train, 3>| {
        let x = x.clone() + norm(x);
        // No leaf, three uses, and one of them a norm that another norm reads.
        let normed = norm(x.clone());
        x.clone() * 2.0 + norm(normed.clone()) * normed + x
    };
    let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
    let got = beside(lx.clone(), &|x| {
        kernels::layer_norm(&x, &lw, &lb, 1e-5).unwrap()
    });
    let want = beside(lx.clone(), &|x| plain_layer_norm(x, lw.clone(), lb.clone()));
    let got = gradients!(got, lx, lw, lb);
    let want = gradients!(want, lx, lw, lb);
    assert_close(got.0, want.0, 1e-4, "x");
    assert_close(got.1, want.1, 1e-4, "weight");
    assert_close(got.2, want.2, 1e-4, "bias");
    let got = beside(lx.clone(), &|x| kernels::rms_norm(&x, &lw, 1e-5).unwrap());
    let want = beside(lx.clone(), &|x| {
        let square = x.clone().square().mean_dim(2);
        x / (square + 1e-5).sqrt() * lw.clone().unsqueeze()
    });
    let (got, want) = (gradients!(got, lx, lw), gradients!(want, lx, lw));
    assert_close(got.0, want.0, 1e-4, "x of RMS norm");
    assert_close(got.1, want.1, 1e-4, "weight of RMS norm");
}

#[test]
fn only_the_gradients_that_are_wanted_are_taken() {
    device!();
    let (x, w, b) = (random([5, 4], 1), random([4], 2), random([4], 3));
    let frozen = Tensor::<Train, 1>::from_inner(w);
    let (lx, lb) = (leaf(&x), leaf(&b));
    let y = kernels::layer_norm(&lx, &frozen, &lb, 1e-5).unwrap();
    let grads = y.square().sum().backward();
    assert!(frozen.grad(&grads).is_none());
    assert!(lx.grad(&grads).is_some() && lb.grad(&grads).is_some());
}

fn plain_activation(kind: Activation, x: Tensor<Train, 2>) -> Tensor<Train, 2> {
    match kind {
        Activation::Gelu => x.clone() * ((x / 2f64.sqrt()).erf() + 1.0) * 0.5,
        Activation::GeluTanh => {
            let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044715)
                * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::QuickGelu => x.clone() * sigmoid(x * 1.702),
    }
}

#[test]
fn activations_are_the_plain_ones() {
    device!();
    for kind in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
    ] {
        for (rows, columns) in [(7, 13), (300, 260), (2, 1)] {
            let x = random([columns, rows], 4).transpose() * 2.0;
            let lx = leaf(&x);
            let got = kernels::activation(kind, &lx).unwrap();
            let want = plain_activation(kind, lx.clone());
            let what = format!("{kind:?}");
            assert_close(got.clone().inner(), want.clone().inner(), 2e-6, &what);
            let without = kernels::activation(kind, &x).unwrap();
            assert_close(without, got.clone().inner(), 0.0, &what);
            let (got, want) = (gradients!(got, lx), gradients!(want, lx));
            assert_close(got, want, 5e-6, &what);
        }
    }
}

#[test]
fn rows_of_a_table_and_their_gradients_are_the_plain_ones() {
    let device = device!();
    // Fewer rows than cubes and more of them; a row that many units share, and one that none shares.
    for (rows, width, count) in [(5, 12, 40), (3000, 33, 500), (7, 1500, 9), (4, 1, 3)] {
        let table = random([rows, width], 50);
        // The first row as often as all others, the last never.
        let id = |i: usize| [0, i * 7 % (rows - 1)][i % 2] as i32;
        let ids: Vec<i32> = (0..count).map(id).collect();
        let ids = Tensor::<Gpu, 1, Int>::from_data(ids.as_slice(), &device);
        let (leaf, tracked) = (leaf(&table), Tensor::from_inner(ids.clone()));
        let got = kernels::embedding(&leaf, &tracked).unwrap();
        let want = leaf.clone().select(0, tracked);
        assert_close(got.clone().inner(), want.clone().inner(), 0.0, "rows");
        let without = kernels::embedding(&table, &ids).unwrap();
        assert_close(without, want.clone().inner(), 0.0, "without gradients");
        let (got, want) = (gradients!(got, leaf), gradients!(want, leaf));
        assert_close(got, want, 0.0, "gradient");
    }
}

#[test]
fn linear_layers_are_the_plain_ones() {
    device!();
    // Gradients of biases over so many rows are summed in two stages.
    for (rows, inputs, outputs) in [(7, 13, 5), (5000, 8, 36), (3, 1, 1), (1, 64, 130)] {
        let x = random([inputs, rows], 5).transpose();
        let (w, b) = (random([outputs, inputs], 6), random([outputs], 7));
        let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
        let got = kernels::linear(&lx, &lw, &lb).unwrap();
        let want = lx.clone().matmul(lw.clone().transpose()) + lb.clone().unsqueeze();
        assert_close(got.clone().inner(), want.clone().inner(), 2e-6, "output");
        let got = gradients!(got, lx, lw, lb);
        let want = gradients!(want, lx, lw, lb);
        assert_close(got.0, want.0, 5e-6, "x");
        assert_close(got.1, want.1, 5e-6, "weight");
        assert_close(got.2, want.2, 5e-6, "bias");
    }
}

#[test]
fn linear_layers_beside_a_tensor_are_the_plain_sums() {
    device!();
    for (rows, inputs, outputs) in [(7, 13, 5), (60, 8, 36), (1, 1, 1)] {
        let x = random([inputs, rows], 5).transpose();
        let (w, b) = (random([outputs, inputs], 6), random([outputs], 7));
        let beside = random([outputs, rows], 8).transpose();
        let (lx, lw, lb, ls) = (leaf(&x), leaf(&w), leaf(&b), leaf(&beside));
        let got = kernels::linear_add(&lx, &lw, &lb, &ls).unwrap();
        let branch = lx.clone().matmul(lw.clone().transpose()) + lb.clone().unsqueeze();
        let want = ls.clone() + branch;
        assert_close(got.clone().inner(), want.clone().inner(), 2e-6, "output");
        let without = kernels::linear_add(&x, &w, &b, &beside).unwrap();
        assert_close(without, got.clone().inner(), 0.0, "without gradients");
        let got = gradients!(got, lx, lw, lb, ls);
        let want = gradients!(want, lx, lw, lb, ls);
        assert_close(got.0, want.0, 5e-6, "x");
        assert_close(got.1, want.1, 5e-6, "weight");
        assert_close(got.2, want.2, 5e-6, "bias");
        assert_close(got.3, want.3, 0.0, "beside");
    }
}

#[test]
fn activations_of_linear_layers_are_the_plain_ones() {
    device!();
    for kind in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
    ] {
        // Several cubes of columns, and of rows.
        for (rows, inputs, outputs) in [(7, 13, 5), (60, 8, 36), (700, 3, 260)] {
            let x = random([inputs, rows], 5).transpose();
            let (w, b) = (random([outputs, inputs], 6) * 0.3, random([outputs], 7));
            let (lx, lw, lb) = (leaf(&x), leaf(&w), leaf(&b));
            let got = kernels::linear_activation(kind, &lx, &lw, &lb).unwrap();
            let want = lx.clone().matmul(lw.clone().transpose()) + lb.clone().unsqueeze();
            let want = plain_activation(kind, want);
            let what = format!("{kind:?}");
            assert_close(got.clone().inner(), want.clone().inner(), 5e-6, &what);
            let got = gradients!(got, lx, lw, lb);
            let want = gradients!(want, lx, lw, lb);
            assert_close(got.0, want.0, 1e-5, "x");
            assert_close(got.1, want.1, 1e-5, "weight");
            assert_close(got.2, want.2, 1e-5, "bias");
        }
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

#[test]
fn attention_is_the_plain_one() {
    let device = device!();
    for (batch, seq, heads, head_dim) in [(2, 5, 3, 4), (3, 77, 2, 8), (1, 1, 1, 3), (2, 33, 2, 7)]
    {
        let qkv = random([batch, seq, 3 * heads * head_dim], 8);
        // The last query sees nothing: its weights are all alike.
        let hidden = |i: usize| match (i * 7 + 3).is_multiple_of(5) && i / seq % seq != i % seq
            || i / seq % seq == seq - 1
        {
            true => -1e9,
            false => (i % 3) as f32 * 0.1,
        };
        let mask = |images: usize| {
            let values: Vec<f32> = (0..images * seq * seq).map(hidden).collect();
            Tensor::<Gpu, 4>::from_data(TensorData::new(values, [images, 1, seq, seq]), &device)
        };
        for mask in [None, Some(mask(1)), Some(mask(batch))] {
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
    }
    // Large scores are no accident.
    let qkv = random([1, 6, 12], 20) * 1e4;
    let lx = leaf(&qkv);
    let got = kernels::attention(&lx, 2, None).unwrap();
    let want = plain_attention(lx.clone(), 2, None);
    assert_close(got.inner(), want.inner(), 1e-6, "large");
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

#[test]
fn grouped_attention_is_the_plain_one() {
    let device = device!();
    for (batch, seq, keys, shared, group, dim) in
        [(2, 5, 9, 2, 3, 4), (3, 1, 7, 1, 2, 5), (1, 6, 6, 3, 1, 8)]
    {
        let heads = shared * group;
        let q = random([batch, seq, heads * dim], 30);
        let [k, v] = [31, 32].map(|seed| random([batch, keys, shared * dim], seed));
        let mask = |images: usize, rows: usize| {
            // The last row sees nothing: its weights are all alike.
            let hidden = |i: usize| match (i * 7 + 3).is_multiple_of(5) && !i.is_multiple_of(keys)
                || i / keys % rows == rows - 1
            {
                true => -1e9,
                false => (i % 3) as f32 * 0.1,
            };
            let values: Vec<f32> = (0..images * rows * keys).map(hidden).collect();
            Tensor::<Gpu, 4>::from_data(TensorData::new(values, [images, 1, rows, keys]), &device)
        };
        for mask in [
            None,
            Some(mask(1, 1)),
            Some(mask(batch, seq)),
            Some(mask(1, group * seq)),
        ] {
            let (lq, lk, lv) = (leaf(&q), leaf(&k), leaf(&v));
            let tracked = mask.map(Tensor::from_inner);
            let got = kernels::grouped_attention([&lq, &lk, &lv], heads, shared, tracked.as_ref());
            let got = got.unwrap();
            let want = plain_grouped([lq.clone(), lk.clone(), lv.clone()], heads, shared, tracked);
            assert_close(got.clone().inner(), want.clone().inner(), 3e-6, "output");
            let (got, want) = (gradients!(got, lq, lk, lv), gradients!(want, lq, lk, lv));
            assert_close(got.0, want.0, 1e-5, "q");
            assert_close(got.1, want.1, 1e-5, "k");
            assert_close(got.2, want.2, 1e-5, "v");
        }
    }
}

#[test]
fn a_swiglu_gate_is_the_plain_one() {
    device!();
    for (rows, columns) in [(7, 13), (40, 64)] {
        let (gate, up) = (
            random([columns, rows], 60).transpose() * 2.0,
            random([rows, columns], 61),
        );
        let (lg, lu) = (leaf(&gate), leaf(&up));
        let got = kernels::swiglu(&lg, &lu).unwrap();
        let want = lg.clone() * sigmoid(lg.clone()) * lu.clone();
        assert_close(got.clone().inner(), want.clone().inner(), 2e-6, "output");
        let (got, want) = (gradients!(got, lg, lu), gradients!(want, lg, lu));
        assert_close(got.0, want.0, 5e-6, "gate");
        assert_close(got.1, want.1, 5e-6, "up");
    }
}

#[test]
fn rotary_positions_are_the_plain_ones() {
    device!();
    for (batch, seq, heads, half, images) in [(2, 5, 3, 4, 1), (3, 4, 1, 3, 3)] {
        let dim = 2 * half;
        let x = random([batch, seq, heads * dim], 50);
        // No sines and cosines of one angle: whatever is in the tables counts.
        let (cos, sin) = (
            random([images, seq, 1, dim], 51),
            random([images, seq, 1, dim], 52),
        );
        let tables = (Tensor::from_inner(cos), Tensor::from_inner(sin));
        let lx = leaf(&x);
        let got = kernels::rotary(&lx, &tables.0, &tables.1).unwrap();
        let split = lx.clone().reshape([batch, seq, heads, dim]);
        let [low, high] = [0, half].map(|first| split.clone().narrow(3, first, half));
        let turned = Tensor::cat(vec![high.neg(), low], 3);
        let want = (split * tables.0 + turned * tables.1).reshape([batch, seq, heads * dim]);
        assert_close(got.clone().inner(), want.clone().inner(), 1e-6, "output");
        let (got, want) = (gradients!(got, lx), gradients!(want, lx));
        assert_close(got, want, 1e-6, "x");
    }
}

#[test]
fn pixels_are_those_of_the_tables_bit_for_bit() {
    let device = device!();
    let entry = |channel: usize, byte: usize| (byte as f32 / 255.0 - 0.1 * channel as f32) / 0.3;
    let tables: [[f32; 256]; 3] =
        std::array::from_fn(|channel| std::array::from_fn(|byte| entry(channel, byte)));
    for (images, plane) in [(1, 1), (2, 5), (3, 16), (2, 1571)] {
        let byte = |i: usize| (i * 97 + i / 256 * 31 + 13) % 256;
        let bytes = || {
            (0..images * plane * 3)
                .map(|i| byte(i) as u8)
                .collect::<Vec<u8>>()
        };
        let want = (0..images * 3 * plane).map(|at| {
            let (image, channel, pixel) = (at / plane / 3, at / plane % 3, at % plane);
            entry(channel, byte((image * plane + pixel) * 3 + channel))
        });
        let want: Vec<f32> = want.collect();
        let found =
            kernels::look_up::<Gpu>(Bytes::from_bytes_vec(bytes()), images, &tables, &device);
        let found = found.map_err(|_| "refused").unwrap();
        assert_eq!(found.dims(), [images, 3, plane]);
        assert_eq!(found.into_data().into_vec::<f32>().unwrap(), want);
        let found =
            kernels::look_up::<Train>(Bytes::from_bytes_vec(bytes()), images, &tables, &device);
        let found = found.map_err(|_| "refused").unwrap().inner();
        assert_eq!(found.into_data().into_vec::<f32>().unwrap(), want);
    }
    for (bytes, images) in [(7, 1), (6, 4), (0, 0), (0, 1)] {
        let bytes = Bytes::from_bytes_vec(vec![1; bytes]);
        let refused = kernels::look_up::<Gpu>(bytes.clone(), images, &tables, &device);
        assert_eq!(refused.unwrap_err(), bytes, "not given back");
    }
}

#[test]
fn what_no_kernel_can_take_is_left_alone() {
    device!();
    let x = random([2, 3], 1);
    let (long, short) = (random([4], 2), random([3], 2));
    assert!(kernels::layer_norm(&x, &long, &long, 1e-5).is_none());
    assert!(kernels::layer_norm(&x, &short, &short, 1e-5).is_some());
    // A mask that takes a gradient; heads that do not divide the width.
    let qkv = leaf(&random([1, 2, 6], 3));
    let mask = leaf(&random([1, 1, 2, 2], 4));
    assert!(kernels::attention(&qkv, 2, Some(&mask)).is_none());
    assert!(kernels::attention(&qkv, 4, None).is_none());
    assert!(kernels::linear(&x, &random([5, 4], 5), &random([5], 6)).is_none());
    let (w, b) = (random([5, 3], 5), random([5], 6));
    assert!(kernels::linear_add(&x, &w, &b, &random([1, 5], 7)).is_none());
    assert!(kernels::linear_add(&x, &w, &b, &random([2, 5], 7)).is_some());
    assert!(kernels::swiglu(&x, &random([3, 2], 9)).is_none());
    let q = random([1, 2, 6], 5);
    let table = random([1, 2, 1, 4], 8);
    assert!(
        kernels::rotary(&q, &table, &table).is_none(),
        "6 is no multiple of 4"
    );
}
