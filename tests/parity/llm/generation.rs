//! Continuations of ragged batches.

use super::{Fixture, VARIANTS, load, path};
use burn::backend::Flex;
use burn::prelude::*;
use burn_ndarray::NdArray;
use clip_burn::llm::sampling::nucleus;
use clip_burn::llm::{End, GenerateOptions, Sampling, generate};
use serde_json::Value;

fn never(_: &[u32]) -> bool {
    false
}

fn options<'a>(max_gen_len: usize) -> GenerateOptions<'a> {
    GenerateOptions {
        sampling: Sampling::GREEDY,
        max_gen_len,
        max_seq_len: 200,
        eos: &[],
        stop: &never,
    }
}

fn greedy_continuations_match<B: Backend>() {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let model = load::<B>(name).model;
        let device = Default::default();
        let prompts = fixture.prompts();
        let together = generate(&model, &prompts, &options(64), &device).unwrap();
        for (i, row) in together.iter().enumerate() {
            assert_eq!(
                row.ids,
                fixture.list(&format!("greedy.{i}")),
                "{name}, row {i}"
            );
            assert_eq!(row.end, End::Length);
            let alone = &prompts[i..=i];
            assert_eq!(
                generate(&model, alone, &options(64), &device).unwrap()[0],
                *row
            );
        }
    }
}

#[test]
fn greedy_continuations_of_64_tokens_match_transformers_on_flex() {
    greedy_continuations_match::<Flex>();
}

#[test]
fn greedy_continuations_of_64_tokens_match_transformers_on_ndarray() {
    greedy_continuations_match::<NdArray>();
}

#[cfg(feature = "tch")]
#[test]
fn greedy_continuations_of_64_tokens_match_transformers_on_tch() {
    clip_burn::backend::register_kernels();
    greedy_continuations_match::<burn_tch::LibTorch>();
}

#[test]
fn a_sampled_row_does_not_depend_on_its_neighbours() {
    let fixture = Fixture::read("llama3");
    let model = load::<Flex>("llama3").model;
    let device = Default::default();
    let mut options = options(40);
    options.sampling = Sampling {
        temperature: 0.9,
        top_p: 0.95,
    };
    let mut prompts = fixture.prompts();
    for (seed, prompt) in (10..).zip(&mut prompts) {
        prompt.seed = seed;
    }
    let together = generate(&model, &prompts, &options, &device).unwrap();
    for (prompt, row) in prompts.iter().zip(&together) {
        let alone = generate(&model, std::slice::from_ref(prompt), &options, &device).unwrap();
        assert_eq!(alone[0], *row);
    }
    prompts[0].seed = 99;
    let other = generate(&model, &prompts, &options, &device).unwrap();
    assert_ne!(other[0], together[0]);
    assert_eq!(other[1..], together[1..]);
}

#[test]
fn rows_end_at_eos_at_a_stop_and_at_either_length() {
    let fixture = Fixture::read("llama2");
    let model = load::<Flex>("llama2").model;
    let device = Default::default();
    let prompts = fixture.prompts();
    let full: Vec<Vec<u32>> = (0..4)
        .map(|i| fixture.list(&format!("greedy.{i}")))
        .collect();
    let first = |row: &[u32], id: u32| row.iter().position(|x| *x == id);

    let eos = [full[1][5]];
    let mut with_eos = options(64);
    with_eos.eos = &eos;
    for (row, full) in generate(&model, &prompts, &with_eos, &device)
        .unwrap()
        .iter()
        .zip(&full)
    {
        let end = first(full, eos[0]).unwrap_or(64);
        assert_eq!(row.ids, full[..end], "the end itself is left out");
        assert_eq!(row.end, if end < 64 { End::Eos } else { End::Length });
    }

    let wanted = full[2][3];
    let stop = move |ids: &[u32]| ids.contains(&wanted);
    let mut with_stop = options(64);
    with_stop.stop = &stop;
    for (row, full) in generate(&model, &prompts, &with_stop, &device)
        .unwrap()
        .iter()
        .zip(&full)
    {
        let end = first(full, wanted).map_or(64, |at| at + 1);
        assert_eq!(row.ids, full[..end], "the stop itself is kept");
    }

    let mut short = options(64);
    short.max_seq_len = 9;
    let lengths: Vec<usize> = generate(&model, &prompts, &short, &device)
        .unwrap()
        .iter()
        .map(|row| row.ids.len())
        .collect();
    assert_eq!(lengths, [6, 0, 8, 3], "prompts of 3, 9, 1 and 6 tokens");
}

#[test]
fn top_p_keeps_what_llamas_rule_keeps() {
    let text = std::fs::read_to_string(path("top_p.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    for case in cases {
        let list = |name: &str| case[name].as_array().unwrap().iter();
        let logits: Vec<f64> = list("logits").map(|x| x.as_f64().unwrap()).collect();
        let kept: Vec<u32> = list("kept").map(|x| x.as_u64().unwrap() as u32).collect();
        let (temperature, top_p) = (&case["temperature"], case["top_p"].as_f64().unwrap());
        let weights: Vec<f32> = logits
            .iter()
            .map(|logit| (logit / temperature.as_f64().unwrap()).exp() as f32)
            .collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let got = nucleus(&weights, top_p * total);
        assert_eq!(got.len(), kept.len(), "top_p {top_p}");
        for (got, kept) in got.iter().zip(&kept) {
            // Equal logits may come in either order.
            assert_eq!(logits[*got as usize], logits[*kept as usize]);
        }
    }
}
