//! LaCLIP's recipes: they say what the release does, and stop at the data that is not there.

use crate::command::Folder;
use burn::backend::{Autodiff, Flex};
use clip_burn::clip::{ModelConfig, Precision};
use clip_burn::laclip::Options;
use clip_burn::train::parameters::groups::Groups;
use clip_burn::train::parameters::parameters;
use clip_burn::train::{DataTable, ModelTable, Recipe, SourceConfig};
use std::path::{Path, PathBuf};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../laclip/recipes")
        .join(name)
}

#[test]
fn recipes_of_the_papers_data_sets_are_complete() {
    for (name, model, pairs) in [
        ("cc3m_vit_b_16", "CLIP_VITB16", 4096),
        ("cc12m_vit_b_16", "CLIP_VITB16", 8192),
        ("redcaps_vit_b_16", "CLIP_VITB16", 8192),
        ("laion400m_vit_b_32", "ViT-B-32", 32_768),
    ] {
        let mut recipe = Recipe::load(&recipe(&format!("{name}.toml")), &[]).unwrap();
        let method: Options = recipe.section().unwrap();
        assert_eq!((method.rewrites, method.multi_text), (4, None));
        assert_eq!(recipe.section::<ModelTable>().unwrap().name, model);
        let data: DataTable = recipe.section().unwrap();
        assert_eq!(data.loader.batch_size * recipe.run.accumulate, pairs);
        if let SourceConfig::Csv(csv) = &data.sources[0] {
            let style = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
            let data_set = name.split('_').next().unwrap();
            let expected =
                ["chatgpt", "bard", "mscoco", "human"].map(|s| format!("{data_set}_{s}"));
            assert_eq!(csv.rewrites.iter().map(style).collect::<Vec<_>>(), expected);
        }
    }
}

/// As many as the release's rule decays in its CLIP_VITB16, whose class token is a matrix.
#[test]
fn weight_decay_falls_on_the_tensors_of_the_release() {
    let mut config = ModelConfig::preset("CLIP_VITB16").unwrap();
    (config.vision_cfg.width, config.vision_cfg.head_width) = (8, 4);
    (config.text_cfg.width, config.text_cfg.vocab_size) = (8, 100);
    let model = config.init::<Autodiff<Flex>>(0, Precision::F32, &Default::default());
    let recipe = Recipe::load(&recipe("cc12m_vit_b_16.toml"), &[]).unwrap();
    let groups = Groups::new(&recipe.groups, parameters(&model)).unwrap();
    let decayed = groups.0.iter().filter(|rule| rule.decay).count();
    assert_eq!((decayed, groups.0.len() - decayed), (103, 246));
}

/// The model is a small one, for the message comes after it is made.
#[test]
fn a_missing_table_is_named() {
    let folder = Folder::new();
    let path = recipe("cc3m_vit_b_16.toml").display().to_string();
    let out = format!("run.out={}", folder.path("out").display());
    let arguments = ["--recipe", &path, "--set", "model.name=tiny", "--set", &out];
    folder
        .run("train", &arguments.map(String::from))
        .refused(&["cc3m_original.csv", "No such file"]);
}
