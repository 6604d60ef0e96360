//! Which data sets the command line names, one by one or as collections.

use clap::Args;
use clip_burn::eval::EvalError;
use clip_burn::eval::datasets::collection::{Collection, SUGAR_CREPE};
use clip_burn::eval::datasets::{ClassificationData, Split, classification};
use clip_burn::eval::grid::expand_list;
use std::collections::BTreeSet;
use std::path::Path;

/// Which labelled images.
#[derive(Args, Clone)]
pub struct DataArgs {
    /// imagenet, imagenetv2, imagenet_sketch, imagenet-a, imagenet-r, imagenet-o, objectnet, cifar10, cifar100, stl10, mnist,
    /// food101, flowers, pets, eurosat, folder[/NAME], wds/NAME; vtab, vtab+, imagenet_robustness: all of their sets below --root
    #[arg(long, required = true)]
    dataset: Vec<String>,
    /// Folder of the data set; {dataset} is its name and {dataset_cleaned} its name with - for /
    #[arg(long, alias = "dataset-root")]
    root: String,
    /// Split to score [default: val if it is there, and test for wds]
    #[arg(long)]
    split: Option<String>,
}

impl DataArgs {
    /// Data sets; of a collection those on disk.
    pub fn names(&self) -> Result<Vec<String>, EvalError> {
        let mut names: Vec<String> = Vec::new();
        for name in expand_list(&self.dataset)? {
            let Some(collection) = Collection::find(&name) else {
                names.push(name);
                continue;
            };
            if name == SUGAR_CREPE {
                let reason =
                    "its sets are choices among captions: `eval choice --dataset sugar_crepe`";
                return Err(EvalError::dataset(&name, reason));
            }
            let (there, absent) = collection.below(Path::new(&self.root));
            if there.is_empty() {
                return Err(EvalError::dataset(&name, none_there(&self.root, &absent)));
            }
            names.extend(there.into_iter().map(|place| place.dataset));
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone())); // collections share sets
        Ok(names)
    }

    /// What is missing of the collections, a sentence for each set.
    pub fn absent(&self) -> Vec<String> {
        self.collections()
            .flat_map(|collection| collection.below(Path::new(&self.root)).1)
            .collect()
    }

    fn collections(&self) -> impl Iterator<Item = &'static Collection> {
        let names = expand_list(&self.dataset).unwrap_or_default();
        names.into_iter().filter_map(|name| Collection::find(&name))
    }

    pub fn open(&self, dataset: &str, split: Split) -> Result<ClassificationData, EvalError> {
        let mut places = self
            .collections()
            .flat_map(|collection| collection.below(Path::new(&self.root)).0);
        if let Some(place) = places.find(|place| place.dataset == dataset) {
            return classification(dataset, &place.root, split);
        }
        let short = dataset
            .trim_start_matches("wds/")
            .trim_start_matches("folder/");
        let cleaned = short.replace('/', "-");
        let root = self.root.replace("{dataset_cleaned}", &cleaned);
        classification(dataset, Path::new(&root.replace("{dataset}", short)), split)
    }

    pub fn split(&self, dataset: &str) -> Split<'_> {
        Split::of_dataset(dataset, self.split.as_deref())
    }
}

/// Why a collection cannot be scored.
pub fn none_there(root: &str, absent: &[String]) -> String {
    format!(
        "none of its sets is below {root}; `eval fetch` prints how to get them. What must be where:\n  {}",
        absent.join("\n  ")
    )
}
