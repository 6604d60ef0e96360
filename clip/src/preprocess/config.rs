//! How images must be prepared for a checkpoint: open_clip's `preprocess_cfg`.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Interpolation, PreprocessConfigError};

/// Channel means of the OpenAI checkpoints, also used by most of OpenCLIP's.
pub const OPENAI_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Channel standard deviations that go with [`OPENAI_MEAN`].
pub const OPENAI_STD: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];
/// Channel means of ImageNet (SLIP, LaCLIP on CC12M and RedCaps, CLIPA).
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Channel standard deviations that go with [`IMAGENET_MEAN`].
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Maps pixels to `[-1, 1]` together with [`INCEPTION_STD`] (SigLIP, some LAION checkpoints).
pub const INCEPTION_MEAN: [f32; 3] = [0.5; 3];
/// See [`INCEPTION_MEAN`].
pub const INCEPTION_STD: [f32; 3] = [0.5; 3];

/// Longest side of a preprocessed image; a larger `size` is taken for a mistake.
pub(crate) const MAX_SIZE: usize = 16_384;

/// How an image of any shape becomes one of the model's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ResizeMode {
    /// The shorter side is resized to the target, the rest is cropped around the centre.
    #[default]
    Shortest,
    /// The longer side is resized to the target, the rest is padded with the fill colour.
    Longest,
    /// Both sides are resized to the target; the aspect ratio is lost.
    Squash,
}

/// Where a centre crop begins when an odd number of pixels is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CropRounding {
    /// Halves go to the even neighbour, as in torchvision and open_clip.
    #[default]
    Even,
    /// Halves are cut off, as in transformers: one pixel off for every other odd number.
    Down,
}

/// Evaluation preprocessing of a checkpoint, in the JSON schema of open_clip's `preprocess_cfg`.
///
/// Reading is as lenient as open_clip's: unknown keys and nulls are ignored and what is absent
/// keeps its default. A value that is there must make sense, else it is refused by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct PreprocessConfig {
    /// Height and width of the model's input in pixels. JSON: one integer or `[height, width]`.
    #[serde(serialize_with = "write_size")]
    pub size: [usize; 2],
    /// Colour mode; always `RGB`.
    pub mode: String,
    /// Mean per channel, of pixels in `[0, 1]`.
    pub mean: [f32; 3],
    /// Standard deviation per channel, of pixels in `[0, 1]`.
    pub std: [f32; 3],
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// How the aspect ratio is handled.
    pub resize_mode: ResizeMode,
    /// Gray level of the padding of [`ResizeMode::Longest`].
    pub fill_color: u8,
    /// Start of a centre crop. JSON: `crop_rounding`, which is ours; open_clip passes over it.
    #[serde(skip_serializing_if = "is_default")]
    pub crop_rounding: CropRounding,
    /// Length to which the shorter side is resized before the crop, where that is not `size`, as transformers may do
    /// ([`ResizeMode::Shortest`] only). JSON: `shortest_edge`, which is ours; open_clip passes over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_edge: Option<usize>,
}

fn is_default(rounding: &CropRounding) -> bool {
    *rounding == CropRounding::default()
}

impl Default for PreprocessConfig {
    fn default() -> Self {
        Self {
            size: [224, 224],
            mode: "RGB".into(),
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
            interpolation: Interpolation::Bicubic,
            resize_mode: ResizeMode::Shortest,
            fill_color: 0,
            crop_rounding: CropRounding::Even,
            shortest_edge: None,
        }
    }
}

impl PreprocessConfig {
    /// Lays the fields of a `preprocess_cfg` object over this configuration.
    ///
    /// Order in open_clip: defaults, then the pretrained tag's, then the model file's, then the
    /// user's.
    ///
    /// # Errors
    ///
    /// A value of the wrong type or range; the error names the field.
    pub fn merge(mut self, overlay: &Map<String, Value>) -> Result<Self, PreprocessConfigError> {
        let present = overlay.iter().filter(|(_, value)| !value.is_null());
        for (key, value) in present {
            match key.as_str() {
                "size" => self.size = read_size(value)?,
                "mode" => self.mode = read_mode(value)?,
                "mean" => self.mean = read_channels("mean", value, |x| x.is_finite())?,
                "std" => self.std = read_channels("std", value, |x| x.is_finite() && *x > 0.0)?,
                "interpolation" => self.interpolation = read_interpolation(value)?,
                "resize_mode" => self.resize_mode = read_resize_mode(value)?,
                "fill_color" => self.fill_color = read_fill_color(value)?,
                "crop_rounding" => {
                    self.crop_rounding = read(value)
                        .ok_or_else(|| refuse("crop_rounding", value, "\"even\" or \"down\""))?;
                }
                "shortest_edge" => {
                    let [edge, _] = read_size(value).map_err(|_| {
                        refuse("shortest_edge", value, "an integer from 1 to 16384")
                    })?;
                    self.shortest_edge = Some(edge);
                }
                _ => {}
            }
        }
        Ok(self)
    }
}

impl TryFrom<Map<String, Value>> for PreprocessConfig {
    type Error = PreprocessConfigError;

    fn try_from(map: Map<String, Value>) -> Result<Self, Self::Error> {
        Self::default().merge(&map)
    }
}

/// Square sizes are written as one integer, the form that every open_clip version reads.
fn write_size<S: Serializer>(size: &[usize; 2], serializer: S) -> Result<S::Ok, S::Error> {
    match size {
        [height, width] if height == width => height.serialize(serializer),
        _ => size.serialize(serializer),
    }
}

fn refuse(field: &'static str, value: &Value, expected: &'static str) -> PreprocessConfigError {
    PreprocessConfigError {
        field,
        value: value.to_string(),
        expected,
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

fn read_size(value: &Value) -> Result<[usize; 2], PreprocessConfigError> {
    read::<usize>(value)
        .or_else(|| read::<[usize; 1]>(value).map(|[side]| side))
        .map(|side| [side, side])
        .or_else(|| read(value))
        .filter(|size: &[usize; 2]| size.iter().all(|side| (1..=MAX_SIZE).contains(side)))
        .ok_or_else(|| {
            refuse(
                "size",
                value,
                "an integer or [height, width], from 1 to 16384",
            )
        })
}

fn read_mode(value: &Value) -> Result<String, PreprocessConfigError> {
    read(value)
        .filter(|mode: &String| mode == "RGB")
        .ok_or_else(|| {
            refuse(
                "mode",
                value,
                "\"RGB\", the only colour mode of CLIP models",
            )
        })
}

fn read_channels(
    field: &'static str,
    value: &Value,
    valid: impl Fn(&f32) -> bool,
) -> Result<[f32; 3], PreprocessConfigError> {
    read::<f32>(value)
        .map(|x| [x; 3])
        .or_else(|| read(value))
        .filter(|channels: &[f32; 3]| channels.iter().all(valid))
        .ok_or_else(|| {
            refuse(
                field,
                value,
                "one or three finite numbers, a std above zero",
            )
        })
}

fn read_interpolation(value: &Value) -> Result<Interpolation, PreprocessConfigError> {
    read(value).ok_or_else(|| {
        refuse(
            "interpolation",
            value,
            "\"bicubic\", \"bilinear\" or \"random\"",
        )
    })
}

fn read_resize_mode(value: &Value) -> Result<ResizeMode, PreprocessConfigError> {
    read(value).ok_or_else(|| {
        refuse(
            "resize_mode",
            value,
            "\"shortest\", \"longest\" or \"squash\"",
        )
    })
}

fn read_fill_color(value: &Value) -> Result<u8, PreprocessConfigError> {
    read::<u8>(value)
        .or_else(|| {
            read::<[u8; 3]>(value)
                .filter(|[r, g, b]| r == g && g == b)
                .map(|[r, ..]| r)
        })
        .ok_or_else(|| refuse("fill_color", value, "a gray level from 0 to 255"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<PreprocessConfig, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_object_gives_the_openai_defaults() {
        assert_eq!(parse(json!({})).unwrap(), PreprocessConfig::default());
    }

    #[test]
    fn nulls_and_unknown_keys_are_ignored() {
        let config = parse(json!({"mean": null, "tile": true, "size": 336})).unwrap();
        assert_eq!(
            config,
            PreprocessConfig {
                size: [336, 336],
                ..Default::default()
            }
        );
    }

    #[test]
    fn the_later_overlay_wins_field_by_field() {
        let tag = json!({"mean": 0.5, "std": [0.5, 0.5, 0.5], "resize_mode": "squash"});
        let user = json!({"resize_mode": "longest", "interpolation": "bilinear"});
        let config = PreprocessConfig::default()
            .merge(tag.as_object().unwrap())
            .and_then(|config| config.merge(user.as_object().unwrap()))
            .unwrap();
        assert_eq!((config.mean, config.std), (INCEPTION_MEAN, INCEPTION_STD));
        assert_eq!(config.resize_mode, ResizeMode::Longest);
        assert_eq!(config.interpolation, Interpolation::Bilinear);
    }

    #[test]
    fn random_interpolation_acts_as_bicubic() {
        let config = parse(json!({"interpolation": "random"})).unwrap();
        assert_eq!(config.interpolation, Interpolation::Bicubic);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = PreprocessConfig {
            size: [224, 336],
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            fill_color: 127,
            crop_rounding: CropRounding::Down,
            shortest_edge: Some(256),
            ..Default::default()
        };
        assert_eq!(
            parse(serde_json::to_value(&config).unwrap()).unwrap(),
            config
        );
        let square = serde_json::to_value(PreprocessConfig::default()).unwrap();
        assert_eq!(square["size"], json!(224));
        assert_eq!(square["interpolation"], json!("bicubic"));
    }

    #[test]
    fn bad_values_are_refused_with_the_field_name() {
        for (field, value) in [
            ("size", json!(0)),
            ("size", json!([224, 224, 3])),
            ("size", json!("224")),
            ("mode", json!("RGBA")),
            ("mean", json!([0.5, 0.5])),
            ("std", json!([0.5, 0.0, 0.5])),
            ("interpolation", json!("nearest")),
            ("resize_mode", json!("crop")),
            ("fill_color", json!(256)),
            ("crop_rounding", json!("up")),
            ("shortest_edge", json!(0)),
            ("fill_color", json!([1, 2, 3])),
        ] {
            let error = parse(json!({field: value.clone()})).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{error}");
            assert!(error.contains(&value.to_string()), "{error}");
        }
    }
}
