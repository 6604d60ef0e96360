//! What must hold of the world as a whole.

use std::collections::HashSet;

use super::*;

fn world() -> Scenes {
    Scenes::new(ScenesConfig::default()).unwrap()
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_first_images_and_captions_never_change() {
    let world = world();
    let (mut pixels, mut letters) = (Vec::new(), String::new());
    for index in 0..10 {
        let sample = world.sample(Split::Train, index);
        pixels.extend(sample.image.into_raw());
        letters += &format!("{:?}", (sample.key, sample.label, sample.captions));
    }
    // A change here is a change of every result that was ever reported on this world.
    assert_eq!(
        (hash(&pixels), hash(letters.as_bytes())),
        (2_991_404_702_433_625_966, 12_830_183_129_883_019_934)
    );
}

#[test]
fn samples_do_not_depend_on_the_order_of_access() {
    let forward: Vec<_> = (0..20).map(|i| world().sample(Split::Test, i)).collect();
    let world = world();
    for index in (0..20).rev() {
        assert_eq!(world.sample(Split::Test, index), forward[index]);
        assert_eq!(world.image(Split::Test, index), forward[index].image);
        assert_eq!(world.captions(Split::Test, index), forward[index].captions);
    }
}

#[test]
fn splits_and_seeds_have_their_own_images() {
    let other = Scenes::new(ScenesConfig {
        seed: 1,
        ..Default::default()
    })
    .unwrap();
    let (train, test) = (0..1000).fold((HashSet::new(), HashSet::new()), |(mut a, mut b), i| {
        a.insert(format!("{:?}", world().scene(Split::Train, i)));
        b.insert(format!("{:?}", world().scene(Split::Test, i)));
        (a, b)
    });
    assert!(train.is_disjoint(&test));
    assert_ne!(world().scene(Split::Train, 0), other.scene(Split::Train, 0));
}

#[test]
fn the_same_scene_is_drawn_at_every_size() {
    let small = world().image(Split::Train, 3);
    let large = Scenes::new(ScenesConfig {
        image_size: 128,
        ..Default::default()
    })
    .unwrap();
    let large = image::imageops::thumbnail(&large.image(Split::Train, 3), 64, 64);
    let difference: u64 = small
        .as_raw()
        .iter()
        .zip(large.as_raw())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    assert!(
        difference / (64 * 64 * 3) < 12,
        "{}",
        difference / (64 * 64 * 3)
    );
}

/// How well a reader who understands every word could retrieve.
#[test]
fn five_captions_identify_an_image_among_500() {
    let world = world();
    let scenes: Vec<_> = (0..500).map(|i| world.scene(Split::Test, i)).collect();
    let (mut one, mut five) = (0.0, 0);
    for index in 0..500 {
        let statements = world.captions(Split::Test, index).test_statements;
        for statement in &statements {
            let fitting = scenes.iter().filter(|scene| statement.holds(scene)).count();
            one += 1.0 / fitting as f64 / 2500.0;
        }
        let fitting = scenes
            .iter()
            .filter(|s| statements.iter().all(|st| st.holds(s)))
            .count();
        five += usize::from(fitting == 1);
    }
    println!("ceiling of text-to-image R@1: {one:.4}; identified by five captions: {five} of 500");
    assert!(one > 0.9, "{one}");
    assert!(five >= 490, "{five}");
}

#[test]
fn hardly_any_two_test_scenes_have_the_same_full_description() {
    let mut distinct = 0;
    for seed in 0..5 {
        let world = Scenes::new(ScenesConfig {
            seed,
            ..Default::default()
        })
        .unwrap();
        let describe = |i| {
            let scene = world.scene(Split::Test, i);
            let told = |o: &Object| (o.shape, o.colour, o.size, o.texture, o.position);
            let mut objects: Vec<_> = scene.objects.iter().map(told).collect();
            objects.sort_unstable();
            (scene.background, objects)
        };
        distinct += (0..1000).map(describe).collect::<HashSet<_>>().len();
    }
    println!("{distinct} of 5 x 1000 descriptions are distinct");
    assert!(distinct >= 4990);
}

/// `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p clip-burn-data scenes -- --ignored --nocapture`
#[test]
#[ignore = "measures; writes a picture and texts into the temporary folder"]
fn measure_and_show() {
    for image_size in [64, 224] {
        let world = Scenes::new(ScenesConfig {
            image_size,
            ..Default::default()
        })
        .unwrap();
        let time = |what: &str, n: usize, make: &dyn Fn(usize) -> usize| {
            let start = std::time::Instant::now();
            let total: usize = (0..n).map(make).sum();
            let rate = n as f64 / start.elapsed().as_secs_f64();
            println!("{what} at {image_size}: {rate:.0}/s ({total})");
        };
        time("images", 3000, &|i| {
            world.image(Split::Train, i).as_raw()[0].into()
        });
        time("captions", 3000, &|i| {
            world.captions(Split::Train, i).web.len()
        });
        time("samples", 3000, &|i| world.sample(Split::Train, i).label);
    }
    let folder = std::env::temp_dir();
    contact_sheet(&world(), Split::Train, 15, 5)
        .save(folder.join("scenes_sheet.png"))
        .unwrap();
    let four = (0..2000).filter(|i| world().scene(Split::Train, *i).objects.len() == 4);
    let texts: Vec<_> = four
        .map(|i| world().captions(Split::Train, i).synthetic)
        .collect();
    std::fs::write(folder.join("scenes_synthetic.txt"), texts.join("\n")).unwrap();
}
