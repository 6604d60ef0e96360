use super::*;

#[test]
fn a_saved_table_is_read_back_from_the_mapped_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.safetensors");
    let images = Features::new(vec![3.0, 4.0, 0.0, 0.0, 1.0, -1.0], 2).unwrap();
    let texts = Features::new(vec![1.0, 2.0], 2).unwrap();
    save(&path, &[(IMAGE_FEATURES, &images), (TEXT_FEATURES, &texts)]).unwrap();
    let read = Features::open(&path, IMAGE_FEATURES).unwrap();
    assert_eq!(read.to_vec(), images.to_vec());
    let mut row = [0.0; 2];
    read.copy_unit_row(0, &mut row);
    assert_eq!(row, [0.6, 0.8]);
    read.copy_unit_row(1, &mut row);
    assert_eq!(row, [0.0, 0.0]);
}

#[test]
fn errors_name_the_file_and_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.safetensors");
    let table = Features::new(vec![1.0, 2.0], 2).unwrap();
    save(&path, &[("a", &table), ("b", &table)]).unwrap();
    let message = Features::open(&path, IMAGE_FEATURES)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("f.safetensors") && message.contains("a, b"),
        "{message}"
    );
    save(&path, &[(TEXT_FEATURES, &table)]).unwrap();
    assert!(
        Features::open(&path, IMAGE_FEATURES).is_err(),
        "texts in the place of images"
    );
    save(&path, &[("embeddings", &table)]).unwrap();
    assert!(Features::open(&path, IMAGE_FEATURES).is_ok());
    std::fs::write(&path, b"no tensors here").unwrap();
    assert!(
        Features::open(&path, "a")
            .unwrap_err()
            .to_string()
            .contains("safetensors")
    );
}

#[test]
fn a_nan_is_found() {
    let table = Features::new(vec![1.0, 2.0, f32::NAN, 0.0], 2).unwrap();
    assert!(
        table
            .check_finite("image")
            .unwrap_err()
            .to_string()
            .contains("image 1")
    );
}
