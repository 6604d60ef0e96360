//! A product of matrices as BLAS wants it said, which counts columns first: `D = op(A) op(B)`, with the right factor as `A`.
//!
//! A matrix that lies row by row is, counted so, its own transpose. Hence `Dᵀ = rightᵀ leftᵀ` is asked for, and comes out row by row.

/// A factor, or the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    /// Elements from one column to the next.
    pub leading: usize,
    /// Whether its transpose is meant.
    pub transposed: bool,
    /// Elements from one matrix of the batch to the next.
    pub apart: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gemm {
    pub a: Matrix,
    pub b: Matrix,
    pub d: Matrix,
    pub batch: usize,
}

/// Shape and strides, in elements.
type Layout<'a> = (&'a [usize], &'a [usize]);

impl Gemm {
    /// `left [..., m, k] · right [..., k, n]`, with a contiguous result. `None` for an empty one, for batches that are not the same,
    /// and where a factor lies in a way that BLAS has no words for.
    pub fn new(left: Layout, right: Layout) -> Option<Self> {
        let rank = left.0.len();
        if rank < 2 || right.0.len() != rank || left.0[..rank - 2] != right.0[..rank - 2] {
            return None;
        }
        let (m, k, n) = (left.0[rank - 2], left.0[rank - 1], right.0[rank - 1]);
        let batch: usize = left.0[..rank - 2].iter().product();
        if right.0[rank - 2] != k || [m, k, n, batch].contains(&0) {
            return None;
        }
        let d = Matrix {
            rows: n,
            columns: m,
            leading: n,
            transposed: false,
            apart: m * n,
        };
        let (a, b) = (Matrix::of(right)?, Matrix::of(left)?);
        Some(Self { a, b, d, batch })
    }
}

impl Matrix {
    fn of((shape, strides): Layout) -> Option<Self> {
        let split = shape.len() - 2;
        let apart = one_stride((&shape[..split], &strides[..split]))?;
        let (rows, columns) = (shape[split], shape[split + 1]);
        let (down, right) = (strides[split], strides[split + 1]);
        let matrix = |rows, columns, leading, transposed| Self {
            rows,
            columns,
            leading,
            transposed,
            apart,
        };
        // Of an axis of one entry the stride says nothing.
        let leading = |count, stride, length| if count == 1 { length } else { stride };
        if right == 1 || columns == 1 {
            let leading = leading(rows, down, columns);
            return (leading >= columns).then(|| matrix(columns, rows, leading, false));
        }
        let leading = leading(columns, right, rows);
        let contiguous = leading >= rows && (down == 1 || rows == 1);
        contiguous.then(|| matrix(rows, columns, leading, true))
    }
}

/// The stride of several axes taken as one; `None` if there is none.
fn one_stride((shape, strides): Layout) -> Option<usize> {
    let mut axes = shape
        .iter()
        .zip(strides)
        .filter(|(count, _)| **count > 1)
        .rev();
    let Some((count, first)) = axes.next() else {
        return Some(0);
    };
    let mut expected = count * first;
    for (count, stride) in axes {
        if *stride != expected {
            return None;
        }
        expected *= count;
    }
    Some(*first)
}
