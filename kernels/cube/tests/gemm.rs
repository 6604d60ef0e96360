//! What BLAS would compute from the description of a product, against the product.

#[allow(dead_code)] // of the library, where another module reads it
#[path = "../src/gemm.rs"]
mod gemm;

use gemm::{Gemm, Matrix};
use proptest::prelude::*;

/// An entry of `op(matrix)`, as the documentation of BLAS counts.
fn entry(values: &[f64], matrix: &Matrix, batch: usize, row: usize, column: usize) -> f64 {
    let (row, column) = match matrix.transposed {
        true => (column, row),
        false => (row, column),
    };
    assert!(row < matrix.rows && column < matrix.columns);
    values[batch * matrix.apart + column * matrix.leading + row]
}

/// Values in a buffer, and how the axes `order` of a tensor of this shape lie in it, the last one `pad` entries apart too many.
fn strides(shape: &[usize], order: &[usize], pad: usize) -> (Vec<usize>, usize) {
    let mut strides = vec![0; shape.len()];
    let mut size = 1;
    for (nth, axis) in order.iter().rev().enumerate() {
        strides[*axis] = size;
        size *= shape[*axis];
        size += if nth == 0 { pad } else { 0 };
    }
    (strides, size)
}

fn values(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i * 7 % 23) as f64 - 11.0).collect()
}

fn check(batch: [usize; 2], [m, k, n]: [usize; 3], swapped: [bool; 2], pad: usize) {
    let order = |swapped| if swapped { [0, 1, 3, 2] } else { [0, 1, 2, 3] };
    let (left, right) = ([batch[0], batch[1], m, k], [batch[0], batch[1], k, n]);
    let (left_strides, left_size) = strides(&left, &order(swapped[0]), pad);
    let (right_strides, right_size) = strides(&right, &order(swapped[1]), pad);
    let gemm = Gemm::new((&left, &left_strides), (&right, &right_strides)).expect("plain enough");
    let (left_values, right_values) = (values(left_size), values(right_size));
    assert_eq!(gemm.batch, batch[0] * batch[1]);
    let mut out = vec![f64::NAN; gemm.batch * m * n];
    for (of, column, row) in
        (0..gemm.batch).flat_map(|b| (0..m).flat_map(move |c| (0..n).map(move |r| (b, c, r))))
    {
        let product = |i| {
            entry(&right_values, &gemm.a, of, row, i) * entry(&left_values, &gemm.b, of, i, column)
        };
        out[of * gemm.d.apart + column * gemm.d.leading + row] = (0..k).map(product).sum();
    }
    for (at, got) in out.iter().enumerate() {
        let (of, row, column) = (at / (m * n), at / n % m, at % n);
        let place = |strides: &[usize], row: usize, column: usize| {
            let (outer, inner) = (of / batch[1], of % batch[1]);
            outer * strides[0] + inner * strides[1] + row * strides[2] + column * strides[3]
        };
        let product = |i| {
            left_values[place(&left_strides, row, i)]
                * right_values[place(&right_strides, i, column)]
        };
        assert_eq!(*got, (0..k).map(product).sum::<f64>(), "entry {at}");
    }
    for matrix in [gemm.a, gemm.b, gemm.d] {
        assert!(matrix.leading >= matrix.rows, "{matrix:?}");
    }
}

proptest! {
    #[test]
    fn a_product_is_described_as_it_is(
        batch in [1usize..4, 1usize..4],
        sizes in [1usize..6, 1usize..6, 1usize..6],
        swapped in any::<[bool; 2]>(),
        pad in 0usize..3,
    ) {
        check(batch, sizes, swapped, pad);
    }
}

#[test]
fn what_blas_cannot_say_is_left_alone() {
    let plain = (&[2, 3][..], &[3, 1][..]);
    assert!(Gemm::new(plain, (&[3, 4], &[4, 1])).is_some());
    assert!(Gemm::new(plain, (&[4, 3], &[3, 1])).is_none(), "sizes");
    assert!(Gemm::new(plain, (&[3, 4], &[8, 2])).is_none(), "gaps");
    assert!(
        Gemm::new(plain, (&[3, 4], &[0, 1])).is_none(),
        "one row for all"
    );
    assert!(Gemm::new(plain, (&[3, 0], &[1, 1])).is_none(), "nothing");
    assert!(
        Gemm::new(plain, (&[1, 3, 4], &[12, 4, 1])).is_none(),
        "ranks"
    );
    let batch = (&[2, 2, 3][..], &[6, 3, 1][..]);
    assert!(
        Gemm::new(batch, (&[1, 3, 4], &[12, 4, 1])).is_none(),
        "broadcast"
    );
    let heads = (&[2, 5, 2, 3][..], &[30, 3, 15, 1][..]);
    let keys = (&[2, 5, 3, 2][..], &[30, 6, 2, 1][..]);
    assert!(Gemm::new(heads, keys).is_none(), "batches of two strides");
}
