//! The exponential function, written so that loops over it vectorise.

/// `e^x` with a relative error below 2^-22 (two units in the last place).
///
/// Zero below `ln(2^-126)`, where the result would be subnormal, so also for negative infinity; infinite above
/// the largest finite result; NaN stays NaN. Range reduction `x = n ln 2 + r` with `|r| <= ln(2) / 2` and the
/// polynomial of Cephes' `expf` (Moshier, 1989).
#[inline(always)]
#[allow(
    clippy::manual_clamp,
    reason = "these comparisons keep NaN and become one instruction each"
)]
pub(super) fn exp(x: f32) -> f32 {
    const MAX: f32 = 88.722_83;
    const MIN: f32 = -87.336_54;
    // Adding it rounds to an integer, which the low bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;

    let clamped = if x > MAX { MAX } else { x };
    let clamped = if clamped < MIN { MIN } else { clamped };
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, clamped));
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_6e-1);
    let p = p.mul_add(r, 5e-1);
    let p = (p * r).mul_add(r, r) + 1.0;
    // Times 2^n: n added to the exponent.
    let scaled = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    let low = if x < MIN { 0.0 } else { scaled };
    if x > MAX { f32::INFINITY } else { low }
}

/// `2^x` for `x` up to 127, with a relative error below 2^-22; 2^-126 for all `x` below -126; NaN stays NaN.
///
/// For softmax, whose exponents are never positive: it needs fewer steps than [`exp`], as the factor `log2(e)`
/// joins the scale of the scores. The polynomial is 1 at 0 and interpolates `2^r` at six Chebyshev nodes of
/// `|r| <= 1/2`.
#[inline(always)]
pub(super) fn exp2<S: pulp::Simd>(simd: S, x: S::f32s) -> S::f32s {
    const COEFFICIENTS: [f32; 7] = [
        1.545_316_3e-4,
        1.339_086_3e-3,
        9.618_083e-3,
        5.550_357e-2,
        0.240_226_5,
        std::f32::consts::LN_2,
        1.0,
    ];
    // Adding it rounds to an integer, which the low bits of the sum then hold.
    let round = simd.splat_f32s(12_582_912.0);
    // In this order x86 returns a NaN in `x`.
    let x = simd.max_f32s(simd.splat_f32s(-126.0), x);
    let rounded = simd.add_f32s(x, round);
    let r = simd.sub_f32s(x, simd.sub_f32s(rounded, round));
    let mut p = simd.splat_f32s(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        p = simd.mul_add_f32s(p, r, simd.splat_f32s(*coefficient));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(pulp::cast(rounded), simd.splat_u32s(23));
    pulp::cast(simd.add_u32s(pulp::cast(p), exponent))
}

#[cfg(test)]
mod tests {
    use super::super::vectorise::{Vectors, vectorised};
    use super::*;

    #[test]
    fn the_relative_error_is_below_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        let mut x = -87.33f32;
        while x < 88.72 {
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
            x += 0.000_37;
        }
        assert!(worst < 2f64.powi(-22), "{worst:e}");
    }

    vectorised! {
        fn exp2_of<'a>(simd: S, elements: &'a mut [f32]) {
            let (vectors, rest) = S::as_mut_simd_f32s(elements);
            assert!(rest.is_empty());
            for x in vectors {
                *x = exp2(simd, *x);
            }
        }
    }

    #[test]
    fn exp2_is_as_exact_on_the_range_of_softmax() {
        let inputs: Vec<f32> = (0..640_000).map(|i| i as f32 * -0.000_19).collect();
        let mut outputs = inputs.clone();
        exp2_of(Vectors::of_machine(), &mut outputs);
        for (x, y) in inputs.iter().zip(&outputs) {
            let exact = f64::from(*x).exp2();
            let error = (f64::from(*y) - exact).abs() / exact;
            assert!(error < 2f64.powi(-22), "2^{x} is {y}: {error:e}");
        }
        assert_eq!(outputs[0], 1.0);
        let mut ends = [f32::NEG_INFINITY; 32];
        ends[1] = -127.0;
        ends[2] = f32::NAN;
        exp2_of(Vectors::of_machine(), &mut ends);
        assert_eq!(ends[0], f32::MIN_POSITIVE);
        assert_eq!(ends[1], f32::MIN_POSITIVE);
        assert!(ends[2].is_nan());
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.73), f32::INFINITY);
        assert!(exp(88.722).is_finite());
        assert!(exp(-87.336).is_normal());
        assert!(exp(f32::NAN).is_nan());
    }
}
