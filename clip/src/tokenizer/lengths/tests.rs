use super::*;
use serde_json::json;

#[test]
fn an_id_of_billions_is_not_written() {
    let json = |id: u32| {
        format!(
            r#"{{"version": "1.0", "model": {{"type": "WordLevel", "vocab": {{"a": {id}}}, "unk_token": "a"}}}}"#
        )
    };
    let check = |id| check_ids(&tokenizers::Tokenizer::from_bytes(json(id)).unwrap());
    assert_eq!(check(7), Ok(()));
    assert!(check(u32::MAX).unwrap_err().contains("4294967295"));
}

#[test]
fn tokens_of_one_id_are_not_written() {
    let json = |id: u32| json!({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 7, "b": id}, "unk_token": "a"}});
    let check = |id| check_ids(&tokenizers::Tokenizer::from_bytes(json(id).to_string()).unwrap());
    assert_eq!(check(8), Ok(()));
    assert_eq!(check(7), Err("`a` and `b` have the same id 7".into()));
}

#[test]
fn a_map_that_says_it_is_longer_than_it_is_is_refused() {
    let json = |map: &str| {
        format!(
            r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{{"type": "Precompiled", "precompiled_charsmap": "{map}"}}]}}}}"#
        )
    };
    // The lengths 4 and 2³² - 1, then four bytes.
    assert_eq!(check_lengths(&json("BAAAAAAAAAA=")), Ok(()));
    let message = check_lengths(&json("/////wAAAAA=")).unwrap_err();
    assert!(message.contains("4294967295"), "{message}");
    assert!(check_lengths(&json("AA==")).is_err());
    // Whoever reads a part twice would take the second.
    let twice =
        json("BAAAAAAAAAA=").replace(r#"{"normalizer""#, r#"{"normalizer": null, "normalizer""#);
    let message = check_lengths(&twice).unwrap_err();
    assert!(
        message.contains("duplicate field `normalizer`"),
        "{message}"
    );
    assert!(check_lengths("no JSON").is_err());
}

fn refused(json: Value, words: &[&str]) {
    let message = check_lengths(&json.to_string()).unwrap_err();
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

fn accepted(json: Value) {
    assert_eq!(check_lengths(&json.to_string()), Ok(()));
}

#[test]
fn replacements_that_make_a_text_a_thousand_times_as_long_are_refused() {
    let replace =
        |old: Value, new: &str| json!({"type": "Replace", "pattern": old, "content": new});
    let gemma = replace(json!({"String": " "}), "▁");
    let double = replace(json!({"Regex": "a"}), "a");
    let sequence = |one: &Value, times: usize| json!({"normalizer": {"type": "Sequence", "normalizers": vec![one; times]}});
    accepted(sequence(&gemma, 6));
    refused(sequence(&gemma, 7), &["2187 times", "1000"]);
    accepted(sequence(&double, 9));
    refused(sequence(&double, 30), &["1073741824 times"]);
    let shorter = replace(json!({"String": "``"}), "\"");
    accepted(sequence(&shorter, 64));
    refused(sequence(&shorter, 65), &["65 normalizers", "64"]);
    let split = json!({"type": "FixedLength", "length": 2});
    let splits = json!({"type": "Sequence", "pretokenizers": vec![split; 259]});
    refused(
        json!({"pre_tokenizer": splits}),
        &["259 pre-tokenizers", "64"],
    );
    refused(
        json!({"decoder": vec![double; 30]}),
        &["decoders", "1073741824 times"],
    );
    refused(
        json!({"pre_tokenizer": vec![json!({"type": "ByteLevel"}); 20]}),
        &["pre-tokenizers", "1048576 times"],
    );
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    accepted(json!({"normalizer": [prepend, gemma]}));
}

#[test]
fn a_pattern_has_an_end() {
    for kind in ["String", "Regex"] {
        let split = |length| json!({"type": "Split", "pattern": {kind: "x".repeat(length)}, "behavior": "Removed"});
        let sequence = |length| json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(length)]}});
        accepted(sequence(4096));
        refused(sequence(4097), &["pre-tokenizers", "4097 bytes", "4096"]);
    }
}

#[test]
fn a_template_names_the_text_once() {
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let end = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
    let template = |single: &[&Value]| json!({"type": "TemplateProcessing", "single": single, "pair": [text, text]});
    accepted(json!({"post_processor": template(&[&text, &end])}));
    let inside = json!({"type": "Sequence", "processors": [template(&[&text, &end, &text])]});
    refused(
        json!({"post_processor": inside}),
        &["names the text 2 times"],
    );
}

#[test]
fn words_and_added_tokens_have_an_end() {
    let word = |most: u64| json!({"model": {"type": "WordPiece", "max_input_chars_per_word": most, "vocab": {}}});
    accepted(word(100));
    refused(word(1 << 40), &["1099511627776", "256"]);
    let added = |length: usize| json!({"added_tokens": [{"id": 0, "content": "[PAD]"}, {"id": 1, "content": "x".repeat(length)}]});
    accepted(added(256));
    refused(added(257), &["`xxxxxxxxxxxxxxxxxxxx..`", "257 bytes"]);
    let pieces = |length: usize| json!({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["x".repeat(length), -1.0]]}});
    accepted(pieces(256));
    refused(pieces(70_000), &["piece", "70000 bytes"]);
    let words = json!({"model": {"type": "BPE", "vocab": {("x".repeat(70_000)): 0}}});
    accepted(words);
}

#[test]
fn an_added_token_is_listed_once_or_alike() {
    let added = |first: Value, second: Value| json!({"added_tokens": [first, {"id": 1, "content": "[UNK]"}, second]});
    let token =
        |id: u32, normalized: bool| json!({"id": id, "content": "[PAD]", "normalized": normalized});
    accepted(added(token(0, false), token(0, false)));
    let listed = ["`[PAD]`", "listed twice"];
    refused(added(token(0, false), token(0, true)), &listed);
    refused(added(token(0, false), token(2, false)), &listed);
}

/// Of ninety tokens, each differs from all others by its first letter only, and the rest of it is the last of them.
#[test]
fn the_longest_added_tokens_that_are_allowed_are_read_soon() {
    let added: Vec<Value> = (0..90u8)
        .map(|i| {
            let first = char::from(if i == 89 { b'~' } else { b'!' + i });
            let content = format!("{first}{}", "~".repeat(MAX_TOKEN - 1));
            json!({"id": i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let vocab: serde_json::Map<String, Value> = added
        .iter()
        .map(|token| {
            (
                token["content"].as_str().unwrap().into(),
                token["id"].clone(),
            )
        })
        .collect();
    let json = json!({"version": "1.0", "added_tokens": added, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "!"}});
    let json = json.to_string();
    assert_eq!(check_lengths(&json), Ok(()));
    let begin = std::time::Instant::now();
    tokenizers::Tokenizer::from_bytes(&json).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    println!("{seconds:.3} s"); // with four times the length, sixteen times as long
    assert!(seconds < 10.0, "{seconds}");
}

#[test]
fn whatever_makes_a_text_longer_again_and_again_is_refused() {
    let many = |part: &str, one: Value, times: usize| json!({part: {"type": "Sequence", "all": vec![one; times]}});
    let meta =
        json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true});
    accepted(many("pre_tokenizer", meta.clone(), 9));
    refused(
        many("pre_tokenizer", meta, 40),
        &["pre-tokenizers", "1099511627776 times"],
    );
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    refused(many("pre_tokenizer", bytes, 7), &["2187 times"]);
    let suffix = |suffix: &str| json!({"type": "BPEDecoder", "suffix": suffix});
    accepted(many("decoder", suffix("</w>"), 30));
    refused(many("decoder", suffix(""), 7), &["decoders", "2187 times"]);
    let ctc =
        json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "", "cleanup": true});
    refused(many("decoder", ctc, 7), &["decoders", "2187 times"]);
    // A map of `bb`.
    let map = json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABiYgA="});
    accepted(many("normalizer", map.clone(), 9));
    refused(
        many("normalizer", map, 10),
        &["normalizers", "1024 times", "1000"],
    );
}

#[test]
fn a_replacement_is_known_without_its_type() {
    let nameless = json!({"pattern": {"String": "a"}, "content": "aa"});
    let normalizers =
        json!({"normalizer": {"type": "Sequence", "normalizers": vec![nameless; 30]}});
    let whole = json!({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
                       "normalizer": normalizers["normalizer"]});
    assert!(tokenizers::Tokenizer::from_bytes(whole.to_string()).is_ok());
    refused(normalizers, &["1073741824 times"]);
}

#[test]
fn a_text_has_few_special_tokens_around_it() {
    let template = |pieces: usize, ids: usize| {
        let mut single = vec![json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}}); pieces];
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        json!({"type": "TemplateProcessing", "single": single, "pair": [],
               "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": vec![1; ids], "tokens": vec!["[SEP]"; ids]}}})
    };
    accepted(json!({"post_processor": template(4, 4)}));
    refused(
        json!({"post_processor": template(2000, 2000)}),
        &["4000000 tokens", "16"],
    );
    let bert = json!({"type": "BertProcessing", "sep": ["[SEP]", 1], "cls": ["[CLS]", 2]});
    let sequence = |times: usize| json!({"post_processor": {"type": "Sequence", "processors": vec![bert.clone(); times]}});
    accepted(sequence(8));
    refused(sequence(9), &["18 tokens"]);
}

#[test]
fn what_stands_around_the_parts_of_a_word_is_short() {
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let affix = |length: usize| json!({"model": {"type": "BPE", "vocab": {}, (field): "#".repeat(length)}});
        accepted(affix(32));
        refused(affix(1 << 20), &[field, "1048576 bytes", "32"]);
    }
}

#[test]
fn an_added_token_is_short_when_it_is_normalized_too() {
    let whole = |pattern: &str, normalized: bool| {
        json!({
            "normalizer": {"type": "Replace", "pattern": {"String": pattern}, "content": "a".repeat(900)},
            "added_tokens": [{"id": 0, "content": "<pad>", "normalized": normalized}],
        })
    };
    // `a` becomes 900 bytes.
    refused(whole("a", true), &["`<pad>..`", "904 bytes"]);
    accepted(whole("a", false));
    accepted(whole("b", true));
}

/// What is refused above does what is said of it, in the crate that is protected from it.
#[test]
fn parts_one_after_the_other_multiply_a_text() {
    let meta = |letter: &str| json!({"type": "Metaspace", "replacement": letter, "prepend_scheme": "always", "split": true});
    let parts: Vec<Value> = (0..20).map(|place| meta(["_", "-"][place % 2])).collect();
    let blank = json!({"type": "BPEDecoder", "suffix": ""});
    let whole = json!({
        "version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
        "decoder": {"type": "Sequence", "decoders": vec![blank; 12]},
    });
    let tokenizer = tokenizers::Tokenizer::from_bytes(whole.to_string()).unwrap();
    let encoding = tokenizer.encode_fast("ab", false).unwrap();
    assert!(encoding.len() > 5000, "{}", encoding.len());
    let text = tokenizer.decode(&[0, 0], false).unwrap();
    assert!(text.len() > 4000, "{}", text.len());
}
