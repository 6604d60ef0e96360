//! The gate of a SwiGLU layer: `silu(gate) · up`.

use crate::Kernel;
use crate::activate::sigmoid;
use crate::cube::{elementwise, storage, vector};
use crate::tensor::{elements, empty, shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[derive(Debug)]
pub(crate) struct SwiGlu;

#[cube(launch_unchecked)]
fn swiglu_forward<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    y: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let mut at = ABSOLUTE_POS;
    while at < y.len() {
        let x = Vector::<f32, N>::cast_from(gate[at]);
        let out = x * sigmoid::<N>(x) * Vector::cast_from(up[at]);
        y[at] = Vector::cast_from(out);
        at += stride;
    }
}

#[cube(launch_unchecked)]
fn swiglu_backward<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    dy: &Array<Vector<F, N>>,
    dgate: &mut Array<Vector<F, N>>,
    dup: &mut Array<Vector<F, N>>,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let one = Vector::<f32, N>::new(f32::new(1.0));
    let mut at = ABSOLUTE_POS;
    while at < dgate.len() {
        let x = Vector::<f32, N>::cast_from(gate[at]);
        let g = Vector::<f32, N>::cast_from(dy[at]);
        let s = sigmoid::<N>(x);
        let through = Vector::<f32, N>::cast_from(up[at]);
        dgate[at] = Vector::cast_from(g * through * (s + x * s * (one - s)));
        dup[at] = Vector::cast_from(g * x * s);
        at += stride;
    }
}

impl<R: CubeRuntime> Kernel<R, 2> for SwiGlu {
    /// Gate and what it lets through.
    type State = [CubeTensor<R>; 2];

    fn takes(&self, [gate, up]: &[CubeTensor<R>; 2]) -> bool {
        shape(gate) == shape(up) && gate.dtype == up.dtype
    }

    fn forward(&self, [gate, up]: [CubeTensor<R>; 2]) -> (CubeTensor<R>, [CubeTensor<R>; 2]) {
        let y = empty(&gate, shape(&gate), gate.dtype);
        let size = vector(elements(&gate));
        let (count, dim) = elementwise(elements(&gate) / size);
        // SAFETY: all have as many elements, and no unit goes beyond them.
        #[allow(unsafe_code)]
        unsafe {
            swiglu_forward::launch_unchecked::<R>(
                &gate.client,
                count,
                dim,
                size,
                gate.clone().into_array_arg(),
                up.clone().into_array_arg(),
                y.clone().into_array_arg(),
                storage(gate.dtype),
            );
        }
        (y, [gate, up])
    }

    fn backward(
        self,
        [gate, up]: [CubeTensor<R>; 2],
        dy: CubeTensor<R>,
        wanted: [bool; 2],
    ) -> [Option<CubeTensor<R>>; 2] {
        let [dgate, dup] = [(); 2].map(|()| empty(&gate, shape(&gate), gate.dtype));
        let size = vector(elements(&gate));
        let (count, dim) = elementwise(elements(&gate) / size);
        // SAFETY: as forward.
        #[allow(unsafe_code)]
        unsafe {
            swiglu_backward::launch_unchecked::<R>(
                &gate.client,
                count,
                dim,
                size,
                gate.clone().into_array_arg(),
                up.into_array_arg(),
                dy.into_array_arg(),
                dgate.clone().into_array_arg(),
                dup.clone().into_array_arg(),
                storage(gate.dtype),
            );
        }
        [wanted[0].then_some(dgate), wanted[1].then_some(dup)]
    }
}
