//! Products of tiles in scratch: the register-blocked kernel under attention, and the packing it reads.
//!
//! Attention multiplies many tiles of one shape whose right-hand sides are used again and again: packing these
//! once, and calling a kernel with nothing to decide, beats a general product for each tile.

use pulp::Simd;

/// `c = a b` or `c += a b` for `ROWS` rows and `VECTORS` vectors of columns, summed over `depth`.
///
/// Element `(row, k)` of `a` is at `row * row_stride + k * depth_stride`; `b` is packed, `VECTORS` vectors for
/// each `k`; rows of `c` are `c_stride` apart.
struct TileProduct<'a, const ROWS: usize, const VECTORS: usize> {
    depth: usize,
    a: Strided<'a>,
    b: &'a [f32],
    c: &'a mut [f32],
    c_stride: usize,
    add: bool,
}

/// The left-hand side of a product: element `(row, k)` is at `row * row_stride + k * depth_stride`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub(super) elements: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
}

impl<const ROWS: usize, const VECTORS: usize> pulp::WithSimd for TileProduct<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            depth,
            a,
            b,
            c,
            c_stride,
            add,
        } = self;
        let width = VECTORS * S::F32_LANES;
        if depth > 0 {
            let last = (ROWS - 1) * a.row_stride + (depth - 1) * a.depth_stride;
            assert!(last < a.elements.len(), "left-hand side of a tile");
        }
        assert!(depth * width <= b.len(), "right-hand side of a tile");
        assert!((ROWS - 1) * c_stride + width <= c.len(), "result of a tile");
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let (a_elements, b) = (a.elements.as_ptr(), b.as_ptr());
        for k in 0..depth {
            // SAFETY: `k < depth` and `row < ROWS`, so the largest index into `a` is `last` and the largest
            // into `b` is below `depth * width`, both inside their slices by the assertions above. A vector
            // is F32_LANES floats without padding, for which any bits are valid; reads are unaligned.
            unsafe {
                let b = b.add(k * width);
                let columns: [S::f32s; VECTORS] = std::array::from_fn(|vector| {
                    b.add(vector * S::F32_LANES)
                        .cast::<S::f32s>()
                        .read_unaligned()
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = *a_elements.add(row * a.row_stride + k * a.depth_stride);
                    let x = simd.splat_f32s(x);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = simd.mul_add_f32s(x, column, *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let (to, _) = S::as_mut_simd_f32s(&mut c[row * c_stride..row * c_stride + width]);
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = if add { simd.add_f32s(*to, sum) } else { sum };
            }
        }
    }
}

/// `c = a b` or `c += a b` for `ROWS` rows and the columns `b` was packed with, a whole number of vectors.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "the dimensions and strides of three matrices"
)]
pub(super) fn multiply_rows<S: Simd, const ROWS: usize>(
    simd: S,
    depth: usize,
    a: Strided<'_>,
    b: &[f32],
    packed_rows: usize,
    cols: usize,
    c: &mut [f32],
    c_stride: usize,
    add: bool,
) {
    let width = panel_width::<S>();
    let mut col = 0;
    while col + width <= cols {
        let b = &b[col * packed_rows..];
        let c = &mut c[col..];
        simd.vectorize(TileProduct::<ROWS, 2> {
            depth,
            a,
            b,
            c,
            c_stride,
            add,
        });
        col += width;
    }
    if col < cols {
        let b = &b[col * packed_rows..];
        let c = &mut c[col..];
        simd.vectorize(TileProduct::<ROWS, 1> {
            depth,
            a,
            b,
            c,
            c_stride,
            add,
        });
    }
}

/// The columns of a full panel: two vectors.
#[inline(always)]
pub(super) fn panel_width<S: Simd>() -> usize {
    2 * S::F32_LANES
}

/// Packs `rows` rows of `cols` columns, `stride` apart, times `factor`: panels of two vectors of columns, the
/// last one of one where `padded_cols` is an odd number of vectors. Columns from `cols` on are zero.
#[inline(always)]
pub(super) fn pack<S: Simd>(
    to: &mut [f32],
    from: &[f32],
    rows: usize,
    cols: usize,
    stride: usize,
    padded_cols: usize,
    factor: f32,
) {
    let mut col = 0;
    while col < padded_cols {
        let width = panel_width::<S>().min(padded_cols - col);
        let filled = width.min(cols.saturating_sub(col));
        let panel = &mut to[col * rows..(col + width) * rows];
        for (row, to) in panel.chunks_exact_mut(width).enumerate() {
            let from = &from[row * stride + col..][..filled];
            let (to, padding) = to.split_at_mut(filled);
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from * factor;
            }
            padding.fill(0.0);
        }
        col += width;
    }
}

/// Packs the transpose of `rows` rows of `cols` columns: `cols` rows, panels of two vectors of columns, zeros
/// after the last of the `rows`.
#[inline(always)]
pub(super) fn pack_transposed<S: Simd>(
    to: &mut [f32],
    from: &[f32],
    rows: usize,
    cols: usize,
    stride: usize,
) {
    let width = panel_width::<S>();
    let panels = to.chunks_exact_mut(width * cols);
    for (start, panel) in (0..rows).step_by(width).zip(panels) {
        let filled = width.min(rows - start);
        for place in 0..filled {
            let from = &from[(start + place) * stride..][..cols];
            for (to, from) in panel.chunks_exact_mut(width).zip(from) {
                to[place] = *from;
            }
        }
        if filled < width {
            for to in panel.chunks_exact_mut(width) {
                to[filled..].fill(0.0);
            }
        }
    }
}
