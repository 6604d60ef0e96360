//! Matrix products of stretches of buffers.

use gemm::Parallelism;

/// A matrix in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    /// From one row, and from one column, to the next.
    pub strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows that lie `stride` apart.
    pub fn new(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            strides: [stride, 1],
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: [self.strides[1], self.strides[0]],
            ..self
        }
    }
}

/// How far a matrix reaches into its buffer.
fn reach(rows: usize, columns: usize, strides: [usize; 2]) -> usize {
    match rows * columns {
        0 => 0,
        _ => (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1,
    }
}

/// `out = before · out + scale · left · right`, where the rows of `out` lie `stride` apart.
///
/// # Panics
///
/// If the shapes do not fit, or a matrix reaches past its buffer.
pub(super) fn matmul(
    out: &mut [f32],
    stride: usize,
    before: f32,
    scale: f32,
    left: Matrix,
    right: Matrix,
    on_all_cores: bool,
) {
    let (rows, inner, columns) = (left.rows, left.columns, right.columns);
    assert_eq!(inner, right.rows);
    assert!(reach(rows, columns, [stride, 1]) <= out.len() && columns <= stride.max(1));
    for matrix in [left, right] {
        assert!(reach(matrix.rows, matrix.columns, matrix.strides) <= matrix.values.len());
    }
    if rows * columns == 0 {
        return;
    }
    let parallelism = match on_all_cores {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    let far = |stride: usize| stride as isize;
    // SAFETY: all three matrices lie within their buffers, as asserted, and `out` is borrowed exclusively; its rows do not
    // overlap, since they are no longer than their distance.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            far(stride),
            before != 0.0,
            left.values.as_ptr(),
            far(left.strides[1]),
            far(left.strides[0]),
            right.values.as_ptr(),
            far(right.strides[1]),
            far(right.strides[0]),
            before,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
