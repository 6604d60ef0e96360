use super::*;
use burn_flex::Flex;
use clip::nn::init::Init;
use llm::Sampling;
use std::collections::BTreeSet;

type T3 = Tensor<Flex, 3>;

fn config(decoder: Decoder) -> CaptionerConfig {
    CaptionerConfig {
        options: CaptionerOptions {
            width: 12,
            layers: 2,
            heads: 3,
            queries: 6,
            decoder,
        },
        image_width: 8,
        text_width: 4,
        vocab_size: 11,
    }
}

fn captioner(decoder: Decoder) -> Captioner<Flex> {
    config(decoder).init(&mut Init::seeded(3), &Default::default())
}

fn wave(shape: [usize; 3], seed: usize) -> T3 {
    let values = (0..shape.iter().product()).map(|i: usize| ((i * 7 + seed * 13) as f32).sin());
    Tensor::from_data(
        TensorData::new(values.collect(), shape),
        &Default::default(),
    )
}

fn prefix(captioner: &Captioner<Flex>) -> T3 {
    captioner.prefix(wave([2, 4, 8], 1), wave([2, 3, 4], 2))
}

fn values(x: T3) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// Section 4.2 of the description of OpenVision's code.
#[test]
fn the_mask_of_two_read_and_three_predicted_tokens() {
    let mask = Captioner::<Flex>::mask(2, 3, &Default::default());
    let allowed: Vec<u8> = mask
        .into_data()
        .iter::<f32>()
        .map(|score| u8::from(score == 0.0))
        .collect();
    let rows: Vec<String> = allowed
        .chunks(5)
        .map(|row| row.iter().map(u8::to_string).collect())
        .collect();
    assert_eq!(rows, ["11000", "11000", "11100", "11110", "11111"]);
}

#[test]
fn a_query_changes_its_own_and_later_logits_only() {
    let captioner = captioner(Decoder::LearnableQueries);
    let prefix = prefix(&captioner);
    let before = captioner.forward(prefix.clone(), 6, None);
    let mut changed = captioner.clone();
    let table = changed.learnable_tokens.as_ref().unwrap().val();
    let bump = Tensor::<Flex, 2>::ones([1, 12], &Default::default());
    changed.learnable_tokens = Some(Param::from_tensor(table.slice_assign([3..4, 0..12], bump)));
    let after = changed.forward(prefix, 6, None);
    let rows =
        |x: &T3, range: std::ops::Range<usize>| values(x.clone().slice([0..2, range, 0..11]));
    assert_eq!(rows(&before, 0..3), rows(&after, 0..3));
    for place in 3..6 {
        assert_ne!(
            rows(&before, place..place + 1),
            rows(&after, place..place + 1),
            "{place}"
        );
    }
}

/// Fewer positions give the same logits for the ones that are left: what training makes use of.
#[test]
fn positions_that_are_left_out_change_nothing() {
    for decoder in [Decoder::LearnableQueries, Decoder::Autoregressive] {
        let captioner = captioner(decoder);
        let prefix = prefix(&captioner);
        let previous = Tensor::<Flex, 2, Int>::from_data(
            [[1, 5, 6, 7, 8, 9], [1, 3, 3, 4, 0, 0]],
            &Default::default(),
        );
        let all = captioner.forward(prefix.clone(), 6, Some(previous.clone()));
        let few = captioner.forward(prefix, 4, Some(previous.narrow(1, 0, 4)));
        let differences = (all.narrow(1, 0, 4) - few).abs().max().into_scalar();
        assert!(differences < 1e-6, "{decoder:?} {differences}");
    }
}

#[test]
fn a_decoder_that_reads_its_own_words_says_the_same_with_and_without_a_cache() {
    let captioner = captioner(Decoder::Autoregressive);
    let prefix = prefix(&captioner);
    let limits = Limits {
        start: 1,
        end: 2,
        vocab_size: 10,
    };
    let said = captioner
        .generate(prefix.clone(), limits, Sampling::GREEDY, &[0, 1])
        .unwrap();
    for (row, said) in said.iter().enumerate() {
        let prefix = prefix.clone().narrow(0, row, 1);
        let mut ids = vec![1];
        while ids.len() <= 6 {
            let previous = Tensor::<Flex, 1, Int>::from_data(ids.as_slice(), &Default::default())
                .unsqueeze::<2>();
            let logits = captioner.forward(prefix.clone(), ids.len(), Some(previous));
            let last = values(logits.narrow(1, ids.len() - 1, 1));
            let best = (0..10)
                .max_by(|a, b| last[*a].total_cmp(&last[*b]))
                .unwrap() as i32;
            if best == 2 {
                break;
            }
            ids.push(best);
        }
        assert_eq!(said, &ids[1..], "row {row}");
    }
}

#[test]
fn captions_end_at_the_end_token_and_have_no_word_beyond_the_vocabulary() {
    let captioner = captioner(Decoder::LearnableQueries);
    let sampling = Sampling {
        temperature: 3.0,
        top_p: 1.0,
    };
    let mut ids = BTreeSet::new();
    let mut lengths = BTreeSet::new();
    let two = prefix(&captioner);
    for seed in 0..200 {
        let limits = Limits {
            start: 1,
            end: 2,
            vocab_size: 9,
        };
        let said = captioner
            .generate(two.clone(), limits, sampling, &[seed, seed + 1000])
            .unwrap();
        lengths.extend(said.iter().map(Vec::len));
        ids.extend(said.into_iter().flatten());
    }
    assert!(
        ids.contains(&8) && !ids.contains(&9) && !ids.contains(&10) && !ids.contains(&2),
        "{ids:?}"
    );
    assert!(lengths.contains(&0) && lengths.contains(&6), "{lengths:?}");
}

/// Section 4.1: without biases in the projections and the head, and with a vocabulary of 32,000.
#[test]
fn decoders_of_the_paper_have_their_numbers_of_parameters() {
    for (width, layers, heads, image_width, text_width, millions) in [
        (384, 12, 6, 384, 384, 33.9),
        (512, 12, 8, 768, 512, 54.9),
        (768, 12, 12, 1024, 768, 111.1),
        (1024, 24, 16, 1280, 1024, 337.6),
    ] {
        let config = CaptionerConfig {
            options: CaptionerOptions {
                width,
                layers,
                heads,
                queries: 128,
                decoder: Decoder::LearnableQueries,
            },
            image_width,
            text_width,
            vocab_size: 32_000,
        };
        let parameters = train::parameters::parameters(
            &config.init::<Flex>(&mut Init::Zeros, &Default::default()),
        );
        let count: usize = parameters
            .iter()
            .map(|p| p.shape.iter().product::<usize>())
            .sum();
        assert_eq!((count as f64 / 1e5).round() / 10.0, millions, "{count}");
    }
}

#[test]
fn a_shape_that_cannot_be_built_is_named() {
    let mut bad = config(Decoder::LearnableQueries);
    bad.options.heads = 5;
    assert!(
        bad.check()
            .unwrap_err()
            .contains("heads = 5 does not divide width = 12")
    );
    bad.options.queries = 0;
    assert!(bad.check().unwrap_err().contains("queries = 0"));
}
