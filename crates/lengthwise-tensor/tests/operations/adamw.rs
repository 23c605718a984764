use lengthwise_tensor::{AdamW, Backend};
use proptest::prelude::*;

use crate::reference::{assert_close, device, random_tensor};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_of_adamw_match(rows in 0usize..4, cols in 0usize..40, steps in 1u64..6, seed: u64) {
        let device = device();
        let (mut w, mut w64) = random_tensor(&device, seed, rows, cols);
        let mut m = device.zeros(rows, cols).unwrap();
        let mut v = m.clone();
        let (mut m64, mut v64) = (vec![0.0; rows * cols], vec![0.0; rows * cols]);
        for step in 1..=steps {
            let update = AdamW {
                learning_rate: 0.01,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                step,
                gradient_scale: 0.5,
            };
            let (g, g64) = random_tensor(&device, seed ^ step, rows, cols);
            device.adamw(&mut w, &g, &mut m, &mut v, &update).unwrap();
            for (index, g) in g64.iter().enumerate() {
                let g = g * 0.5;
                m64[index] = 0.9 * m64[index] + 0.1 * g;
                v64[index] = 0.95 * v64[index] + 0.05 * g * g;
                let m_hat = m64[index] / (1.0 - 0.9f64.powi(step as i32));
                let v_hat = v64[index] / (1.0 - 0.95f64.powi(step as i32));
                w64[index] -= 0.01 * 0.1 * w64[index];
                w64[index] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        assert_close("w", &w, rows, cols, &w64);
        assert_close("m", &m, rows, cols, &m64);
        assert_close("v", &v, rows, cols, &v64);
    }
}
