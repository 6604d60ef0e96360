//! Numbers that can be written.

use data::npy::Float;

use crate::error::{EvalError, Result};

/// Refuses what is no number, or would be none once it is written.
pub(crate) fn check_fits(values: &[f32], float: Float, what: &str) -> Result<()> {
    if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
        let reason = format!("an embedding of {what} has the value {bad}");
        return Err(EvalError::Features(reason));
    }
    let largest = f32::from(half::f16::MAX);
    match values.iter().find(|value| value.abs() > largest) {
        Some(value) if float == Float::F16 => Err(EvalError::Option {
            option: "dtype",
            reason: format!(
                "an embedding of {what} has the value {value}, f16 goes to {largest}; take f32, or rows of unit length"
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_f16_cannot_hold_is_refused() {
        assert!(check_fits(&[1.0, -65504.0], Float::F16, "image").is_ok());
        assert!(check_fits(&[1e6], Float::F32, "image").is_ok());
        for (values, float) in [([1e6], Float::F16), ([f32::NAN], Float::F32)] {
            assert!(check_fits(&values, float, "image").is_err());
        }
    }
}
