//! Strided matrices and their product through the `gemm` crate.

use super::tile_product::Into;

/// A matrix whose elements lie at regular distances in a slice.
#[derive(Clone, Copy)]
pub(super) struct MatrixRef<'a> {
    elements: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A mutable row-major matrix whose rows start `row_stride` elements apart.
pub(super) struct MatrixMut<'a> {
    elements: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixRef<'a> {
    /// Row-major, the rows `row_stride` elements apart.
    pub(super) fn new(elements: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(elements.len(), rows, cols, row_stride);
        Self {
            elements,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            elements: self.elements,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// Row-major, the rows `row_stride` elements apart.
    pub(super) fn new(
        elements: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        assert!(cols <= row_stride || rows <= 1, "rows overlap");
        check_extent(elements.len(), rows, cols, row_stride);
        Self {
            elements,
            rows,
            cols,
            row_stride,
        }
    }
}

fn check_extent(len: usize, rows: usize, cols: usize, row_stride: usize) {
    let fits = rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= len;
    assert!(
        fits,
        "{rows} x {cols} elements, the rows {row_stride} apart, do not fit into {len}"
    );
}

/// `dst = lhs rhs` or `dst += lhs rhs`, on the calling thread.
///
/// `gemm` packs its operands into buffers of its own, at most a few MiB, which no meter counts.
pub(super) fn multiply(dst: MatrixMut<'_>, into: Into, lhs: MatrixRef<'_>, rhs: MatrixRef<'_>) {
    assert_eq!(dst.rows, lhs.rows, "rows of a product");
    assert_eq!(dst.cols, rhs.cols, "columns of a product");
    assert_eq!(lhs.cols, rhs.rows, "inner dimension of a product");
    // SAFETY: the constructors of both matrix types have checked that every element (i, j) with i < rows and
    // j < cols lies inside the slice (transposing swaps dimensions and strides alike), and the dimensions
    // agree by the assertions above. `dst` is borrowed mutably, so it overlaps neither operand, and its rows
    // do not overlap each other. Strides fit into isize because slices are at most isize::MAX bytes long.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.cols,
            lhs.cols,
            dst.elements.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            into == Into::Add,
            lhs.elements.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.elements.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
