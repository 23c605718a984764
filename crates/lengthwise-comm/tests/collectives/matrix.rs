//! Matrices of the model, and their way to a device and back.

use lengthwise_tensor::{Backend, CpuBackend, Tensor};

/// Rows and columns.
pub type Shape = (usize, usize);

#[derive(Clone, Debug)]
pub struct Matrix {
    pub shape: Shape,
    pub elements: Vec<f32>,
}

/// Equal bit by bit.
impl PartialEq for Matrix {
    fn eq(&self, other: &Matrix) -> bool {
        let bits =
            |matrix: &Matrix| -> Vec<u32> { matrix.elements.iter().map(|x| x.to_bits()).collect() };
        self.shape == other.shape && bits(self) == bits(other)
    }
}

impl Matrix {
    /// Elements of very different size, so that another order of adding gives another sum.
    pub fn generate(seed: [usize; 3], shape: Shape) -> Matrix {
        let mut state = (seed[0] as u64) << 40 | (seed[1] as u64) << 20 | seed[2] as u64;
        let elements = (0..shape.0 * shape.1)
            .map(|_| {
                // SplitMix64 (Steele et al., 2014).
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let bits = z ^ (z >> 31);
                let mantissa = (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                mantissa * 2f32.powi((bits & 15) as i32)
            })
            .collect();
        Matrix { shape, elements }
    }

    /// On a device, as a part of something larger.
    pub fn upload(&self, device: &CpuBackend) -> <CpuBackend as Backend>::Tensor {
        let (rows, cols) = self.shape;
        let mut elements = vec![f32::NAN; cols];
        elements.extend(&self.elements);
        let padded = device.from_slice(rows + 1, cols, &elements).unwrap();
        device.slice_rows(&padded, 1..rows + 1)
    }

    pub fn download(device: &CpuBackend, tensor: &<CpuBackend as Backend>::Tensor) -> Matrix {
        Matrix {
            shape: (tensor.rows(), tensor.cols()),
            elements: device.to_vec(tensor),
        }
    }

    pub fn rows(&self, rows: std::ops::Range<usize>) -> Matrix {
        let cols = self.shape.1;
        Matrix {
            shape: (rows.len(), cols),
            elements: self.elements[rows.start * cols..rows.end * cols].to_vec(),
        }
    }

    pub fn concat(parts: &[Matrix]) -> Matrix {
        Matrix {
            shape: (
                parts.iter().map(|part| part.shape.0).sum(),
                parts[0].shape.1,
            ),
            elements: parts
                .iter()
                .flat_map(|part| part.elements.clone())
                .collect(),
        }
    }

    pub fn sum(parts: &[Matrix]) -> Matrix {
        let mut total = parts[0].clone();
        for part in &parts[1..] {
            for (a, b) in total.elements.iter_mut().zip(&part.elements) {
                *a += b;
            }
        }
        total
    }
}
