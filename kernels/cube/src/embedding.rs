//! Rows of a table by their index. On the way back every row of the gradient belongs to one cube, which adds up what there is for it
//! in the order of the indices: no atomics, and the same sums in every run.

use crate::Kernel;
use crate::cube::{cubes, storage, vector};
use crate::tensor::{elements, empty, shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Cubes that share the rows of a gradient, a power of two. Each looks at all indices, so more of them would only look more often.
const CLASSES: usize = 1024;

/// Units of a cube at most; each has columns of its own.
const UNITS: usize = 256;

#[derive(Debug)]
pub(crate) struct Embedding<R: CubeRuntime> {
    /// `[n]`, of a type of integers.
    pub ids: CubeTensor<R>,
}

#[cube(launch_unchecked)]
fn take_rows<F: Float, I: Int, N: Size>(
    table: &Array<Vector<F, N>>,
    ids: &Array<I>,
    out: &mut Array<Vector<F, N>>,
    width: u32,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let width = width as usize;
    let mut row = CUBE_POS;
    while row < ids.len() {
        let id = usize::cast_from(ids[row]);
        // What is no row has no values, and nothing beyond the table is read.
        if id < table.len() / width {
            let mut column = UNIT_POS as usize;
            while column < width {
                out[row * width + column] = table[id * width + column];
                column += CUBE_DIM as usize;
            }
        }
        row += CUBE_COUNT;
    }
}

#[cube(launch_unchecked)]
fn add_rows<F: Float, I: Int, N: Size>(
    rows: &Array<Vector<F, N>>,
    ids: &Array<I>,
    table: &mut Array<Vector<F, N>>,
    width: u32,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let width = width as usize;
    let mut start = CUBE_POS * width;
    while start < table.len() {
        let mut column = UNIT_POS as usize;
        while column < width {
            table[start + column] = Vector::new(F::new(0.0));
            column += CUBE_DIM as usize;
        }
        start += comptime!(CLASSES) * width;
    }
    for row in 0..ids.len() {
        let id = usize::cast_from(ids[row]);
        if id % comptime!(CLASSES) == CUBE_POS && id < table.len() / width {
            let mut column = UNIT_POS as usize;
            while column < width {
                let at = id * width + column;
                let more = Vector::<f32, N>::cast_from(rows[row * width + column]);
                table[at] = Vector::cast_from(Vector::<f32, N>::cast_from(table[at]) + more);
                column += CUBE_DIM as usize;
            }
        }
    }
}

/// A unit for each vector of a row, where there are not too many.
fn units(vectors: usize) -> CubeDim {
    CubeDim::new_1d(vectors.next_multiple_of(32).min(UNITS) as u32)
}

impl<R: CubeRuntime> Kernel<R, 1> for Embedding<R> {
    /// Rows of the table, and the indices.
    type State = (usize, CubeTensor<R>);

    fn takes(&self, [table]: &[CubeTensor<R>; 1]) -> bool {
        let (&[_, width], &[count]) = (shape(table), shape(&self.ids)) else {
            return false;
        };
        self.ids.dtype.is_int() && count > 0 && count * width < crate::MOST
    }

    fn forward(&self, [table]: [CubeTensor<R>; 1]) -> (CubeTensor<R>, Self::State) {
        let (rows, width) = (shape(&table)[0], shape(&table)[1]);
        let count = elements(&self.ids);
        let out = empty(&table, &[count, width], table.dtype);
        let size = vector(width);
        let client = table.client.clone();
        let types = [table.dtype, self.ids.dtype].map(storage);
        // SAFETY: rows of the output are as wide as those of the table, and nothing is read for an index beyond it.
        #[allow(unsafe_code)]
        unsafe {
            take_rows::launch_unchecked::<R>(
                &client,
                cubes(count),
                units(width / size),
                size,
                table.into_array_arg(),
                self.ids.clone().into_array_arg(),
                out.clone().into_array_arg(),
                (width / size) as u32,
                types,
            );
        }
        (out, (rows, self.ids.clone()))
    }

    fn backward(
        self,
        (rows, ids): Self::State,
        dy: CubeTensor<R>,
        _: [bool; 1],
    ) -> [Option<CubeTensor<R>>; 1] {
        let width = shape(&dy)[1];
        let size = vector(width);
        let client = dy.client.clone();
        let gradient = empty(&dy, &[rows, width], dy.dtype);
        let types = [dy.dtype, ids.dtype].map(storage);
        // SAFETY: as forward; no two cubes write to the same row, and no two units to the same column of one.
        #[allow(unsafe_code)]
        unsafe {
            add_rows::launch_unchecked::<R>(
                &client,
                CubeCount::Static(CLASSES as u32, 1, 1),
                units(width / size),
                size,
                dy.into_array_arg(),
                ids.into_array_arg(),
                gradient.clone().into_array_arg(),
                (width / size) as u32,
                types,
            );
        }
        [Some(gradient)]
    }
}
