//! Products of tiles in scratch: the register-blocked kernel under attention, and the packing it reads.
//!
//! Attention multiplies many tiles of one shape whose right-hand sides are used again and again: packing these
//! once, and calling a kernel with nothing to decide, beats a general product for each tile.

use pulp::Simd;

use super::prefetch::{ROWS_AHEAD, prefetch};

/// The distance of the rows of a tile of scores: an odd number of cache lines, so that the elements of a column spread
/// over all sets of a cache. It is a constant because computing the addresses of a block's rows would take the
/// issue slots of a fifth of its multiplications.
pub(super) const SCORE_STRIDE: usize = 208;

/// How the left-hand side of a product lies in memory: element `(row, k)`.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// At `k * ROWS + row`, as [`pack_strips`] packs it.
    Strip(&'a [f32]),
    /// At `row * SCORE_STRIDE + k`: rows of scores.
    ScoreRows(&'a [f32]),
    /// At `k * SCORE_STRIDE + row`: columns of scores.
    ScoreCols(&'a [f32]),
}

/// The use of the elements that a product is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// `c = a b` or `c += a b` for `ROWS` rows and one packed panel, summed over `depth`.
///
/// The panel holds `panel_cols` columns, one or two vectors of them, for each `k < depth`; rows of `c` are
/// `c_stride` apart.
#[inline(always)]
pub(super) fn multiply_panel<S: Simd, const ROWS: usize>(
    simd: S,
    depth: usize,
    a: Left<'_>,
    (panel, panel_cols): (&[f32], usize),
    (c, c_stride): (&mut [f32], usize),
    into: Into,
) {
    if panel_cols == 2 * S::F32_LANES {
        simd.vectorize(PanelProduct::<ROWS, 2> {
            depth,
            a,
            panel,
            c,
            c_stride,
            into,
        });
    } else {
        simd.vectorize(PanelProduct::<ROWS, 1> {
            depth,
            a,
            panel,
            c,
            c_stride,
            into,
        });
    }
}

struct PanelProduct<'a, const ROWS: usize, const VECTORS: usize> {
    depth: usize,
    a: Left<'a>,
    panel: &'a [f32],
    c: &'a mut [f32],
    c_stride: usize,
    into: Into,
}

impl<const ROWS: usize, const VECTORS: usize> pulp::WithSimd for PanelProduct<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            depth,
            a,
            panel,
            c,
            c_stride,
            into,
        } = self;
        let sums = match a {
            Left::Strip(a) => {
                assert!(depth * ROWS <= a.len());
                // SAFETY: the largest index is that of k = depth - 1 and row ROWS - 1, which is below the
                // length by the assertion; every k the closure gets is below `depth`.
                sum_products::<S, ROWS, VECTORS>(simd, depth, panel, |row, k| unsafe {
                    *a.get_unchecked(k * ROWS + row)
                })
            }
            Left::ScoreRows(a) => {
                assert!(depth == 0 || (ROWS - 1) * SCORE_STRIDE + depth <= a.len());
                // SAFETY: the largest index is that of row ROWS - 1 and k = depth - 1, which is below the
                // length by the assertion; every k the closure gets is below `depth`.
                sum_products::<S, ROWS, VECTORS>(simd, depth, panel, |row, k| unsafe {
                    *a.get_unchecked(row * SCORE_STRIDE + k)
                })
            }
            Left::ScoreCols(a) => {
                assert!(depth == 0 || (depth - 1) * SCORE_STRIDE + ROWS <= a.len());
                // SAFETY: the largest index is that of k = depth - 1 and row ROWS - 1, which is below the
                // length by the assertion; every k the closure gets is below `depth`.
                sum_products::<S, ROWS, VECTORS>(simd, depth, panel, |row, k| unsafe {
                    *a.get_unchecked(k * SCORE_STRIDE + row)
                })
            }
        };
        let width = VECTORS * S::F32_LANES;
        for (row, sums) in sums.into_iter().enumerate() {
            let (to, _) = S::as_mut_simd_f32s(&mut c[row * c_stride..][..width]);
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = match into {
                    Into::Replace => sum,
                    Into::Add => simd.add_f32s(*to, sum),
                };
            }
        }
    }
}

/// The block of sums in registers. `a(row, k)` is called with `row < ROWS` and `k < depth` only.
#[inline(always)]
fn sum_products<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    depth: usize,
    panel: &[f32],
    a: impl Fn(usize, usize) -> f32,
) -> [[S::f32s; VECTORS]; ROWS] {
    let (vectors, _) = S::as_simd_f32s(panel);
    let (columns, _) = vectors.as_chunks::<VECTORS>();
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (k, columns) in columns[..depth].iter().enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = simd.splat_f32s(a(row, k));
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = simd.mul_add_f32s(x, *column, *sum);
            }
        }
    }
    sums
}

/// The panels of a matrix of `cols` columns, a whole number of vectors: the first column and the width of each.
#[inline(always)]
pub(super) fn panels<S: Simd>(cols: usize) -> impl Iterator<Item = (usize, usize)> {
    let width = panel_width::<S>();
    (0..cols)
        .step_by(width)
        .map(move |col| (col, width.min(cols - col)))
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
    for row in 0..rows {
        prefetch(from, (row + ROWS_AHEAD) * stride, cols);
        let from = &from[row * stride..][..cols];
        for (col, width) in panels::<S>(padded_cols) {
            let filled = width.min(cols.saturating_sub(col));
            let to = &mut to[col * rows + row * width..][..width];
            let (to, padding) = to.split_at_mut(filled);
            for (to, from) in to.iter_mut().zip(&from[cols.min(col)..]) {
                *to = *from * factor;
            }
            padding.fill(0.0);
        }
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
            prefetch(from, (start + place + ROWS_AHEAD) * stride, cols);
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

/// Packs `rows` rows of `cols` columns, `stride` apart, as left-hand sides: strips of `ROWS` rows, column by column.
/// What the last strip has beyond the `rows` stays as it was.
#[inline(always)]
pub(super) fn pack_strips<const ROWS: usize>(
    to: &mut [f32],
    from: &[f32],
    rows: usize,
    cols: usize,
    stride: usize,
) {
    let strips = to.chunks_exact_mut(ROWS * cols);
    for (start, strip) in (0..rows).step_by(ROWS).zip(strips) {
        for place in 0..ROWS.min(rows - start) {
            prefetch(from, (start + place + ROWS_AHEAD) * stride, cols);
            let from = &from[(start + place) * stride..][..cols];
            for (to, from) in strip.chunks_exact_mut(ROWS).zip(from) {
                to[place] = *from;
            }
        }
    }
}
