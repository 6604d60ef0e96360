//! A linear layer: burn's product, and the bias added in place. Gradients of weight and bias are in their own types at once.

use crate::Kernel;
use crate::cube::{elementwise, storage, vector};
use crate::sum::sum_of_rows;
use crate::tensor::{contiguous, elements, product, shape, transposed};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[derive(Debug)]
pub(crate) struct Linear;

#[derive(Clone, Debug)]
pub(crate) struct State<R: CubeRuntime> {
    x: CubeTensor<R>,
    /// In the type of `x`.
    weight: CubeTensor<R>,
    weight_type: DType,
    bias_type: DType,
}

#[cube(launch_unchecked)]
fn add_bias<F: Float, B: Float, N: Size>(
    bias: &Array<Vector<B, N>>,
    y: &mut Array<Vector<F, N>>,
    #[define(F, B)] _dtypes: [StorageType; 2],
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let width = bias.len();
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let bias = Vector::<f32, N>::cast_from(bias[at % width]);
        y[at] = Vector::cast_from(Vector::<f32, N>::cast_from(y[at]) + bias);
        at += stride;
    }
}

impl<R: CubeRuntime> Kernel<R, 3> for Linear {
    type State = State<R>;

    fn takes(&self, [x, weight, bias]: &[CubeTensor<R>; 3]) -> bool {
        let (&[rows, width], &[outputs, inputs], &[biases]) =
            (shape(x), shape(weight), shape(bias))
        else {
            return false;
        };
        width == inputs && biases == outputs && rows * outputs < crate::MOST
    }

    fn forward(&self, [x, weight, bias]: [CubeTensor<R>; 3]) -> (CubeTensor<R>, State<R>) {
        let (weight_type, bias_type) = (weight.dtype, bias.dtype);
        let weight = cast(weight, x.dtype);
        let y = contiguous(product(x.clone(), transposed(weight.clone()), x.dtype));
        let size = vector(elements(&bias));
        let (count, dim) = elementwise(elements(&y) / size);
        let client = y.client.clone();
        let types = [y.dtype, bias.dtype].map(storage);
        // SAFETY: y has rows of the bias's width, and nobody else has it yet.
        #[allow(unsafe_code)]
        unsafe {
            add_bias::launch_unchecked::<R>(
                &client,
                count,
                dim,
                size,
                bias.into_array_arg(),
                y.clone().into_array_arg(),
                types,
            );
        }
        let state = State {
            x,
            weight,
            weight_type,
            bias_type,
        };
        (y, state)
    }

    fn backward(
        self,
        state: State<R>,
        dy: CubeTensor<R>,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor<R>>; 3] {
        let State {
            x,
            weight,
            weight_type,
            bias_type,
        } = state;
        [
            wanted[0].then(|| product(dy.clone(), weight, x.dtype)),
            wanted[1].then(|| product(transposed(dy.clone()), x, weight_type)),
            wanted[2].then(|| cast(sum_of_rows(dy), bias_type)),
        ]
    }
}
