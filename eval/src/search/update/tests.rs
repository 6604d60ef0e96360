use super::*;
use crate::features::Features;
use serde_json::Value;
use std::fs;
use std::time::{Duration, SystemTime};

fn model(name: &str, identity: Option<&str>) -> IndexModel {
    IndexModel {
        name: name.into(),
        identity: identity.map(Into::into),
        options: Value::Null,
    }
}

/// A folder of image files, which are never decoded here, and an index of them.
struct Photos(tempfile::TempDir);

impl Photos {
    fn new(files: &[&str]) -> Self {
        let photos = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|name| photos.put(name, name));
        photos
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn plan(&self, names: &[&str], index: Option<&Index>) -> Update {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        Update::plan(&paths, index).unwrap()
    }

    /// Brings the index to these images; a new row is `[1, value]` of unit length. Images in `unread` are as if damaged.
    fn update(&self, names: &[&str], value: f32, unread: &[&str]) -> Changes {
        let path = self.path("index");
        let old = path.exists().then(|| Index::open(&path).unwrap());
        let update = self.plan(names, old.as_ref());
        let changes = update.changes();
        let images = update.to_embed();
        let is_read = |i: &usize| !unread.iter().any(|name| images[*i].name().ends_with(name));
        let kept: Vec<usize> = (0..images.len()).filter(is_read).collect();
        let rows = kept.iter().flat_map(|_| [1.0, value]).collect();
        let embedded = ImageFeatures {
            features: Features::new(rows, 2).unwrap(),
            kept,
            bad: Vec::new(),
        };
        let written = update.write(old.as_ref(), &embedded, model("m", None), 10.0, &path);
        assert_eq!(written.unwrap(), self.rows().len());
        changes
    }

    /// File name and value of every row.
    fn rows(&self) -> Vec<(String, f32)> {
        let index = Index::open(&self.path("index")).unwrap();
        let rows = (0..index.len()).map(|row| {
            let mut values = [0.0; 2];
            index.features().copy_row(row, &mut values);
            let name = index.image(row).unwrap();
            let name = name.file_name().unwrap().to_string_lossy().into_owned();
            (name, (values[1] / values[0] * 1000.0).round() / 1000.0)
        });
        rows.collect()
    }
}

fn changes(came: usize, went: usize, changed: usize) -> Changes {
    Changes {
        came,
        went,
        changed,
    }
}

fn named(rows: &[(&str, f32)]) -> Vec<(String, f32)> {
    rows.iter()
        .map(|(name, v)| (name.to_string(), *v))
        .collect()
}

#[test]
fn only_what_came_or_changed_is_embedded_and_what_went_is_gone() {
    let photos = Photos::new(&["a", "b", "c"]);
    assert_eq!(photos.update(&["a", "b", "c"], 1.0, &[]), changes(3, 0, 0));
    assert!(
        photos
            .plan(
                &["c", "a", "b"],
                Some(&Index::open(&photos.path("index")).unwrap())
            )
            .changes()
            .is_empty()
    );

    photos.put("b", "longer than before");
    photos.put("aa", "new");
    assert_eq!(photos.update(&["a", "aa", "b"], 2.0, &[]), changes(1, 1, 1));
    assert_eq!(photos.rows(), named(&[("a", 1.0), ("aa", 2.0), ("b", 2.0)]));
}

#[test]
fn a_file_of_the_same_size_and_another_time_has_changed() {
    let photos = Photos::new(&["a", "b"]);
    photos.update(&["a", "b"], 1.0, &[]);
    let file = fs::File::options()
        .write(true)
        .open(photos.path("a"))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(9))
        .unwrap();
    assert_eq!(photos.update(&["a", "b"], 2.0, &[]), changes(0, 0, 1));
    assert_eq!(photos.rows(), named(&[("a", 2.0), ("b", 1.0)]));
}

#[test]
fn an_image_that_cannot_be_read_has_no_row_and_is_tried_again() {
    let photos = Photos::new(&["a", "b", "c"]);
    photos.update(&["a", "b", "c"], 1.0, &["b"]);
    assert_eq!(photos.rows(), named(&[("a", 1.0), ("c", 1.0)]));
    // One that was in the index and is damaged now goes.
    photos.put("a", "damaged");
    assert_eq!(
        photos.update(&["a", "b", "c"], 2.0, &["a"]),
        changes(1, 0, 1)
    );
    assert_eq!(photos.rows(), named(&[("b", 2.0), ("c", 1.0)]));
    // One that is not there cannot be asked for its state.
    assert_eq!(
        photos.update(&["gone", "c"], 3.0, &["gone"]),
        changes(1, 1, 0)
    );
    assert_eq!(photos.rows(), named(&[("c", 1.0)]));
}

#[test]
fn a_file_counts_once_however_it_is_named() {
    let photos = Photos::new(&["a", "b"]);
    assert_eq!(
        photos.update(&["a", "./a", "b"], 1.0, &[]),
        changes(2, 0, 0)
    );
    fs::create_dir(photos.path("folder")).unwrap();
    assert_eq!(
        photos.update(&["./b", "folder/..//a"], 2.0, &[]),
        changes(0, 0, 0)
    );
    assert_eq!(photos.rows(), named(&[("b", 1.0), ("a", 1.0)]));
}

#[test]
fn a_part_keeps_all_old_rows_and_takes_the_first_new_ones() {
    let photos = Photos::new(&["a", "b", "c", "d"]);
    photos.update(&["b", "d"], 1.0, &[]);
    let index = Index::open(&photos.path("index")).unwrap();
    let update = photos.plan(&["a", "b", "c", "d"], Some(&index));
    let part = update.first(1).unwrap();
    let names = |update: &Update| {
        update
            .to_embed()
            .iter()
            .map(ImageRef::name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&part), [photos.path("a").display().to_string()]);
    assert_eq!(part.images.len(), 3);
    assert!(update.first(2).is_none() && update.first(3).is_none());
    assert_eq!(names(&update).len(), 2);
}

#[test]
fn another_model_is_refused_by_name() {
    let photos = Photos::new(&["a"]);
    photos.update(&["a"], 1.0, &[]);
    let path = photos.path("index");
    let index = Index::open(&path).unwrap();
    index.check_model(&model("m", None)).unwrap();
    index.check_model(&model("m", Some("12"))).unwrap();
    let refused = index.check_model(&model("other", Some("12"))).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("model m,") && said.contains("for other;"),
        "{said}"
    );

    // Where both are known, what a model is decides, and not what it is called.
    let embedded = ImageFeatures {
        features: Features::new(vec![], 2).unwrap(),
        kept: vec![],
        bad: vec![],
    };
    let update = photos.plan(&["a"], Some(&index));
    update
        .write(Some(&index), &embedded, model("m", Some("12")), 1.0, &path)
        .unwrap();
    let index = Index::open(&path).unwrap();
    index.check_model(&model("moved/m", Some("12"))).unwrap();
    let said = index
        .check_model(&model("m", Some("34")))
        .unwrap_err()
        .to_string();
    assert!(said.contains("(34, not 12)"), "{said}");

    let wide = ImageFeatures {
        features: Features::new(vec![1.0; 3], 3).unwrap(),
        kept: vec![0],
        bad: vec![],
    };
    let update = photos.plan(&["a"], Some(&index));
    let refused = update.write(Some(&index), &wide, model("m", None), 1.0, &path);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("2 numbers, the model's 3"), "{said}");
}

#[test]
fn embeddings_without_the_state_of_their_images_are_searched_and_not_updated() {
    let photos = Photos::new(&["a"]);
    let path = photos.path("index");
    let features = Features::new(vec![0.0, 1.0, 1.0, 0.0], 2).unwrap();
    crate::features::save(&path, &[("image_features", &features)]).unwrap();
    let index = Index::open(&path).unwrap();
    index.check_model(&model("any", Some("12"))).unwrap();
    let query = Features::new(vec![1.0, 0.0], 2).unwrap();
    assert_eq!(index.search(&query, 1).unwrap()[0][0].row, 1);
    assert_eq!(index.image(1), None);
    let refused = Update::plan(&[photos.path("a")], Some(&index));
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("index: ") && said.contains("another file"),
        "{said}"
    );
}

#[test]
fn damaged_and_foreign_files_are_named_with_a_remedy() {
    let photos = Photos::new(&["a"]);
    photos.update(&["a"], 1.0, &[]);
    let whole = fs::read(photos.path("index")).unwrap();
    let text = String::from_utf8_lossy(&whole).into_owned();
    let list = text.find("[[").unwrap(); // that of the stamps
    let mut other = whole.clone();
    other[list] = b' ';
    for (content, what) in [
        (&b""[..], "not a safetensors file"),
        (b"<html>", "not a safetensors file"),
        (&whole[..whole.len() - 3], "not a safetensors file"),
        (&other, "`image_stamps` of the metadata"),
    ] {
        fs::write(photos.path("bad"), content).unwrap();
        let said = Index::open(&photos.path("bad")).unwrap_err().to_string();
        for word in ["bad: ", what, "search build"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    assert!(
        Index::open(&photos.path("none"))
            .unwrap_err()
            .to_string()
            .contains("none")
    );
}
