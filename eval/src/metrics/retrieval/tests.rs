use proptest::prelude::*;
use rand::{Rng, SeedableRng, seq::SliceRandom};

use super::*;
use crate::metrics::scores::for_each_row;

fn features(rows: &[[f32; 2]]) -> Features {
    Features::new(rows.concat(), 2).unwrap()
}

fn no_progress(_: u64) {}

/// Rows drawn from few directions, so that exact ties are everywhere.
fn coarse(len: usize, dim: usize, seed: u64) -> Features {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values = (0..len * dim)
        .map(|_| rng.random_range(-1..=1) as f32 + 0.25)
        .collect();
    Features::new(values, dim).unwrap()
}

/// The definition, with a full row of scores and a sort.
fn by_sorting(
    queries: &Features,
    gallery: &Features,
    right: impl Fn(usize) -> Vec<u32>,
    swap: bool,
) -> Vec<Option<usize>> {
    let mut table = vec![vec![0.0f32; gallery.len()]; queries.len()];
    let (rows, columns) = if swap {
        (gallery, queries)
    } else {
        (queries, gallery)
    };
    for_each_row(rows, columns, |row, scores| {
        for (column, &score) in scores.iter().enumerate() {
            let (query, item) = if swap { (column, row) } else { (row, column) };
            table[query][item] = score;
        }
    });
    let position = |(query, scores): (usize, &Vec<f32>)| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap());
        let right = right(query);
        order
            .iter()
            .position(|&item| right.contains(&(item as u32)))
    };
    table.iter().enumerate().map(position).collect()
}

#[test]
fn ranks_by_hand() {
    let images = features(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
    // Text 0 points at its image 0. Text 1 belongs to image 2 but points at image 1. Text 2 belongs to image 2.
    let texts = features(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]);
    let matches = Matches::of_owners(&[0, 2, 2], 3).unwrap();
    let ranks = rank(&texts, &images, &matches, &no_progress).unwrap();
    let positions: Vec<_> = ranks
        .texts
        .iter()
        .map(|r| r.unwrap().position(Ties::Stable))
        .collect();
    assert_eq!(positions, [0, 1, 0]);
    assert_eq!(recall_at(&ranks.texts, 1, Ties::Stable), Some(2.0 / 3.0));
    assert_eq!(mean_rank(&ranks.texts, Ties::Stable), Some(4.0 / 3.0));
    assert_eq!(median_rank(&ranks.texts, Ties::Stable), Some(1));
    // Image 1 has no text: it is a distractor and no query.
    assert_eq!(ranks.images[1], None);
    // Image 2 owns texts 1 and 2; any one of them in the top k is a hit.
    assert_eq!(ranks.images[2].unwrap().position(Ties::Stable), 0);
    assert_eq!(recall_at(&ranks.images, 1, Ties::Stable), Some(1.0));
}

#[test]
fn an_exact_tie_goes_to_the_lower_index() {
    let images = features(&[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]);
    let texts = features(&[[1.0, 0.0]]);
    for (owner, stable) in [(0, 0), (1, 1), (2, 2)] {
        let matches = Matches::of_owners(&[owner], 3).unwrap();
        let rank = rank(&texts, &images, &matches, &no_progress).unwrap().texts[0].unwrap();
        assert_eq!(rank.position(Ties::Stable), stable);
        assert_eq!(rank.position(Ties::Optimistic), 0);
        assert_eq!(rank.position(Ties::Pessimistic), 2);
    }
}

#[test]
fn right_items_that_tie_with_each_other_are_no_tie() {
    let images = features(&[[1.0, 0.0]]);
    let texts = features(&[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]);
    let matches = Matches::new(4, 1, vec![(2, 0), (3, 0)]).unwrap();
    let ranks = rank(&texts, &images, &matches, &no_progress).unwrap();
    assert_eq!(
        ranks.images[0],
        Some(Rank {
            greater: 0,
            before: 1,
            tied: 1
        })
    );
    assert_eq!(ties(&ranks.images), 1);
}

#[test]
fn ranks_equal_the_sorted_definition_across_tiles_and_chunk_sizes() {
    let (texts, images) = (coarse(1100, 5, 1), coarse(700, 5, 2));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    // Several texts to an image and several images to a text; some of either have none.
    let pairs = (0..1500)
        .map(|_| (rng.random_range(0..1100), rng.random_range(0..700)))
        .collect();
    let matches = Matches::new(1100, 700, pairs).unwrap();
    let ranks = rank(&texts, &images, &matches, &no_progress).unwrap();
    let positions = |ranks: &[Option<Rank>]| {
        ranks
            .iter()
            .map(|r| r.map(|r| r.position(Ties::Stable)))
            .collect::<Vec<_>>()
    };
    let expected = by_sorting(&texts, &images, |t| matches.images_of(t).to_vec(), false);
    assert_eq!(positions(&ranks.texts), expected);
    let expected = by_sorting(&images, &texts, |i| matches.texts_of(i).to_vec(), true);
    assert_eq!(positions(&ranks.images), expected);
    assert!(
        ties(&ranks.texts) > 100,
        "the data must have ties to test anything"
    );
    for group in [1, 7, 1000] {
        let again = rank_in_groups(&texts, &images, &matches, &no_progress, group).unwrap();
        assert_eq!(again, ranks, "{group} tiles at once");
    }
    // A query's rank does not depend on which other queries are ranked with it.
    for chunk in [1usize, 7] {
        for first in [0, 511, 512, 1000] {
            let rows: Vec<usize> = (first..first + chunk).collect();
            let pairs = rows.iter().enumerate().flat_map(|(new, &old)| {
                matches
                    .images_of(old)
                    .iter()
                    .map(move |&image| (new as u32, image))
            });
            let some = Matches::new(chunk, 700, pairs.collect()).unwrap();
            let part = rank(&texts.select(&rows), &images, &some, &no_progress).unwrap();
            assert_eq!(part.texts, ranks.texts[first..first + chunk]);
        }
    }
}

#[test]
fn top_k_is_sorted_and_stable() {
    let images = features(&[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]);
    let best = top_k(&features(&[[1.0, 0.0]]), &images, 3);
    let items: Vec<usize> = best[0].iter().map(|b| b.0).collect();
    assert_eq!(items, [1, 3, 2]);
}

#[test]
fn contradictions_are_errors() {
    let (texts, images) = (coarse(3, 2, 1), coarse(2, 3, 2));
    let matches = Matches::of_owners(&[0, 1, 1], 2).unwrap();
    let message = rank(&texts, &images, &matches, &no_progress)
        .unwrap_err()
        .to_string();
    assert!(message.contains("2 dimensions, images 3"), "{message}");
    let message = rank(&coarse(4, 3, 1), &images, &matches, &no_progress)
        .unwrap_err()
        .to_string();
    assert!(message.contains("4 text rows for 3 texts"), "{message}");
    assert!(Matches::of_owners(&[0, 5], 2).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Without exact ties the order of items means nothing.
    #[test]
    fn permuting_texts_and_images_permutes_the_ranks(seed in 0u64..1000, n in 2usize..40, per in 1usize..4) {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut random = |len: usize| {
            Features::new((0..len * 16).map(|_| rng.random_range(-1.0..1.0)).collect(), 16).unwrap()
        };
        let (texts, images) = (random(n * per), random(n));
        let owners: Vec<usize> = (0..n * per).map(|t| t / per).collect();
        let ranks = rank(&texts, &images, &Matches::of_owners(&owners, n).unwrap(), &no_progress).unwrap();
        let mut new_texts: Vec<usize> = (0..n * per).collect();
        let mut new_images: Vec<usize> = (0..n).collect();
        new_texts.shuffle(&mut rng);
        new_images.shuffle(&mut rng);
        let place_of = |image: usize| new_images.iter().position(|&i| i == image).unwrap();
        let new_owners: Vec<usize> = new_texts.iter().map(|&t| place_of(owners[t])).collect();
        let moved = rank(
            &texts.select(&new_texts),
            &images.select(&new_images),
            &Matches::of_owners(&new_owners, n).unwrap(),
            &no_progress,
        ).unwrap();
        for (new, &old) in new_texts.iter().enumerate() {
            prop_assert_eq!(moved.texts[new], ranks.texts[old]);
        }
        for (new, &old) in new_images.iter().enumerate() {
            prop_assert_eq!(moved.images[new], ranks.images[old]);
        }
    }
}
