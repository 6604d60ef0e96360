//! A linear layer: the bias lies in the output before the product is added to it.

use super::matmul::{Matrix, matmul};
use super::parallel::vectorized;
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;
use rayon::prelude::*;

#[derive(Debug)]
pub(crate) struct Linear;

/// Rows whose shares of the bias's gradient are added up together.
const ROWS: usize = 256;

fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let (rows, columns) = (shape(tensor)[0], shape(tensor)[1]);
    Matrix::new(floats(tensor), rows, columns, columns)
}

impl Kernel<3> for Linear {
    /// Input and weight.
    type State = [FlexTensor; 2];

    fn takes(&self, [x, weight, bias]: &[FlexTensor; 3]) -> bool {
        shape(x)[1] == shape(weight)[1] && shape(bias) == [shape(weight)[0]]
    }

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, [FlexTensor; 2]) {
        let (rows, outputs) = (shape(&x)[0], shape(&weight)[0]);
        let bias = floats(&bias);
        let mut out = Vec::with_capacity(rows * outputs);
        for _ in 0..rows {
            out.extend_from_slice(bias);
        }
        let (left, right) = (matrix(&x), matrix(&weight).transposed());
        matmul(&mut out, outputs, 1.0, 1.0, left, right, true);
        (made(out, &[rows, outputs]), [x, weight])
    }

    fn backward(
        self,
        [x, weight]: [FlexTensor; 2],
        dy: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let product = |left: Matrix, right: Matrix| {
            let (rows, columns) = (left.rows, right.columns);
            let mut out = vec![0f32; rows * columns];
            matmul(&mut out, columns, 0.0, 1.0, left, right, true);
            made(out, &[rows, columns])
        };
        [
            wanted[0].then(|| product(matrix(&dy), matrix(&weight))),
            wanted[1].then(|| product(matrix(&dy).transposed(), matrix(&x))),
            wanted[2].then(|| sum_of_rows(&dy)),
        ]
    }
}

fn sum_of_rows(rows: &FlexTensor) -> FlexTensor {
    let width = shape(rows)[1];
    let add = |total: &mut [f32], row: &[f32]| {
        total.iter_mut().zip(row).for_each(|(a, b)| *a += b);
    };
    let shares: Vec<Vec<f32>> = floats(rows)
        .par_chunks((ROWS * width).max(1))
        .map(|rows| {
            let mut share = vec![0f32; width];
            vectorized(|| {
                rows.chunks_exact(width)
                    .for_each(|row| add(&mut share, row))
            });
            share
        })
        .collect();
    let mut total = vec![0f32; width];
    shares.iter().for_each(|share| add(&mut total, share));
    made(total, &[width])
}
