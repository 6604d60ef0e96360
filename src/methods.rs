//! The training methods by the name that a recipe's `[method]` gives.

use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use train::{Launch, Outcome, Recipe, Result, TrainError};

/// One line for each method: its name and the module with its `Options` and `train`.
macro_rules! methods {
    ($($name:literal => $($module:ident)::+),* $(,)?) => {
        /// Names of the methods.
        pub const NAMES: &[&str] = &[$($name),*];

        /// Trains as a recipe says and writes the trained model into `model` in the run's folder.
        ///
        /// # Errors
        ///
        /// Those of [`train::run()`], and when the tables of the recipe do not go together.
        pub fn train<B: AutodiffBackend>(
            recipe: Recipe,
            launch: &Launch,
            device: Device<B::InnerBackend>,
        ) -> Result<Outcome<()>> {
            match name(&recipe)? {
                $($name => Ok($($module)::+::train::<B>(recipe, launch, device)?.map(drop)),)*
                other => Err(unknown(other)),
            }
        }

        /// Checks the `[method]` table of a recipe.
        ///
        /// # Errors
        ///
        /// When it names no method, or has fields that the method does not know.
        pub fn check(recipe: &mut Recipe) -> Result<()> {
            match name(recipe)? {
                $($name => recipe.section::<$($module)::+::Options>().map(drop),)*
                other => Err(unknown(other)),
            }
        }
    };
}

methods! {
    "clip" => train::image_text::clip,
    "clips" => clips,
    "laclip" => laclip,
    "llm2clip" => llm2clip,
}

fn name(recipe: &Recipe) -> Result<&str> {
    let name = recipe.method.get("name").and_then(|name| name.as_str());
    name.ok_or_else(|| {
        TrainError::Config(format!(
            "the recipe names no method: give [method] a name, one of {}",
            NAMES.join(", ")
        ))
    })
}

fn unknown(name: &str) -> TrainError {
    let names = NAMES.join(", ");
    TrainError::Config(format!("method.name = \"{name}\" is none of {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use train::image_text::validation::ValidationTable;
    use train::{DataTable, ModelTable};

    #[test]
    fn every_table_of_the_recipes_in_this_repository_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut read = 0;
        for folder in [
            "recipes",
            "clips/recipes",
            "laclip/recipes",
            "llm2clip/recipes",
        ] {
            for entry in root.join(folder).read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|end| end != "toml") {
                    continue;
                }
                if path.to_string_lossy().contains("stage1_") {
                    llm2clip::stage1::Plan::load(&path, &[], &[])
                        .unwrap_or_else(|error| panic!("{error}"));
                    continue;
                }
                let understood = || -> Result<()> {
                    let mut recipe = Recipe::load(&path, &[])?;
                    check(&mut recipe)?;
                    recipe.section::<DataTable>()?;
                    recipe.section::<ValidationTable>()?;
                    let model: ModelTable = recipe.section()?;
                    model.precision()?;
                    // A later stage begins with the model of an earlier one, LLM2CLIP with a released one: not there yet.
                    let file = model.name.ends_with("/model")
                        || model.name.ends_with(".pt")
                        || model.name.starts_with("hf-hub:");
                    assert!(
                        file || clip::ModelConfig::preset(&model.name).is_ok(),
                        "{path:?}"
                    );
                    // What a run leaves beside its model must be a recipe as well.
                    Recipe::parse(&recipe.to_toml())?;
                    Ok(())
                };
                understood().unwrap_or_else(|error| panic!("{error}"));
                read += 1;
            }
        }
        assert!(read >= 4, "{read} recipes");
    }

    #[test]
    fn an_unknown_method_is_refused_with_those_there_are() {
        let recipe = |method: &str| Recipe::parse(&format!("[run]\nsteps = 1\n{method}")).unwrap();
        let message = check(&mut recipe("[method]\nname = \"clop\"")).unwrap_err();
        assert!(
            message
                .to_string()
                .contains("clip, clips, laclip, llm2clip"),
            "{message}"
        );
        let message = check(&mut recipe("")).unwrap_err();
        assert!(message.to_string().contains("[method]"), "{message}");
    }
}
