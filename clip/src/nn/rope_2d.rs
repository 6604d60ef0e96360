use burn::prelude::*;
use burn::tensor::DType;

/// Rotary positions on a grid (Su et al., 2021; EVA-02, Fang et al., 2023): half of a head's channels turn with the
/// row, half with the column, neighbouring channels in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeConfig {
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// Rows and columns of the pre-training, to which the coordinates are scaled.
    pub reference: usize,
    /// Channels of a head, a multiple of four.
    pub head_dim: usize,
}

/// The angles' sines and cosines for every token of a sequence.
#[derive(Debug, Clone)]
pub struct Rope<B: Backend> {
    /// `[1, prefix + patches, 1, head_dim]`, f32.
    sin: Tensor<B, 4>,
    /// `[1, prefix + patches, 1, head_dim]`, f32.
    cos: Tensor<B, 4>,
}

impl RopeConfig {
    /// Angles of a sequence of `prefix` tokens that do not turn, then the patches row by row.
    pub fn angles<B: Backend>(&self, prefix: usize, device: &Device<B>) -> Rope<B> {
        let [rows, columns] = self.grid;
        let bands = self.head_dim / 4;
        let mut angles = vec![0.0; prefix * self.head_dim];
        for row in 0..rows {
            for column in 0..columns {
                for (at, side) in [(row, rows), (column, columns)] {
                    // The steps and the precision of the reference.
                    let position = at as f32 / side as f32 * self.reference as f32;
                    for band in 0..bands {
                        let frequency = 1.0 / 10_000f32.powf(band as f32 / bands as f32);
                        angles.extend([position * frequency; 2]);
                    }
                }
            }
        }
        let shape = [1, prefix + rows * columns, 1, self.head_dim];
        let tensor = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|angle| f(*angle)).collect();
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        Rope {
            sin: tensor(f32::sin),
            cos: tensor(f32::cos),
        }
    }
}

impl<B: Backend> Rope<B> {
    /// Turns queries or keys, in f32.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch, seq, heads, head_dim]`, in the dtype of `x`
    pub fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let (dtype, x) = (x.dtype(), x.cast(DType::F32));
        let [batch, seq, heads, head_dim] = x.dims();
        let pairs = x.clone().reshape([batch, seq, heads, head_dim / 2, 2]);
        // (a, b) → (−b, a)
        let turned = Tensor::cat(
            vec![pairs.clone().narrow(4, 1, 1).neg(), pairs.narrow(4, 0, 1)],
            4,
        );
        let turned = turned.reshape([batch, seq, heads, head_dim]);
        (x * self.cos.clone() + turned * self.sin.clone()).cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn scores_depend_on_the_distance_alone_and_the_class_token_stays() {
        let device = Default::default();
        let config = RopeConfig {
            grid: [2, 3],
            reference: 6,
            head_dim: 8,
        };
        let rope = config.angles::<Flex>(1, &device);
        let x = Tensor::<Flex, 1>::from_floats([0.3, -1.0, 0.5, 2.0, -0.7, 0.1, 0.9, 0.4], &device);
        let x = x.reshape([1, 1, 1, 8]).expand([1, 7, 1, 8]);
        let y = rope.rotate(x.clone());
        let y: Vec<f32> = y.into_data().to_vec().unwrap();
        let x: Vec<f32> = x.into_data().to_vec().unwrap();
        assert_eq!(y[..8], x[..8]);
        let dot = |a: usize, b: usize| -> f32 { (0..8).map(|i| y[8 * a + i] * y[8 * b + i]).sum() };
        // Tokens 1, 2, 3 are the first row, 4, 5, 6 the second.
        assert!((dot(1, 2) - dot(5, 6)).abs() < 1e-5);
        assert!((dot(1, 5) - dot(2, 6)).abs() < 1e-5);
        assert!((dot(1, 2) - dot(1, 4)).abs() > 1e-2);
    }
}
