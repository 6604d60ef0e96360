//! What a model is, in a few letters: results and caches of different models must not be taken for each other.

use burn::module::{Module, ModuleVisitor, Param};
use burn::prelude::*;
use clip::Pretrained;
use clip::checkpoint::ParamPath;
use sha2::{Digest, Sha256};

use crate::error::{EvalError, Result};

/// Texts whose ids tell tokenizers apart: case, punctuation, accents, entities, other scripts, and a cut.
const PROBES: [&str; 4] = [
    "A Photo of a CAT, it's 2 o'clock!",
    "naïve &amp; 漢字 кот 🐈",
    "don't-stop_me.now \"quoted\"",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
     eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four twenty-five twenty-six twenty-seven \
     twenty-eight twenty-nine thirty thirty-one thirty-two thirty-three thirty-four thirty-five thirty-six",
];

/// A digest of all that an embedding depends on but the backend and its precision: the weights as they are in memory
/// (wherever they were loaded from), the architecture with its activations and norms, the preprocessing, and the
/// tokenizer by what it makes of some texts. Reads all weights once.
pub fn identity<B: Backend>(clip: &Pretrained<B>) -> Result<String> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| EvalError::Encoder(format!("cannot describe the model: {error}")))
    };
    let mut hash = Parts(Sha256::new());
    hash.add(json(serde_json::to_string(&clip.config))?.as_bytes());
    hash.add(json(serde_json::to_string(clip.preprocess.config()))?.as_bytes());
    hash.add(&clip.tokenizer.context_length().to_le_bytes());
    for text in PROBES {
        let ids = clip.tokenizer.encode(text);
        let ids = ids.map_err(|error| EvalError::Encoder(error.to_string()))?;
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        hash.add(&bytes);
    }
    let mut weights = Weights {
        path: ParamPath::default(),
        hash,
    };
    clip.model.visit(&mut weights);
    Ok(weights.hash.finish())
}

/// The first sixteen hexadecimal digits of a SHA-256 over parts that cannot run into each other.
pub(crate) struct Parts(pub Sha256);

impl Parts {
    pub fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    pub fn finish(self) -> String {
        let digest = self.0.finalize();
        digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

struct Weights {
    path: ParamPath,
    hash: Parts,
}

impl<B: Backend> ModuleVisitor<B> for Weights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let data = param.val().into_data().convert::<f32>();
        self.hash.add(self.path.join().as_bytes());
        self.hash.add(format!("{:?}", data.shape).as_bytes());
        self.hash.add(data.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use clip::LoadOptions;

    #[test]
    fn weights_activation_and_preprocessing_make_another_model_and_the_place_does_not() {
        let device = Default::default();
        let load = |seed| {
            let options = LoadOptions {
                seed,
                ..LoadOptions::default()
            };
            Pretrained::<Flex>::load("tiny", &options, &device).unwrap()
        };
        let first = load(0);
        let known = identity(&first).unwrap();
        assert_eq!(known.len(), 16);
        assert_ne!(known, identity(&load(1)).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("saved");
        first.save(&saved).unwrap();
        let again =
            Pretrained::<Flex>::load(saved.to_str().unwrap(), &LoadOptions::default(), &device);
        let mut again = again.unwrap();
        assert_eq!(identity(&again).unwrap(), known);
        again.config.quick_gelu = !again.config.quick_gelu;
        assert_ne!(identity(&again).unwrap(), known);
        again.config.quick_gelu = !again.config.quick_gelu;
        again.tokenizer = again.tokenizer.with_context_length(9).unwrap();
        assert_ne!(identity(&again).unwrap(), known);
    }
}
