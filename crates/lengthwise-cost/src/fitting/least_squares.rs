//! Least squares with non-negative coefficients.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{Array1, Array2};

use crate::CostError;

/// The pull towards 0 on coefficients that the rows say nothing of, as a part of a row's pull.
const PULL: f64 = 1e-7;

/// The non-negative coefficients with the least sum of squares of `row . coefficients - value`.
///
/// Coefficients that no row tells apart from others are as small as possible.
///
/// # Errors
///
/// A row or value is not finite, or the solver gives up.
pub fn non_negative(rows: &[Vec<f64>], values: &[f64]) -> Result<Vec<f64>, CostError> {
    let num_coefficients = rows.first().map_or(0, Vec::len);
    if num_coefficients == 0 {
        return Ok(Vec::new());
    }
    let is_finite = |numbers: &[f64]| numbers.iter().all(|number| number.is_finite());
    if !(is_finite(values) && rows.iter().all(|row| is_finite(row))) {
        return Err(CostError::Unfittable);
    }
    // Coefficients differ by ten orders of magnitude; columns of length 1 make the solver's tolerances meaningful.
    let scale_of = |column: usize| {
        let squares: f64 = rows.iter().map(|row| row[column].powi(2)).sum();
        if squares > 0.0 { squares.sqrt() } else { 1.0 }
    };
    let scales: Vec<f64> = (0..num_coefficients).map(scale_of).collect();
    let shape = (rows.len() + num_coefficients, num_coefficients);
    let matrix = Array2::from_shape_fn(shape, |(row, column)| match row.checked_sub(rows.len()) {
        None => rows[row][column] / scales[column],
        Some(pulled) if pulled == column => PULL,
        Some(_) => 0.0,
    });
    let right = Array1::from_shape_fn(shape.0, |row| values.get(row).copied().unwrap_or(0.0));
    // It panics where rounding leaves a coefficient of its active set below 0.
    let solve = || nnls::nnls(matrix.view(), right.view()).0;
    let scaled = catch_unwind(AssertUnwindSafe(solve)).map_err(|_| CostError::Unfittable)?;
    let coefficients = scaled
        .iter()
        .zip(&scales)
        .map(|(coefficient, scale)| coefficient / scale);
    Ok(coefficients.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_small_change_of_a_coefficient_makes_the_fit_better(
            rows in prop::collection::vec(prop::collection::vec(0.0..10.0f64, 3), 1..8),
            values in prop::collection::vec(-5.0..10.0f64, 8),
        ) {
            let values = &values[..rows.len()];
            let fitted = non_negative(&rows, values).unwrap();
            let squares = |coefficients: &[f64]| -> f64 {
                let error = |(row, value): (&Vec<f64>, &f64)| {
                    let sum: f64 = row.iter().zip(coefficients).map(|(a, b)| a * b).sum();
                    (sum - value).powi(2)
                };
                rows.iter().zip(values).map(error).sum()
            };
            let best = squares(&fitted);
            for (index, &coefficient) in fitted.iter().enumerate() {
                prop_assert!(coefficient >= 0.0);
                for change in [-1e-3, 1e-3] {
                    let mut other = fitted.clone();
                    other[index] = (coefficient + change).max(0.0);
                    prop_assert!(squares(&other) >= best - 1e-6 * (1.0 + best));
                }
            }
        }
    }

    #[test]
    fn what_no_row_tells_of_is_0_and_what_is_no_number_is_refused() {
        let rows = [vec![2e-9, 0.0], vec![4e-9, 0.0]];
        let fitted = non_negative(&rows, &[1.0, 2.0]).unwrap();
        assert!(
            (fitted[0] * 2e-9 - 1.0).abs() < 1e-9 && fitted[1] == 0.0,
            "{fitted:?}"
        );
        let bad = non_negative(&[vec![f64::NAN]], &[1.0]);
        assert_eq!(bad, Err(CostError::Unfittable));
        assert_eq!(non_negative(&[], &[]), Ok(Vec::new()));
    }
}
