//! bf16 to f32 and back.

use super::parallel::{fill, vectorized};
use super::{floats, made, shape};
use burn::prelude::*;
use burn::tensor::{DType, bf16};
use burn_flex::FlexTensor;

/// Contiguous, in f32.
pub(super) fn wide(x: FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    if x.dtype() != DType::BF16 {
        return x;
    }
    let values = x.as_slice::<bf16>().expect("contiguous bf16");
    let mut out = vec![0f32; values.len()];
    fill(&mut out, 1, |out, first| {
        let values = &values[first..][..out.len()];
        vectorized!({
            for (out, value) in out.iter_mut().zip(values) {
                *out = f32::from_bits(u32::from(value.to_bits()) << 16);
            }
        });
    });
    made(out, shape(&x))
}

/// A tensor in f32 as one of `dtype`, f32 or bf16: to the nearest, ties to even.
pub(super) fn to(dtype: DType, x: FlexTensor) -> FlexTensor {
    if dtype != DType::BF16 {
        return x;
    }
    let values = floats(&x);
    let mut out = vec![bf16::ZERO; values.len()];
    vectorized!({
        for (out, value) in out.iter_mut().zip(values) {
            let bits = value.to_bits();
            let even = (bits >> 16) & 1;
            let rounded = bits.wrapping_add(0x7fff + even) >> 16;
            // What would round a NaN to infinity keeps it one.
            let quiet = (bits >> 16) | 0x40;
            let bits = if value.is_nan() { quiet } else { rounded };
            *out = bf16::from_bits(bits as u16);
        }
    });
    FlexTensor::from_data(TensorData::new(out, shape(&x).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_widened_and_rounded_as_the_type_itself_does_it() {
        let values: Vec<f32> = (0..=u32::MAX >> 12)
            .map(|bits| f32::from_bits(bits << 12))
            .chain([f32::from_bits(0x7f80_0001), f32::from_bits(0x3f80_8000)])
            .collect();
        let narrow = to(DType::BF16, made(values.clone(), &[values.len()]));
        let exact: Vec<u16> = values
            .iter()
            .map(|x| bf16::from_f32(*x).to_bits())
            .collect();
        let found = narrow.as_slice::<bf16>().unwrap();
        assert!(found.iter().map(|x| x.to_bits()).eq(exact));
        let again = wide(narrow.clone());
        let exact = found.iter().map(|x| x.to_f32().to_bits());
        assert!(floats(&again).iter().map(|x| x.to_bits()).eq(exact));
    }
}
