use super::*;
use crate::error::BoxError;
use crate::trainer::task::Stored;
use burn::tensor::TensorData;
fn snapshot(step: u64, accuracy: f64) -> Saved {
    let tensor = |x: f32| TensorData::new(vec![x; 6], [2, 3]);
    Saved {
        weights: [("a".to_string(), tensor(step as f32))].into(),
        optimizer: [("exp_avg.a".to_string(), tensor(0.5))].into(),
        state: State {
            progress: Progress {
                step,
                metrics: [("accuracy".to_string(), accuracy)].into(),
                ..Default::default()
            },
            ..Default::default()
        },
        ..Default::default()
    }
}

fn save(checkpoints: &Checkpoints, step: u64, accuracy: f64) -> PathBuf {
    checkpoints
        .save(&snapshot(step, accuracy), &(), "")
        .unwrap()
}

fn new(root: &Path) -> Checkpoints {
    let config = CheckpointConfig {
        keep: 2,
        best: Some("accuracy".into()),
        ..Default::default()
    };
    Checkpoints::new(root, config)
}

#[test]
fn what_was_saved_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let dir = save(&checkpoints, 7, 0.5);
    assert_eq!(Saved::read(&dir).unwrap(), snapshot(7, 0.5));
}

#[test]
fn the_last_ones_and_the_best_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    for (step, accuracy) in [(1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3), (10, 0.4)] {
        save(&checkpoints, step, accuracy);
    }
    let steps: Vec<_> = checkpoints
        .all()
        .iter()
        .filter_map(|d| step_of(d))
        .collect();
    assert_eq!(steps, [2, 4, 10]);
}

#[test]
fn a_truncated_checkpoint_is_passed_over_for_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let good = save(&checkpoints, 1, 0.0);
    let bad = save(&checkpoints, 2, 0.0);
    let weights = bad.join("weights.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
    let (latest, damaged) = checkpoints.latest().unwrap().unwrap();
    assert_eq!(latest, good);
    assert_eq!(damaged[0].0, bad);
    assert!(
        damaged[0].1.contains("weights.safetensors"),
        "{}",
        damaged[0].1
    );
    let wanted = Start::Checkpoint(bad);
    let message = checkpoints.find(&wanted).unwrap_err().to_string();
    assert!(message.contains("step_00000001 instead"), "{message}");
}

#[test]
fn a_single_flipped_bit_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let dir = save(&checkpoints, 1, 0.0);
    let path = dir.join("optimizer.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(
        checkpoints
            .latest()
            .unwrap_err()
            .to_string()
            .contains("SHA-256")
    );
}

#[test]
fn another_model_is_refused_by_parameter() {
    let parameter = |path: &str, shape: &[usize]| crate::parameters::Parameter {
        path: path.into(),
        id: crate::parameters::stable_ids::stable_id(path),
        shape: shape.to_vec(),
        trainable: true,
    };
    let weights = snapshot(1, 0.0).weights;
    assert!(check_weights(&weights, &[parameter("a", &[2, 3])]).is_ok());
    let wrong = check_weights(&weights, &[parameter("a", &[3, 3])]).unwrap_err();
    assert!(wrong.contains("`a`") && wrong.contains("[3, 3]"), "{wrong}");
    let wrong = check_weights(&weights, &[parameter("b", &[2, 3])]).unwrap_err();
    assert!(
        wrong.contains("`b` is missing") && wrong.contains("`a` is not"),
        "{wrong}"
    );
}

#[test]
fn a_failed_export_leaves_nothing_and_touches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let good = save(&checkpoints, 1, 0.0);
    struct Full;
    impl Trained for Full {
        fn write_into(&self, _: &Path) -> Result<(), BoxError> {
            Err("no space left".into())
        }
    }
    let failed = checkpoints.save(&snapshot(2, 0.0), &Full, "");
    assert!(failed.unwrap_err().to_string().contains("no space left"));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    assert!(Saved::read(&good).is_ok());
}

#[test]
fn an_interrupted_writing_is_no_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let part = root.path().join(".step_00000003.part");
    fs::create_dir(&part).unwrap();
    assert!(new(root.path()).latest().unwrap().is_none());
    new(root.path()).clean();
    assert!(!part.exists());
}

#[test]
fn a_checkpoint_that_a_killed_process_had_moved_aside_is_there_again() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let dir = save(&checkpoints, 3, 0.0);
    let old = root.path().join(".step_00000003.old");
    fs::rename(&dir, &old).unwrap();
    fs::create_dir(root.path().join(".step_00000003.part")).unwrap();
    assert!(checkpoints.latest().unwrap().is_none());
    checkpoints.clean();
    assert_eq!(checkpoints.latest().unwrap().unwrap(), (dir, vec![]));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_same_step_written_again() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let dir = save(&checkpoints, 3, 0.0);
    fs::remove_file(dir.join("manifest.json")).unwrap();
    save(&checkpoints, 3, 0.0);
    assert_eq!(checkpoints.latest().unwrap().unwrap(), (dir, vec![]));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

/// Writes the weights `a` of a snapshot of step 1 as `alpha`, as a model of its own.
struct Exported(bool);

impl Trained for Exported {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        let values = match self.0 {
            true => vec![1f32; 6],
            false => vec![1f32; 5],
        };
        let shape = [values.len()];
        let alpha = [("alpha".to_string(), TensorData::new(values, shape))];
        Ok(tensors::write(
            &dir.join("model.safetensors"),
            &alpha.into(),
        )?)
    }
}

#[test]
fn what_the_exported_model_holds_lies_on_the_disk_once() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let mut saved = snapshot(1, 0.0);
    let weights = std::mem::take(&mut saved.weights);
    let stored = Stored {
        file: "model.safetensors".into(),
        tensor: "alpha".into(),
    };
    saved.exported = [("a".to_string(), StoredAs::new(stored, &[2, 3]))].into();
    let dir = checkpoints.save(&saved, &Exported(true), "").unwrap();
    assert!(!dir.join("weights.safetensors").exists());
    assert_eq!(Saved::read(&dir).unwrap().weights, weights);

    saved.state.progress.step = 2;
    let broken = checkpoints.save(&saved, &Exported(false), "");
    let message = broken.unwrap_err().to_string();
    assert!(
        message.contains("`alpha` was not exported in full"),
        "{message}"
    );
    assert_eq!(checkpoints.all(), [dir]);
}

#[test]
fn counters_beyond_any_run_and_devices_in_the_manifest_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let checkpoints = new(root.path());
    let dir = save(&checkpoints, 7, 0.5);
    let path = dir.join(names::STATE);
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("\"samples\": 0", &format!("\"samples\": {}", u64::MAX));
    std::fs::write(&path, text).unwrap();
    let message = Saved::read(&dir).unwrap_err().to_string();
    assert!(
        message.contains("`samples` is 18446744073709551615"),
        "{message}"
    );
    if cfg!(unix) {
        let text = r#"{"/dev/zero": {"bytes": 1, "sha256": ""}}"#;
        std::fs::write(dir.join("manifest.json"), text).unwrap();
        let message = checkpoints.latest().unwrap_err().to_string();
        assert!(message.contains("/dev/zero: this is no file"), "{message}");
    }
}
