use lengthwise_tensor::{Backend, CpuTensor};
use proptest::prelude::*;

use crate::reference::{assert_close, device, random_tensor};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn slices_join_to_the_whole(
        rows in 0usize..9, cols in 0usize..40, row_cut in 0usize..9, col_cut in 0usize..40, seed: u64,
    ) {
        let device = device();
        let (x, x64) = random_tensor(&device, seed, rows, cols);
        let (row_cut, col_cut) = (row_cut.min(rows), col_cut.min(cols));
        let parts = [
            device.slice_rows(&x, 0..row_cut),
            device.slice_rows(&x, row_cut..rows),
        ];
        assert_close("rows", &device.concat_rows(&parts).unwrap(), rows, cols, &x64);
        assert_close("flat", &device.concat_flat(&parts).unwrap(), rows * cols, 1, &x64);
        let parts = [
            device.slice_cols(&x, 0..col_cut).unwrap(),
            device.slice_cols(&x, col_cut..cols).unwrap(),
        ];
        assert_close("cols", &device.concat_cols(&parts).unwrap(), rows, cols, &x64);
        let mut sum = device.zeros(rows, cols).unwrap();
        device.add_assign_cols(&mut sum, 0, &parts[0]).unwrap();
        device.add_assign_cols(&mut sum, col_cut, &parts[1]).unwrap();
        assert_close("sum of columns", &sum, rows, cols, &x64);
    }

    #[test]
    fn sums_match(rows in 0usize..90, cols in 0usize..90, num_parts in 1u64..5, seed: u64) {
        let device = device();
        let parts: Vec<(CpuTensor, Vec<f64>)> =
            (0..num_parts).map(|part| random_tensor(&device, seed ^ part, rows, cols)).collect();
        let mut expected = vec![0.0; rows * cols];
        for (_, part) in &parts {
            expected.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        let tensors: Vec<CpuTensor> = parts.into_iter().map(|(tensor, _)| tensor).collect();
        let sum = device.sum(&tensors).unwrap();
        assert_close("sum", &sum, rows, cols, &expected);
        let squares: f64 = device.to_vec(&sum).iter().map(|&x| f64::from(x).powi(2)).sum();
        prop_assert!((device.sum_of_squares(&sum) - squares).abs() <= 1e-12 * squares);
        let mut added = tensors[0].clone();
        for tensor in &tensors[1..] {
            device.add_assign(&mut added, tensor).unwrap();
        }
        prop_assert_eq!(device.to_vec(&added), device.to_vec(&sum));
        let twice = device.add(&sum, &sum).unwrap();
        let expected: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
        assert_close("twice", &twice, rows, cols, &expected);
    }
}
