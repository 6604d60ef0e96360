//! CLIP_benchmark's collections of data sets, and where each set lies below one root.

use std::path::{Path, PathBuf};

use super::named::Named;

/// Data sets that are scored together.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// Its name.
    pub name: &'static str,
    /// Names of its sets.
    pub sets: &'static [&'static str],
}

/// The collections, in the order and by the names of CLIP_benchmark.
pub const COLLECTIONS: [Collection; 4] = [
    Collection {
        name: "vtab",
        sets: &[
            "vtab/caltech101",
            "vtab/cifar100",
            "vtab/clevr_count_all",
            "vtab/clevr_closest_object_distance",
            "vtab/diabetic_retinopathy",
            "vtab/dmlab",
            "vtab/dsprites_label_orientation",
            "vtab/dsprites_label_x_position",
            "vtab/dtd",
            "vtab/eurosat",
            "vtab/kitti_closest_vehicle_distance",
            "vtab/flowers",
            "vtab/pets",
            "vtab/pcam",
            "vtab/resisc45",
            "vtab/smallnorb_label_azimuth",
            "vtab/smallnorb_label_elevation",
            "sun397",
            "vtab/svhn",
        ],
    },
    Collection {
        name: "vtab+",
        sets: &[
            "imagenet1k",
            "imagenetv2",
            "imagenet_sketch",
            "imagenet-a",
            "imagenet-r",
            "objectnet",
            "fer2013",
            "voc2007",
            "voc2007_multilabel",
            "sun397",
            "cars",
            "fgvc_aircraft",
            "mnist",
            "stl10",
            "gtsrb",
            "country211",
            "renderedsst2",
            "vtab/caltech101",
            "vtab/cifar10",
            "vtab/cifar100",
            "vtab/clevr_count_all",
            "vtab/clevr_closest_object_distance",
            "vtab/diabetic_retinopathy",
            "vtab/dmlab",
            "vtab/dsprites_label_orientation",
            "vtab/dsprites_label_x_position",
            "vtab/dtd",
            "vtab/eurosat",
            "vtab/kitti_closest_vehicle_distance",
            "vtab/flowers",
            "vtab/pets",
            "vtab/pcam",
            "vtab/resisc45",
            "vtab/smallnorb_label_azimuth",
            "vtab/smallnorb_label_elevation",
            "vtab/svhn",
        ],
    },
    Collection {
        name: "imagenet_robustness",
        sets: &[
            "imagenetv2",
            "imagenet_sketch",
            "imagenet-a",
            "imagenet-r",
            "objectnet",
        ],
    },
    Collection {
        name: SUGAR_CREPE,
        sets: &[
            "sugar_crepe/add_att",
            "sugar_crepe/add_obj",
            "sugar_crepe/replace_att",
            "sugar_crepe/replace_obj",
            "sugar_crepe/replace_rel",
            "sugar_crepe/swap_att",
            "sugar_crepe/swap_obj",
        ],
    },
];

/// Sets that are read from a folder of their name by a reader of that name.
const BY_FOLDER: [&str; 6] = [
    "imagenet1k",
    "imagenetv2",
    "imagenet_sketch",
    "imagenet-a",
    "imagenet-r",
    "objectnet",
];

/// The collection whose sets are choices among captions, not among classes.
pub const SUGAR_CREPE: &str = "sugar_crepe";

/// Where a set of a collection is, and as what it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name for [`classification`](super::classification).
    pub dataset: String,
    /// The root for it.
    pub root: PathBuf,
}

impl Collection {
    /// The collection of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        COLLECTIONS
            .iter()
            .find(|collection| collection.name == name)
    }

    /// Sets on disk below `root`, and for each of the others a sentence on what must be where.
    pub fn below(&self, root: &Path) -> (Vec<Place>, Vec<String>) {
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for set in self.sets {
            match locate(set, root) {
                Some(place) => there.push(place),
                None => absent.push(format!("{set}: {}", belongs(set, root))),
            }
        }
        (there, absent)
    }
}

/// A set by its webdataset, else as it is published.
fn locate(set: &str, root: &Path) -> Option<Place> {
    let webdataset = root.join(webdataset_folder(set));
    if webdataset.is_dir() {
        return Some(Place {
            dataset: format!("wds/{set}"),
            root: webdataset,
        });
    }
    let place = |root: PathBuf| Place {
        dataset: set.into(),
        root,
    };
    if let Some(task) = set.strip_prefix("sugar_crepe/") {
        let folder = root.join(SUGAR_CREPE);
        return folder
            .join(format!("{task}.json"))
            .is_file()
            .then(|| place(folder));
    }
    if let Some(named) = Named::find(set) {
        return root.join(named.folder).is_dir().then(|| place(root.into()));
    }
    let folder = root.join(set);
    (BY_FOLDER.contains(&set) && folder.is_dir()).then(|| place(folder))
}

/// Where a set must lie to be found.
fn belongs(set: &str, root: &Path) -> String {
    let below = |folder: &str| root.join(folder).display().to_string();
    if let Some(task) = set.strip_prefix("sugar_crepe/") {
        let json = below(&format!("{SUGAR_CREPE}/{task}.json"));
        return format!(
            "{json}, and COCO's images in {}",
            below("sugar_crepe/val2017")
        );
    }
    let webdataset = format!("its webdataset in {}", below(&webdataset_folder(set)));
    match Named::find(set) {
        Some(named) => format!(
            "{} in {}, or {webdataset}",
            named.holds,
            below(named.folder)
        ),
        None if BY_FOLDER.contains(&set) => {
            format!("its folders of images in {}, or {webdataset}", below(set))
        }
        None => webdataset,
    }
}

/// The name of a set's repository among CLIP_benchmark's webdatasets.
fn webdataset_folder(set: &str) -> String {
    format!("wds_{}", set.replace('/', "-"))
}

/// Shell commands by which a set is got, from inside the root; `None` for a name that is not known.
pub fn fetch(set: &str) -> Option<Vec<String>> {
    if let Some(named) = Named::find(set) {
        return Some(named.fetch.iter().map(|line| line.to_string()).collect());
    }
    if !COLLECTIONS
        .iter()
        .any(|collection| collection.sets.contains(&set))
    {
        return None;
    }
    if let Some(task) = set.strip_prefix("sugar_crepe/") {
        return Some(vec![
            "mkdir -p sugar_crepe".into(),
            format!(
                "curl -L -o sugar_crepe/{task}.json https://raw.githubusercontent.com/RAIVNLab/sugar-crepe/main/data/{task}.json"
            ),
            "[ -d sugar_crepe/val2017 ] || { curl -L -o val2017.zip http://images.cocodataset.org/zips/val2017.zip && \
             unzip -d sugar_crepe val2017.zip; }"
                .into(),
        ]);
    }
    let folder = webdataset_folder(set);
    Some(vec![format!(
        "huggingface-cli download --repo-type dataset clip-benchmark/{folder} --local-dir {folder}"
    )])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::create_dir_all;

    #[test]
    fn sets_are_found_as_webdatasets_and_as_published_and_the_others_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in [
            "wds_vtab-flowers",
            "flowers-102",
            "cifar-10-batches-bin",
            "imagenet-a",
            "sun397",
        ] {
            create_dir_all(root.join(folder)).unwrap();
        }
        let (there, absent) = Collection::find("vtab+").unwrap().below(root);
        let place = |dataset: &str, folder: &str| Place {
            dataset: dataset.into(),
            root: root.join(folder),
        };
        let expected = [
            place("imagenet-a", "imagenet-a"),
            place("vtab/cifar10", ""),
            place("wds/vtab/flowers", "wds_vtab-flowers"),
        ];
        assert_eq!(there, expected);
        assert_eq!(absent.len(), 36 - 3);
        let said = absent.join("\n");
        for word in [
            "wds_sun397",
            "MNIST/raw",
            "t10k-images-idx3-ubyte",
            "wds_vtab-dtd",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        let crepe = Collection::find("sugar_crepe").unwrap();
        assert_eq!(crepe.below(root).1.len(), 7);
        create_dir_all(root.join("sugar_crepe")).unwrap();
        std::fs::write(root.join("sugar_crepe/swap_obj.json"), "{}").unwrap();
        assert_eq!(
            crepe.below(root).0,
            [place("sugar_crepe/swap_obj", "sugar_crepe")]
        );
        assert!(Collection::find("vtab-").is_none());
    }

    #[test]
    fn every_set_says_how_it_is_got() {
        for set in COLLECTIONS.iter().flat_map(|collection| collection.sets) {
            assert!(!fetch(set).unwrap().is_empty(), "{set}");
        }
        assert!(fetch("food101").unwrap()[0].contains("food-101.tar.gz"));
        assert!(fetch("vtab/dtd").unwrap()[0].contains("clip-benchmark/wds_vtab-dtd"));
        assert_eq!(fetch("nonsense"), None);
    }
}
