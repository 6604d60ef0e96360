//! One row added to each: what burn's own sum does element by element, looking up every place.

use super::parallel::{fill, sum_over, vectorized};
use super::{Kernel, floats, made, shape};
use burn_flex::FlexTensor;

#[derive(Debug)]
pub(crate) struct AddRow;

/// Rows of one share of the row's gradient.
const ROWS: usize = 16;

impl Kernel<2> for AddRow {
    /// Shape of the row.
    type State = Vec<usize>;

    fn takes(&self, [x, row]: &[FlexTensor; 2]) -> bool {
        let (x, row) = (shape(x), shape(row));
        let one = row.first() == Some(&1) && x.get(1..) == row.get(1..);
        one && row.iter().product::<usize>() > 0
    }

    fn forward(&self, [x, row]: [FlexTensor; 2]) -> (FlexTensor, Vec<usize>) {
        let (xs, added) = (floats(&x), floats(&row));
        let len = added.len();
        let mut out = vec![0f32; xs.len()];
        fill(&mut out, len, |out, first| {
            vectorized!({
                let xs = xs[first * len..].chunks_exact(len);
                for (out, x) in out.chunks_exact_mut(len).zip(xs) {
                    for ((out, x), added) in out.iter_mut().zip(x).zip(added) {
                        *out = x + added;
                    }
                }
            });
        });
        (made(out, shape(&x)), shape(&row).to_vec())
    }

    fn backward(
        self,
        row: Vec<usize>,
        dy: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let to_row = || {
            let (dys, len) = (floats(&dy), row.iter().product());
            let total = sum_over(dys.len() / len, ROWS, len, |share, group| {
                vectorized!({
                    for dy in dys[group.start * len..group.end * len].chunks_exact(len) {
                        for (total, dy) in share.iter_mut().zip(dy) {
                            *total += dy;
                        }
                    }
                });
            });
            made(total, &row)
        };
        let to_row = wanted[1].then(to_row);
        [wanted[0].then_some(dy), to_row]
    }
}
