//! Rotary positions in the half-rotation form, on the heads of a row where they lie.

use crate::Kernel;
use crate::cube::{elementwise, storage};
use crate::tensor::{elements, empty, shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Cosines and sines, `[1 or batch, seq, 1, head_dim]`.
#[derive(Debug)]
pub(crate) struct Rotary<R: CubeRuntime> {
    pub cos: CubeTensor<R>,
    pub sin: CubeTensor<R>,
}

#[cube(launch_unchecked)]
fn turn<F: Float>(
    x: &Array<F>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    y: &mut Array<F>,
    width: u32,
    dim: u32,
    #[comptime] back: bool,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let (width, dim) = (width as usize, dim as usize);
    let half = dim / 2;
    let positions = cos.len() / dim;
    let mut at = ABSOLUTE_POS;
    while at < x.len() {
        let inner = at % width % dim;
        let place = at / width % positions * dim;
        let low = inner < half;
        let opposite = select(low, inner + half, inner - half);
        let other = f32::cast_from(x[at - inner + opposite]);
        // A turn back takes its sines from the other half: they need not be those of one angle.
        let sine = if comptime!(back) {
            sin[place + opposite]
        } else {
            sin[place + inner]
        };
        let turned = if comptime!(back) {
            select(low, sine * other, f32::new(-1.0) * sine * other)
        } else {
            select(low, f32::new(-1.0) * sine * other, sine * other)
        };
        y[at] = F::cast_from(f32::cast_from(x[at]) * cos[place + inner] + turned);
        at += stride;
    }
}

impl<R: CubeRuntime> Rotary<R> {
    fn turn(&self, x: CubeTensor<R>, back: bool) -> CubeTensor<R> {
        let y = empty(&x, shape(&x), x.dtype);
        let (count, dim) = elementwise(elements(&x));
        let (client, dtype) = (x.client.clone(), x.dtype);
        let (width, head) = (shape(&x)[2], shape(&self.cos)[3]);
        // SAFETY: a row has whole heads, and the tables a row for each position.
        #[allow(unsafe_code)]
        unsafe {
            turn::launch_unchecked::<R>(
                &client,
                count,
                dim,
                x.into_array_arg(),
                self.cos.clone().into_array_arg(),
                self.sin.clone().into_array_arg(),
                y.clone().into_array_arg(),
                width as u32,
                head as u32,
                back,
                storage(dtype),
            );
        }
        y
    }
}

impl<R: CubeRuntime> Kernel<R, 1> for Rotary<R> {
    type State = ();

    fn takes(&self, [x]: &[CubeTensor<R>; 1]) -> bool {
        let (&[batch, seq, width], &[images, places, 1, dim]) = (shape(x), shape(&self.cos)) else {
            return false;
        };
        let tables = shape(&self.sin) == shape(&self.cos) && places == seq;
        let heads = dim > 0 && dim.is_multiple_of(2) && width.is_multiple_of(dim);
        tables && heads && (images == 1 || images == batch)
    }

    fn forward(&self, [x]: [CubeTensor<R>; 1]) -> (CubeTensor<R>, ()) {
        (self.turn(x, false), ())
    }

    fn backward(self, (): (), dy: CubeTensor<R>, _: [bool; 1]) -> [Option<CubeTensor<R>>; 1] {
        [Some(self.turn(dy, true))]
    }
}
