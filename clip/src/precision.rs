use burn::tensor::DType;
use std::str::FromStr;

/// Dtype of the activations inside the towers. Parameters, norms' statistics, softmax and losses stay in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, as open_clip's `amp_bf16`.
    Bf16,
}

impl Precision {
    /// The dtype itself.
    pub fn compute(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" | "fp32" => Ok(Self::F32),
            "bf16" | "amp_bf16" => Ok(Self::Bf16),
            _ => Err(format!("`{name}` is not a precision; choose f32 or bf16")),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
