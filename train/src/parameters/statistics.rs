//! Batch norms of models that were never trained.

use super::read_some;
use crate::error::{Result, TrainError};
use burn::prelude::*;

/// Refuses to train a model with batch norms whose running variances are all those of the start. Training keeps them
/// (see [`clip::nn::BatchNorm`]), so such a model would be trained without any norm, and be another one than in PyTorch.
///
/// # Errors
///
/// Says what to begin from.
pub fn refuse_fresh_statistics<B: Backend, M: Module<B>>(model: &M) -> Result<()> {
    let variances = read_some(model, |path| path.ends_with(".running_var"));
    let fresh = |data: &TensorData| data.iter::<f32>().all(|variance| variance == 1.0);
    if variances.is_empty() || !variances.values().all(fresh) {
        return Ok(());
    }
    Err(TrainError::Config(
        "the batch norms of this ResNet were never trained (every variance is 1), and training keeps their statistics: \
         begin from a trained checkpoint, or take a vision transformer"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{parameters, write_parameters};
    use crate::toy::TrainBackend;
    use clip::{ModelConfig, Precision};
    use std::collections::BTreeMap;

    #[test]
    fn a_new_resnet_is_refused_and_one_with_statistics_is_not() {
        let device = Default::default();
        let config = serde_json::json!({
            "embed_dim": 4,
            "vision_cfg": {"layers": [1, 1, 1, 1], "width": 2, "head_width": 16, "image_size": 32},
            "text_cfg": {"width": 4, "heads": 1, "layers": 1, "vocab_size": 9, "context_length": 3},
        });
        let config = ModelConfig::from_json(&config).unwrap();
        let model = config.init::<TrainBackend>(0, Precision::F32, &device);
        let message = refuse_fresh_statistics(&model).unwrap_err().to_string();
        assert!(message.contains("trained checkpoint"), "{message}");
        let listed = parameters(&model);
        let frozen = listed.iter().filter(|p| !p.trainable);
        assert!(frozen.clone().all(|p| p.path.contains(".running_")));
        assert_eq!(frozen.count(), 2 * (3 + 4 * 4));
        let seen = TensorData::from([0.5f32, 1.0]);
        let seen = BTreeMap::from([("visual.layer1.0.bn1.running_var".to_string(), seen)]);
        let model = write_parameters(model, seen);
        refuse_fresh_statistics(&model).unwrap();
        let vit = ModelConfig::preset("tiny").unwrap();
        refuse_fresh_statistics(&vit.init::<TrainBackend>(0, Precision::F32, &device)).unwrap();
    }
}
