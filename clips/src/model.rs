//! Encoders and captioner: as a module that is trained, and as a directory.

use crate::captioner::{Captioner, CaptionerConfig, Limits};
use crate::error::{Error, Result};
use crate::texts::{NO_FRAME, previous, target};
use burn::module::Param;
use burn::prelude::*;
use clip::checkpoint::{apply, collect, read_state_dict, write_safetensors, write_whole};
use clip::nn::init::Init;
use clip::preprocess::Preprocess;
use clip::text::TextTower;
use clip::vision::VisionTower;
use clip::{Clip, LoadOptions, ModelConfig, Pretrained};
use eval::tasks::caption::ImageCaptioner;
use eval::{DualEncoder, EvalError, TextEncoder};
use llm::Sampling;
use std::path::Path;
use train::{BoxError, Stored, Trained};

/// What is trained. The towers have the paths of a [`Clip`].
#[derive(Module, Debug)]
pub struct ClipsModel<B: Backend> {
    /// Images → embeddings.
    pub visual: VisionTower<B>,
    /// Texts → embeddings.
    pub text: TextTower<B>,
    /// Logarithm of the factor on the logits, `[1]`.
    pub logit_scale: Param<Tensor<B, 1>>,
    /// Of a model that came with one; not trained.
    pub logit_bias: Option<Param<Tensor<B, 1>>>,
    /// Tokens of both towers → captions.
    pub captioner: Option<Captioner<B>>,
}

impl<B: Backend> ClipsModel<B> {
    /// Encoders with a captioner, or without.
    pub fn new(clip: Clip<B>, captioner: Option<Captioner<B>>) -> Self {
        let Clip {
            visual,
            text,
            logit_scale,
            logit_bias,
        } = clip;
        Self {
            visual,
            text,
            logit_scale,
            logit_bias: logit_bias.map(|bias| bias.set_require_grad(false)),
            captioner,
        }
    }

    /// The encoders, and the captioner if there is one.
    pub fn into_parts(self) -> (Clip<B>, Option<Captioner<B>>) {
        let Self {
            visual,
            text,
            logit_scale,
            logit_bias,
            captioner,
        } = self;
        (
            Clip {
                visual,
                text,
                logit_scale,
                logit_bias,
            },
            captioner,
        )
    }
}

/// The widths of the towers and the rows of the token table: what a captioner must fit.
///
/// # Errors
///
/// When the tokenizer cannot frame what a captioner says.
pub fn widths<B: Backend>(encoders: &Pretrained<B>) -> Result<[usize; 3]> {
    if encoders.tokenizer.frame_ids().is_none() {
        return Err(Error::Config(NO_FRAME.into()));
    }
    let image = match &encoders.model.visual {
        VisionTower::Vit(vit) => vit.positional_embedding.lazy_shape()[1],
        VisionTower::Eva02(eva) => eva.positional_embedding.lazy_shape()[1],
        VisionTower::ResNet(resnet) => resnet.attnpool.positional_embedding.lazy_shape()[1],
    };
    let TextTower::Transformer(text) = &encoders.model.text;
    let [vocab_size, width] = text.token_embedding.weight.lazy_shape().dims();
    Ok([image, width, vocab_size])
}

/// The tokens of a text that a captioner reads: all but the one that holds the text's vector, where it stands last.
///
/// # Shapes
///
/// - tokens: `[batch, seq, width]`
/// - output: `[batch, seq or seq - 1, width]`
pub fn read_tokens<B: Backend>(tower: &TextTower<B>, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
    let TextTower::Transformer(transformer) = tower;
    let [_, seq, _] = tokens.dims();
    match transformer.pools_last() {
        true => tokens.narrow(1, 0, seq - 1),
        false => tokens,
    }
}

/// A CLIP with its captioner, if it has one: a model directory of open_clip with `captioner.json` and
/// `captioner.safetensors` in it.
#[derive(Debug, Clone)]
pub struct Clips<B: Backend> {
    /// The encoders with preprocessing and tokenizer.
    pub encoders: Pretrained<B>,
    /// The captioner with its architecture.
    pub captioner: Option<(Captioner<B>, CaptionerConfig)>,
}

const CONFIG: &str = "captioner.json";
const WEIGHTS: &str = "captioner.safetensors";

impl<B: Backend> Clips<B> {
    /// Loads a model as [`Pretrained::load`] does, and the captioner that lies in its directory, if one does.
    ///
    /// # Errors
    ///
    /// Those of [`Pretrained::load`]; when the captioner's files are damaged or do not fit the towers.
    pub fn load(model: &str, options: &LoadOptions, device: &Device<B>) -> Result<Self> {
        let encoders = Pretrained::load(model, options, device)?;
        Self::with_captioner_of(encoders, model, device)
    }

    /// Adds the captioner that lies in the directory of a loaded model, if one does.
    ///
    /// # Errors
    ///
    /// When its files are damaged or do not fit the towers.
    pub fn with_captioner_of(
        encoders: Pretrained<B>,
        model: &str,
        device: &Device<B>,
    ) -> Result<Self> {
        if ModelConfig::preset_names().any(|name| name == model) {
            return Ok(Self {
                encoders,
                captioner: None,
            });
        }
        let folder = clip::local_directory(model)?;
        let path = folder.join(CONFIG);
        if !path.is_file() {
            return Ok(Self {
                encoders,
                captioner: None,
            });
        }
        let format = |problem: String| clip::Error::Format {
            path: path.clone(),
            problem,
        };
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| clip::Error::Io {
            path: path.clone(),
            source,
        })?;
        let config: CaptionerConfig =
            serde_json::from_str(&text).map_err(|error| format(error.to_string()))?;
        config.check().map_err(format)?;
        let fits = widths(&encoders)?;
        if fits != [config.image_width, config.text_width, config.vocab_size] {
            return Err(format(format!(
                "the captioner was made for an image width, a text width and a vocabulary of {}, {} and {}, and the towers \
                 beside it have {fits:?}",
                config.image_width, config.text_width, config.vocab_size
            ))
            .into());
        }
        let file = folder.join(WEIGHTS);
        let captioner = apply(
            config.init(&mut Init::Zeros, device),
            read_state_dict(&file)?,
            &file,
            device,
        )?;
        Ok(Self {
            encoders,
            captioner: Some((captioner, config)),
        })
    }

    /// Captions of images. `web` are the captions that the captioner reads beside the images, one for each; an empty one where
    /// there is none. Image `i` draws from `seed + i`.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, 3, height, width]`, preprocessed
    ///
    /// # Errors
    ///
    /// When the model has no captioner, a text cannot be read, or the captioner computes nonsense.
    ///
    /// # Panics
    ///
    /// Panics if there is not one web caption per image.
    pub fn captions(
        &self,
        images: Tensor<B, 4>,
        web: &[String],
        sampling: Sampling,
        seed: u64,
    ) -> Result<Vec<String>> {
        sampling.check()?;
        let reading = self.read(images, web)?;
        let tokenizer = &self.encoders.tokenizer;
        let seeds: Vec<u64> = (0..web.len() as u64)
            .map(|image| seed.wrapping_add(image))
            .collect();
        let tokens =
            reading
                .captioner
                .generate(reading.prefix, reading.limits, sampling, &seeds)?;
        Ok(tokens
            .iter()
            .map(|ids| tokenizer.decode(ids).trim().to_string())
            .collect())
    }

    /// How many tokens of given captions the captioner predicts right, each at its place, and how many there are. A captioner
    /// that reads previous tokens gets the right ones.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, 3, height, width]`, preprocessed
    ///
    /// # Errors
    ///
    /// As [`captions`](Self::captions).
    ///
    /// # Panics
    ///
    /// Panics if there is not one web caption and one caption per image.
    pub fn token_hits(
        &self,
        images: Tensor<B, 4>,
        web: &[String],
        captions: &[String],
    ) -> Result<[usize; 2]> {
        assert_eq!(web.len(), captions.len(), "a caption for each image");
        let Reading {
            captioner,
            prefix,
            limits,
        } = self.read(images, web)?;
        let device = prefix.device();
        let queries = captioner.queries();
        let targets = captions
            .iter()
            .map(|caption| target(&self.encoders.tokenizer, caption, queries));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let count = targets.iter().map(Vec::len).max().unwrap_or(0);
        let previous = previous(&targets, limits.start, count);
        let previous =
            Tensor::from_data(TensorData::new(previous, [targets.len(), count]), &device);
        let logits = captioner.forward(prefix, count, Some(previous));
        let known = logits.dims()[2].min(limits.vocab_size);
        let best = logits
            .narrow(2, 0, known)
            .argmax(2)
            .into_data()
            .convert::<i32>();
        let best = best.as_slice::<i32>().expect("converted to i32");
        let mut hits = [0, 0];
        for (target, best) in targets.iter().zip(best.chunks_exact(count.max(1))) {
            hits[0] += target
                .iter()
                .zip(best)
                .filter(|(right, best)| right == best)
                .count();
            hits[1] += target.len();
        }
        Ok(hits)
    }

    /// What the captioner reads of images and the captions beside them.
    fn read(&self, images: Tensor<B, 4>, web: &[String]) -> Result<Reading<'_, B>> {
        let captioner = self.captioner.as_ref();
        let (captioner, _) = captioner.ok_or(Error::NoCaptioner)?;
        let (clip, tokenizer) = (&self.encoders.model, &self.encoders.tokenizer);
        let frame = tokenizer
            .frame_ids()
            .ok_or_else(|| Error::Config(NO_FRAME.into()))?;
        let device = images.device();
        assert_eq!(images.dims()[0], web.len(), "a web caption for each image");
        let patches = clip.visual.raw_patch_tokens(clip.visual.tokens(images));
        let ids = tokenizer.batch(web)?.to_tensor(&device);
        let words = read_tokens(&clip.text, clip.text.tokens(ids));
        Ok(Reading {
            captioner,
            prefix: captioner.prefix(patches, words),
            limits: Limits {
                start: frame.start,
                end: frame.end,
                vocab_size: tokenizer.vocab_size(),
            },
        })
    }
}

struct Reading<'a, B: Backend> {
    captioner: &'a Captioner<B>,
    prefix: Tensor<B, 3>,
    limits: Limits,
}

impl<B: Backend> Trained for Clips<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        self.encoders.write_into(dir)?;
        let (json, weights) = (dir.join(CONFIG), dir.join(WEIGHTS));
        let Some((captioner, config)) = &self.captioner else {
            for stale in [json, weights] {
                match std::fs::remove_file(&stale) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
            return Ok(());
        };
        write_safetensors(&weights, &collect(captioner))?;
        let text = serde_json::to_string_pretty(config)? + "\n";
        Ok(write_whole(&json, text.as_bytes())?)
    }

    fn stored(&self, path: &str) -> Option<Stored> {
        if let Some(tensor) = path.strip_prefix("captioner.") {
            return Some(Stored {
                file: WEIGHTS.into(),
                tensor: tensor.into(),
            });
        }
        let (file, tensor) = self.encoders.exported_name(path);
        Some(Stored { file, tensor })
    }
}

impl<B: Backend> ImageCaptioner<B> for Clips<B> {
    fn preprocess(&self) -> &Preprocess {
        &self.encoders.preprocess
    }

    /// The most likely words.
    fn captions(&self, images: Tensor<B, 4>, web: &[String]) -> Result<Vec<String>, EvalError> {
        let said = Clips::captions(self, images, web, Sampling::GREEDY, 0);
        said.map_err(|error| EvalError::Encoder(error.to_string()))
    }

    fn token_hits(
        &self,
        images: Tensor<B, 4>,
        web: &[String],
        captions: &[String],
    ) -> Result<[usize; 2], EvalError> {
        let hits = Clips::token_hits(self, images, web, captions);
        hits.map_err(|error| EvalError::Encoder(error.to_string()))
    }
}

impl<B: Backend> TextEncoder<B> for Clips<B> {
    fn embed_dim(&self) -> usize {
        TextEncoder::<B>::embed_dim(&self.encoders)
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>, EvalError> {
        self.encoders.text_embeddings(texts)
    }

    fn identity(&self) -> Result<Option<String>, EvalError> {
        self.encoders.identity()
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        self.encoders.truncated(texts)
    }
}

impl<B: Backend> DualEncoder<B> for Clips<B> {
    fn preprocess(&self) -> &Preprocess {
        &self.encoders.preprocess
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.encoders.image_embeddings(images)
    }

    fn scale(&self) -> Option<f32> {
        DualEncoder::<B>::scale(&self.encoders)
    }
}
