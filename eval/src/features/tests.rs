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

#[test]
fn half_floats_are_decoded_alike_one_by_one_and_many_at_a_time() {
    for dim in [1, 63, 64, 65, 150] {
        let halves = (0..2 * dim).map(|i| f16::from_f32((i as f32 - 70.0) / 7.0));
        let halves: Vec<f16> = halves.collect();
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut out = vec![0.0; 2 * dim];
        decode(&bytes, Dtype::F16, &mut out);
        let one_by_one: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        assert_eq!(out, one_by_one, "{dim}");
    }
}

#[test]
fn rows_of_any_length_are_refused_where_there_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.safetensors");
    let header = format!(
        r#"{{"{IMAGE_FEATURES}":{{"dtype":"F32","shape":[0,{}],"data_offsets":[0,0]}}}}"#,
        usize::MAX
    );
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(&path, bytes).unwrap();
    let message = Features::open(&path, IMAGE_FEATURES)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("f.safetensors") && message.contains("rows of 1 to"),
        "{message}"
    );
}
