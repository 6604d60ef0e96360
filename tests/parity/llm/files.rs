//! Directories of both layouts, and what is wrong with them.

use super::{Fixture, load, path};
use crate::fixture::{assert_close, host};
use burn::backend::Flex;
use clip_burn::llm::{LoadOptions, Pretrained};
use std::path::Path;

#[test]
fn metas_files_give_the_logits_of_hugging_faces() {
    let fixture = Fixture::read("llama2");
    let expected = host(load::<Flex>("llama2").model.forward(fixture.ids()));
    for name in ["meta", "meta_sharded"] {
        let pretrained = load::<Flex>(name);
        assert_eq!(pretrained.config.vocab_size, 420, "the tokenizer's, for -1");
        assert_eq!(pretrained.config.eos_token_id, [2]);
        let got = host(pretrained.model.forward(fixture.ids()));
        // The same matrices with rows in another order: sums round as before.
        assert_close(name, &got, &expected, 1e-5);
    }
}

#[test]
fn a_directory_that_does_not_fit_is_refused_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let to = folder.path().join(name);
        std::fs::create_dir_all(&to).unwrap();
        for entry in path(name).read_dir().unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    };
    std::fs::copy(
        path("tokenizer.model"),
        folder.path().join("tokenizer.model"),
    )
    .unwrap();
    let refused = |directory: &Path, words: &[&str]| {
        let loaded =
            Pretrained::<Flex>::load(directory, &LoadOptions::default(), &Default::default());
        let message = loaded.map(|_| ()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "no `{word}` in: {message}");
        }
    };
    let edit = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    let llama = copy("llama1");
    let config = llama.join("config.json");
    edit(
        &config,
        "\"num_hidden_layers\": 2",
        "\"num_hidden_layers\": 3",
    );
    refused(
        &llama,
        &["missing (9)", "model.layers.2.mlp.up_proj.weight"],
    );
    edit(
        &config,
        "\"num_hidden_layers\": 3",
        "\"num_hidden_layers\": 1",
    );
    refused(
        &llama,
        &["not in the model (9)", "model.layers.1.mlp.up_proj.weight"],
    );
    edit(
        &config,
        "\"num_hidden_layers\": 1",
        "\"num_hidden_layers\": 2",
    );
    edit(
        &config,
        "\"intermediate_size\": 48",
        "\"intermediate_size\": 64",
    );
    refused(&llama, &["of another shape (6)", "[48, 32]", "[64, 32]"]);
    edit(
        &config,
        "\"intermediate_size\": 64",
        "\"intermediate_size\": 48",
    );
    edit(
        &config,
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
    );
    refused(&llama, &["tie_word_embeddings", "lm_head.weight"]);

    let tied = copy("llama3_tied");
    let config = tied.join("config.json");
    edit(
        &config,
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": false",
    );
    refused(&tied, &["missing (1)", "lm_head.weight"]);

    let shards = copy("llama2");
    std::fs::remove_file(shards.join("model-00002-of-00002.safetensors")).unwrap();
    refused(&shards, &["model-00002-of-00002.safetensors"]);
    let meta = copy("meta_sharded");
    std::fs::remove_file(meta.join("consolidated.00.pth")).unwrap();
    refused(&meta, &["consolidated.00.pth"]);
    std::fs::remove_file(meta.join("consolidated.01.pth")).unwrap();
    refused(&meta, &["consolidated"]);

    refused(&folder.path().join("gone"), &["gone", "no such directory"]);
    refused(&folder.path().join("tokenizer.model"), &["a file"]);
    refused(folder.path(), &["config.json", "params.json"]);
    std::fs::remove_file(folder.path().join("tokenizer.model")).unwrap();
    refused(&copy("linear"), &["no tokenizer"]);
    std::fs::write(folder.path().join("linear/tokenizer.model"), "aGVsbG8= 0\n").unwrap();
    refused(&copy("linear"), &["tokenizer.json"]);
    std::fs::write(folder.path().join("linear/tokenizer.model"), [0xff; 40]).unwrap();
    refused(&copy("linear"), &["SentencePiece"]);
}
