//! A linear layer: the bias lies in the output before the product is added to it.

use super::matmul::{Matrix, matmul};
use super::parallel::{sum_over, vectorized};
use super::{Kernel, floats, inner_product, made, shape};
use burn_flex::FlexTensor;

#[derive(Debug)]
pub(crate) struct Linear;

/// Rows of one share of the bias's gradient.
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
        if !inner_product::add_product(&mut out, floats(&x), floats(&weight), shape(&x)[1]) {
            let (left, right) = (matrix(&x), matrix(&weight).transposed());
            matmul(&mut out, outputs, 1.0, 1.0, left, right, true);
        }
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
    let (count, width) = (shape(rows)[0], shape(rows)[1]);
    let values = floats(rows);
    let total = sum_over(count, ROWS, width, |share, group| {
        vectorized!({
            for row in group {
                let row = &values[row * width..][..width];
                share.iter_mut().zip(row).for_each(|(a, b)| *a += b);
            }
        });
    });
    made(total, &[width])
}
