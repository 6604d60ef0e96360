use burn::module::Param;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};
use clip::nn::init::Init;
use clip::nn::linear;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::sync::Arc;

/// A low-rank change of a linear layer, `scale · B A` (Hu et al., 2021, "LoRA"), computed in f32.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// A, `[rank, in]`.
    pub lora_a: Param<Tensor<B, 2>>,
    /// B, `[out, rank]`.
    pub lora_b: Param<Tensor<B, 2>>,
    /// Factor of the change: `alpha / rank`.
    pub scale: f64,
    /// Share of the inputs that training drops.
    pub dropout: f64,
    /// Tells this layer's draws from those of others.
    site: u64,
}

impl<B: Backend> Lora<B> {
    /// Around given matrices. `name` is the layer's path in the model; draws of dropout depend on it.
    pub fn new(
        lora_a: Param<Tensor<B, 2>>,
        lora_b: Param<Tensor<B, 2>>,
        scale: f64,
        dropout: f64,
        name: &str,
    ) -> Self {
        Self {
            lora_a,
            lora_b,
            scale,
            dropout,
            site: fnv1a(name),
        }
    }

    /// A as PEFT starts it, uniform within `1 / sqrt(in)`, and B zero: no change yet.
    pub fn init(
        [outputs, inputs]: [usize; 2],
        (rank, scale, dropout): (usize, f64, f64),
        name: &str,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        let bound = (inputs as f64).powf(-0.5);
        let a = init.uniform([rank, inputs], bound, device);
        let b = init.constant([outputs, rank], 0.0, device);
        Self::new(a, b, scale, dropout, name)
    }

    /// `scale · B A`.
    ///
    /// # Shapes
    ///
    /// - output: `[out, in]`, f32
    pub fn change(&self) -> Tensor<B, 2> {
        self.lora_b.val().matmul(self.lora_a.val()) * self.scale
    }

    /// `scale · dropout(x) Aᵀ Bᵀ`.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`, f32
    pub fn forward(&self, x: Tensor<B, 3>, dropout: Option<&Dropout>) -> Tensor<B, 3> {
        let x = x.cast(DType::F32);
        let x = match dropout {
            Some(dropout) if self.dropout > 0.0 => {
                let (shape, device) = (x.dims(), x.device());
                let kept = dropout.factors(self.site, self.dropout, shape);
                x * Tensor::from_data(TensorData::new(kept, shape), (&device, DType::F32))
            }
            _ => x,
        };
        let inner = linear(x, self.lora_a.val(), None);
        linear(inner, self.lora_b.val(), None) * self.scale
    }
}

/// Which inputs a training pass drops: a function of one seed per row of the batch.
///
/// A row's draws do not depend on the rows beside it, on how far it is padded on the left, on the backend, or on how
/// often a layer is run. So they are the same in whatever parts a batch is computed, and when a layer is run again to
/// get its gradients.
#[derive(Debug, Clone)]
pub struct Dropout {
    rows: Arc<[u64]>,
}

impl Dropout {
    /// One seed per row.
    pub fn new(rows: impl Into<Arc<[u64]>>) -> Self {
        Self { rows: rows.into() }
    }

    /// Seeds of the rows `first..first + rows` of a step's batch, all from one seed.
    pub fn of_rows(seed: u64, first: usize, rows: usize) -> Self {
        let row = |row: usize| mix(seed ^ mix(row as u64));
        Self::new((first..first + rows).map(row).collect::<Vec<_>>())
    }

    /// 0 for a dropped input, `1 / (1 - p)` for any other.
    ///
    /// # Panics
    ///
    /// Panics if there is not one seed per row.
    fn factors(&self, site: u64, p: f64, [rows, seq, width]: [usize; 3]) -> Vec<f32> {
        assert_eq!(rows, self.rows.len(), "dropout needs one seed per row");
        let limit = (p * 2f64.powi(32)) as u64;
        let kept = (1.0 / (1.0 - p)) as f32;
        let mut factors = vec![0.0; rows * seq * width];
        let by_row = factors.par_chunks_mut((seq * width).max(1));
        by_row.zip(&*self.rows).for_each(|(row, seed)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ site);
            // From the last position on, because padding is on the left.
            for position in row.chunks_mut(width).rev() {
                for factor in position {
                    if u64::from(rng.random::<u32>()) >= limit {
                        *factor = kept;
                    }
                }
            }
        });
        factors
    }
}

/// The finalizer of SplitMix64: neighbouring numbers become unrelated ones.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fnv1a(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn dropped_inputs_reach_neither_a_nor_b() {
        let device = Default::default();
        let kind = (2, 3.0, 0.5);
        let mut init = Init::seeded(1);
        let mut lora = Lora::<Flex>::init([4, 5], kind, "layer", &mut init, &device);
        lora.lora_b = init.normal([4, 2], 1.0, &device);
        let x = init.normal::<Flex, 3>([2, 3, 5], 1.0, &device).val();
        let dropout = Dropout::of_rows(1, 0, 2);
        let factors = dropout.factors(lora.site, 0.5, [2, 3, 5]);
        assert!(factors.contains(&0.0) && factors.contains(&2.0));
        let kept: Tensor<Flex, 3> = Tensor::from_data(TensorData::new(factors, [2, 3, 5]), &device);
        let expected = lora.forward(x.clone() * kept, None).into_data();
        assert_eq!(lora.forward(x, Some(&dropout)).into_data(), expected);
    }

    #[test]
    fn a_share_p_is_dropped_and_the_rest_keeps_the_mean() {
        let factors = Dropout::of_rows(1, 0, 20).factors(7, 0.05, [20, 50, 100]);
        let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64;
        let share = dropped / factors.len() as f64;
        assert!((share - 0.05).abs() < 0.002, "{share}");
        let mean = factors.iter().map(|x| f64::from(*x)).sum::<f64>() / factors.len() as f64;
        assert!((mean - 1.0).abs() < 0.002, "{mean}");
    }

    #[test]
    fn a_rows_draws_depend_on_its_seed_and_layer_and_on_nothing_else() {
        let whole = Dropout::of_rows(3, 0, 4).factors(1, 0.5, [4, 6, 8]);
        let second = Dropout::of_rows(3, 2, 2).factors(1, 0.5, [2, 6, 8]);
        assert_eq!(second, whole[2 * 48..], "the second half of a batch");
        let shorter = Dropout::of_rows(3, 0, 1).factors(1, 0.5, [1, 4, 8]);
        assert_eq!(shorter, whole[2 * 8..6 * 8], "less padding on the left");
        assert_ne!(Dropout::of_rows(3, 0, 4).factors(2, 0.5, [4, 6, 8]), whole);
        assert_ne!(Dropout::of_rows(4, 0, 4).factors(1, 0.5, [4, 6, 8]), whole);
        assert_ne!(whole[..48], whole[48..96], "two rows");
    }
}
