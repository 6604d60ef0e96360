//! GELU in its forms, element by element, computed in f32.

use crate::Kernel;
use crate::cube::{elementwise, storage, vector};
use crate::tensor::{elements, empty, shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use kernels::Activation;
use std::f32::consts::FRAC_1_SQRT_2;

#[derive(Debug)]
pub(crate) struct Activate(pub Activation);

/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;
/// Of GELU's tanh form: √(2/π), and the share of x³.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
const QUICK: f32 = 1.702;

#[cube]
fn splat<N: Size>(#[comptime] value: f32) -> Vector<f32, N> {
    Vector::new(f32::new(value))
}

#[cube]
pub(crate) fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = splat::<N>(1.0);
    one / (one + Vector::exp(splat::<N>(-1.0) * x))
}

/// The share of `x` that GELU lets through, Φ(x).
#[cube]
fn below<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    splat::<N>(0.5) * (splat::<N>(1.0) + Vector::erf(x * splat::<N>(FRAC_1_SQRT_2)))
}

/// The same of its tanh form.
#[cube]
fn below_tanh<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let inner = splat::<N>(ROOT) * (x + splat::<N>(CUBIC) * x * x * x);
    sigmoid::<N>(splat::<N>(2.0) * inner)
}

#[cube]
pub(crate) fn value<N: Size>(x: Vector<f32, N>, #[comptime] kind: Activation) -> Vector<f32, N> {
    match comptime!(kind) {
        Activation::Gelu => x * below::<N>(x),
        Activation::GeluTanh => x * below_tanh::<N>(x),
        Activation::QuickGelu => x * sigmoid::<N>(splat::<N>(QUICK) * x),
    }
}

#[cube]
pub(crate) fn slope<N: Size>(x: Vector<f32, N>, #[comptime] kind: Activation) -> Vector<f32, N> {
    let one = splat::<N>(1.0);
    match comptime!(kind) {
        Activation::Gelu => {
            let density = splat::<N>(DENSITY) * Vector::exp(splat::<N>(-0.5) * x * x);
            below::<N>(x) + x * density
        }
        Activation::GeluTanh => {
            let s = below_tanh::<N>(x);
            let inner = splat::<N>(2.0 * ROOT) * (one + splat::<N>(3.0 * CUBIC) * x * x);
            s + x * s * (one - s) * inner
        }
        Activation::QuickGelu => {
            let s = sigmoid::<N>(splat::<N>(QUICK) * x);
            s + splat::<N>(QUICK) * x * s * (one - s)
        }
    }
}

#[cube(launch_unchecked)]
fn activation_forward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    #[comptime] kind: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let out = value::<N>(Vector::cast_from(x[at]), kind);
        y[at] = Vector::cast_from(out);
        at += stride;
    }
}

#[cube(launch_unchecked)]
fn activation_backward<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    dy: &Array<Vector<F, N>>,
    dx: &mut Array<Vector<F, N>>,
    #[comptime] kind: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let mut at = ABSOLUTE_POS;
    while at < dx.len() {
        let slope = slope::<N>(Vector::cast_from(x[at]), kind);
        dx[at] = Vector::cast_from(slope * Vector::cast_from(dy[at]));
        at += stride;
    }
}

impl<R: CubeRuntime> Kernel<R, 1> for Activate {
    type State = CubeTensor<R>;

    fn takes(&self, _: &[CubeTensor<R>; 1]) -> bool {
        true
    }

    fn forward(&self, [x]: [CubeTensor<R>; 1]) -> (CubeTensor<R>, CubeTensor<R>) {
        let y = empty(&x, shape(&x), x.dtype);
        let size = vector(elements(&x));
        let (count, dim) = elementwise(elements(&x) / size);
        // SAFETY: x and y have as many elements, and no unit goes beyond them.
        #[allow(unsafe_code)]
        unsafe {
            activation_forward::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                size,
                x.clone().into_array_arg(),
                y.clone().into_array_arg(),
                self.0,
                storage(x.dtype),
            );
        }
        (y, x)
    }

    fn backward(
        self,
        x: CubeTensor<R>,
        dy: CubeTensor<R>,
        _: [bool; 1],
    ) -> [Option<CubeTensor<R>>; 1] {
        let dx = empty(&x, shape(&x), x.dtype);
        let size = vector(elements(&x));
        let (count, dim) = elementwise(elements(&x) / size);
        // SAFETY: as forward.
        #[allow(unsafe_code)]
        unsafe {
            activation_backward::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                size,
                x.clone().into_array_arg(),
                dy.into_array_arg(),
                dx.clone().into_array_arg(),
                self.0,
                storage(x.dtype),
            );
        }
        [Some(dx)]
    }
}
