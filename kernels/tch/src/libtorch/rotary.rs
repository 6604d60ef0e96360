//! Rotary positions in the half-rotation form, in f32: one product, and one addition of products for each half.

use super::{Kernel, shape};
use burn_tch::TchTensor;
use tch::{Kind, Tensor};

/// Cosines and sines, `[1 or batch, seq, 1, head_dim]`.
#[derive(Debug)]
pub(super) struct Rotary {
    pub cos: TchTensor,
    pub sin: TchTensor,
}

impl Rotary {
    /// `x` with its heads turned, or turned back.
    fn turn(&self, x: &Tensor, back: bool) -> Tensor {
        let (whole, dim) = (x.size(), shape(&self.cos)[3]);
        let half = dim / 2;
        let halves = |of: &Tensor| [of.narrow(3, 0, half), of.narrow(3, half, half)];
        let heads = x.reshape([whole[0], whole[1], -1, dim]);
        let heads = heads.to_kind(Kind::Float);
        let [x_low, x_high] = halves(&heads);
        let [s_low, s_high] = halves(&self.sin.tensor);
        // A turn back takes its sines from the other half: they need not be those of one angle.
        let [s_low, s_high] = match back {
            false => [s_low.neg(), s_high],
            true => [s_high, s_low.neg()],
        };
        let out = &heads * &self.cos.tensor;
        let [mut low, mut high] = halves(&out);
        let _ = low.addcmul_(&x_high, &s_low);
        let _ = high.addcmul_(&x_low, &s_high);
        out.to_kind(x.kind()).reshape(whole)
    }
}

impl Kernel<1> for Rotary {
    type State = ();

    fn takes(&self, [x]: &[TchTensor; 1]) -> bool {
        let tables = [&self.cos, &self.sin];
        let floats = |table: &&TchTensor| {
            table.tensor.kind() == Kind::Float && table.tensor.device() == x.tensor.device()
        };
        let (x, [cos, sin]) = (shape(x), tables.map(shape));
        let (&[batch, seq, width], &[images, places, 1, dim]) = (&x[..], &cos[..]) else {
            return false;
        };
        let heads = dim > 0 && dim % 2 == 0 && width % dim == 0;
        let fit = sin == cos && places == seq && (images == 1 || images == batch);
        tables.iter().all(floats) && heads && fit && batch * seq * width > 0
    }

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, ()) {
        (TchTensor::new(self.turn(&x.tensor, false)), ())
    }

    fn backward(self, (): (), dy: &Tensor, _: [bool; 1]) -> [Option<Tensor>; 1] {
        [Some(self.turn(dy, true))]
    }
}
