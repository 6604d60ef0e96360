use super::*;
use sha2::{Digest, Sha256};

fn sha256(lines: impl Iterator<Item = String>) -> String {
    let text = lines.collect::<Vec<_>>().join("\n");
    Sha256::digest(text)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[test]
fn packaged_imagenet_names_and_templates_are_the_published_ones() {
    let names = packaged_names_of(FALLBACK, "en").unwrap();
    assert_eq!(
        sha256(names.iter().map(|c| c.main().to_owned())),
        "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"
    );
    assert_eq!(
        (names[657].main(), names[836].main()),
        (names[744].main(), names[837].main())
    );
    let eighty = Templates::named("openai80").unwrap().into_list();
    assert_eq!(
        sha256(eighty.iter().cloned()),
        "c078f4d4ced9e360a3050ace0c5abd7bed09693bceb3ed0c7a39aba61a668c5c"
    );
    assert_eq!(
        sha256(eighty.iter().map(|t| t.replace("{c}", "{}"))),
        "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    );
}

#[test]
fn the_seven_templates_are_those_of_laclip() {
    let seven = Templates::named("laclip7")
        .unwrap()
        .prompts(&"cat".into())
        .unwrap();
    assert_eq!(
        seven,
        [
            "itap of a cat.",
            "a bad photo of the cat.",
            "a origami cat.",
            "a photo of the large cat.",
            "a cat in a video game.",
            "art of the cat.",
            "a photo of the small cat.",
        ]
    );
}

#[test]
fn every_language_has_a_thousand_names_and_imagenet_subsets_have_their_size() {
    for language in LANGUAGES {
        assert_eq!(
            packaged_names_of(FALLBACK, language).unwrap().len(),
            1000,
            "{language}"
        );
    }
    let all = imagenet_wnids("imagenet1k").unwrap();
    assert!(all.len() == 1000 && all.is_sorted());
    for subset in ["imagenet-a", "imagenet-r", "imagenet-o"] {
        let wnids = imagenet_wnids(subset).unwrap();
        assert!(wnids.len() == 200 && wnids.iter().all(|w| all.contains(w)));
    }
}

#[test]
fn sets_with_imagenets_classes_have_its_names_in_every_language() {
    let names = |dataset, language| packaged_names_of(dataset, language).unwrap();
    assert_eq!(names("imagenet_sketch", "en"), names("imagenet1k", "en"));
    assert_eq!(names("imagenetv2", "it").len(), 1000);
    let a = names("imagenet-a", "en");
    assert_eq!(
        (a.len(), a[0].main(), a[199].main()),
        (200, "stingray", "acorn")
    );
    assert_eq!(names("wds/imagenet-r", "jp").len(), 200);
    assert_eq!(packaged_names_of("unknown", "en"), None);
}

#[test]
fn lookup_goes_from_the_users_file_to_the_data_set_to_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("names.json");
    std::fs::write(&path, r#"{"mine": [["cat", "kitten"], "dog"]}"#).unwrap();
    let own = [ClassName::from("x")];
    let sources = PromptSources {
        own_classes: Some(&own),
        ..Default::default()
    };
    let found = Prompts::find("wds/mnist", "en", &sources).unwrap();
    assert_eq!(found.classes[0].main(), "x");
    assert_eq!(
        found.templates.prompts(&"3".into()).unwrap(),
        [r#"a photo of the number: "3"."#]
    );
    let sources = PromptSources {
        class_file: Some(&path),
        ..sources
    };
    let found = Prompts::find("wds/mine", "en", &sources).unwrap();
    assert_eq!(found.classes[0].all(), ["cat", "kitten"]);
    // No templates of its own: those of ImageNet, times two synonyms.
    assert_eq!(
        found.templates.prompts(&found.classes[0]).unwrap().len(),
        160
    );
    let error = Prompts::find("unknown", "en", &PromptSources::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("classnames"), "{error}");
    assert!(Prompts::find("imagenet1k", "zh", &PromptSources::default()).is_err());
}

#[test]
fn template_files_may_be_lines_lists_or_prompts_by_class() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("templates");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Templates::load(path.to_str().unwrap(), "mine")
    };
    let cat = ClassName::from("cat");
    for text in [
        "a {}.\n\nthe {c}.\n",
        r#"["a {}.", "the {c}."]"#,
        r#"{"mine": ["a {c}.", "the {c}."]}"#,
    ] {
        assert_eq!(
            load(text).unwrap().prompts(&cat).unwrap(),
            ["a cat.", "the cat."],
            "{text}"
        );
    }
    let by_class = load(r#"{"cat": ["it purrs", "it meows"]}"#).unwrap();
    assert_eq!(by_class.prompts(&cat).unwrap(), ["it purrs", "it meows"]);
    assert!(by_class.prompts(&"dog".into()).is_err());
    assert!(
        load("no place for a name")
            .unwrap_err()
            .to_string()
            .contains("{c}")
    );
}

#[test]
fn the_templates_of_clips_are_the_eighty_and_the_bare_name_all_canonical() {
    let names = [
        "Crane (bird)".into(),
        "great_white shark, white shark".into(),
    ];
    let sources = PromptSources {
        own_classes: Some(&names),
        templates: Some("clips81"),
        ..PromptSources::default()
    };
    let prompts = Prompts::find("x", "en", &sources).unwrap();
    assert_eq!(prompts.classes[0].all(), ["crane bird"]);
    assert_eq!(
        prompts.classes[1].all(),
        ["great white shark", "white shark"]
    );
    let texts = prompts.templates.prompts(&prompts.classes[0]).unwrap();
    assert_eq!(texts.len(), 81);
    assert_eq!(
        (texts[0].as_str(), texts[80].as_str()),
        ("a bad photo of a crane bird", "crane bird")
    );
    let plain = |c: char| c.is_ascii_lowercase() || c == ' ' || c.is_ascii_digit();
    assert!(texts.iter().all(|t| t.chars().all(plain)), "{texts:?}");
}
