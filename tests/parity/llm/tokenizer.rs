//! Ids of texts of many kinds.

use super::path;
use clip_burn::llm::Tokenizer;
use serde_json::Value;

fn texts_match(tokenizer: &Tokenizer, file: &str) {
    let text = std::fs::read_to_string(path("tokenizer").join(file)).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() > 200);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = row["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect();
        let got = tokenizer.encode(text).unwrap();
        assert_eq!(got, ids, "{text:?}");
        assert_eq!(
            tokenizer.decode(&got),
            row["decoded"].as_str().unwrap(),
            "{text:?}"
        );
    }
}

#[test]
fn a_sentence_piece_model_gives_the_ids_of_sentence_piece() {
    let tokenizer = Tokenizer::from_sentence_piece(&path("tokenizer.model")).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), &[2][..]));
    assert_eq!(tokenizer.vocab_size(), 420);
    texts_match(&tokenizer, "sentence_piece.json");
}

#[test]
fn a_tokenizer_json_gives_the_ids_of_the_python_library() {
    let tokenizer = Tokenizer::from_directory(&path("tokenizer"), None).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), &[1][..]));
    texts_match(&tokenizer, "byte_level.json");
}
