//! Numbers of parameters of the published models, without their memory.

use burn::backend::Flex;
use burn::module::{Module, ModuleVisitor, Param};
use burn::prelude::*;
use clip_burn::clip::ModelConfig;
use clip_burn::clip::nn::init::Init;
use clip_burn::clip::preprocess::PreprocessConfig;
use clip_burn::llm2clip::{AdapterConfig, NetworkConfig};

/// Counts without making the parameters.
fn count(module: &impl Module<Flex>) -> usize {
    struct Count(usize);
    impl ModuleVisitor<Flex> for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
            assert!(!param.is_initialized(), "a parameter was made");
            self.0 += param.lazy_shape().num_elements();
        }
    }
    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}

/// Of the tower and of the adapter, for the dimension `embed_dim` and vectors of `width`.
fn sizes(vision: &str, embed_dim: usize, width: usize) -> [usize; 2] {
    let mut config = ModelConfig::preset(vision).unwrap();
    config.embed_dim = embed_dim;
    let config = NetworkConfig {
        vision: config,
        preprocess: PreprocessConfig::default(),
        adapter: AdapterConfig::new(width, embed_dim),
    };
    let network = config.init::<Flex>(&mut Init::Zeros, &Default::default());
    assert_eq!(
        count(&network),
        count(&network.visual) + count(&network.text) + 1
    );
    [count(&network.visual), count(&network.text)]
}

#[test]
fn models_have_as_many_parameters_as_their_files() {
    // The adapters of the 8B, of the 1B, and beside SigLIP 2.
    const ADAPTERS: [usize; 3] = [273_769_728, 69_776_640, 273_245_312];
    assert_eq!(
        sizes("EVA02-L-14-336", 1280, 4096),
        [304_957_632, ADAPTERS[0]]
    );
    assert_eq!(
        sizes("EVA02-L-14-336", 1280, 2048),
        [304_957_632, ADAPTERS[1]]
    );
    assert_eq!(sizes("EVA02-L-14", 1280, 4096)[0], 304_629_952);
    assert_eq!(sizes("EVA02-B-16", 1280, 4096)[0], 86_853_632);
    assert_eq!(sizes("EVA02-B-16", 1152, 4096)[1], ADAPTERS[2]);
    // Whole files of the OpenAI towers, `logit_scale` included.
    for (vision, file) in [
        ("ViT-L-14-336-quickgelu", 578_587_905),
        ("ViT-L-14-quickgelu", 578_260_225),
        ("ViT-B-16-quickgelu", 360_552_193),
    ] {
        assert_eq!(
            sizes(vision, 1280, 4096).iter().sum::<usize>() + 1,
            file,
            "{vision}"
        );
    }
}
