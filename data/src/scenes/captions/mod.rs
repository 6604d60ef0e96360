//! The captions of an image, all from one truth.

mod human;
mod phrase;
mod rewrite;
mod synthetic;
mod web;

pub use self::{rewrite::RewriteStyle, web::WebKind};

use super::{Scenes, Split, dice::Purpose, scene::Scene, statement::Statement};

/// Everything that is written about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneCaptions {
    /// The noisy text found beside the image.
    pub web: String,
    /// Whether the web caption is about this image.
    pub web_kind: WebKind,
    /// What the web caption says; `None` for an advert or a file name. Of another image if the kind is
    /// [`WebKind::Wrong`].
    pub web_statement: Option<Statement>,
    /// The web caption in other words, in the order of [`RewriteStyle::ALL`].
    pub rewrites: [String; 4],
    /// A full description, a sentence for each fact.
    pub synthetic: String,
    /// What five people say who look at the image.
    pub test: [String; 5],
    /// What each of the test captions says.
    pub test_statements: [Statement; 5],
}

impl SceneCaptions {
    pub(super) fn write(world: &Scenes, scene: &Scene, split: Split, index: usize) -> Self {
        let dice = |purpose| world.dice(split, index, purpose);
        let found = web::find(world, scene, split, index, &mut dice(Purpose::WebCaption));
        let rewrites = rewrite::all(&found, &mut dice(Purpose::Rewrites));
        let synonyms = world.config().synthetic_synonyms;
        let synthetic = synthetic::describe(scene, synonyms, &mut dice(Purpose::SyntheticCaption));
        let (test_statements, test) = human::five(
            scene,
            world.config().test_synonyms,
            &mut dice(Purpose::TestCaptions),
        );
        Self {
            web_kind: found.kind(),
            web_statement: found.statement().cloned(),
            web: found.text,
            rewrites,
            synthetic,
            test,
            test_statements,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mention, ScenesConfig, scan, vocabulary::Concept};
    use super::*;

    fn world() -> Scenes {
        Scenes::new(ScenesConfig::default()).unwrap()
    }

    /// What a statement says, as the scanner would read it.
    fn facts_of(statement: &Statement) -> Vec<scan::Fact> {
        fn fact<C: Concept>(kind: &'static str, value: Option<C>) -> Option<scan::Fact> {
            value.map(|value| (kind, C::ALL.iter().position(|c| *c == value).unwrap()))
        }
        let mut facts: Vec<_> = statement
            .objects
            .iter()
            .flat_map(|m| {
                [
                    fact("shape", Some(m.shape)),
                    fact("colour", m.colour),
                    fact("size", m.size),
                    fact("texture", m.texture),
                    fact("position", m.position),
                ]
            })
            .chain([fact("background", statement.background)])
            .flatten()
            .collect();
        facts.sort_unstable();
        facts
    }

    #[test]
    fn web_captions_say_what_they_state_and_it_is_true_unless_marked_wrong() {
        let world = world();
        for index in 0..1500 {
            let scene = world.scene(Split::Train, index);
            let captions = world.captions(Split::Train, index);
            let stated = captions
                .web_statement
                .as_ref()
                .map(facts_of)
                .unwrap_or_default();
            assert_eq!(
                scan::sorted_facts(&captions.web),
                stated,
                "{}",
                captions.web
            );
            match captions.web_kind {
                WebKind::About => assert!(captions.web_statement.unwrap().holds(&scene)),
                WebKind::Wrong => assert!(captions.web_statement.is_some()),
                WebKind::Advert | WebKind::FileName => assert!(captions.web_statement.is_none()),
            }
        }
    }

    #[test]
    fn rewrites_say_the_same_as_the_web_caption() {
        let world = world();
        for index in 0..1500 {
            let captions = world.captions(Split::Train, index);
            let facts = scan::sorted_facts(&captions.web);
            for rewrite in &captions.rewrites {
                assert_eq!(
                    scan::sorted_facts(rewrite),
                    facts,
                    "{:?} / {rewrite:?}",
                    captions.web
                );
            }
        }
    }

    #[test]
    fn test_captions_say_what_they_state_and_it_is_true() {
        let world = world();
        for index in 0..500 {
            let scene = world.scene(Split::Test, index);
            let captions = world.captions(Split::Test, index);
            for (text, statement) in captions.test.iter().zip(&captions.test_statements) {
                assert!(statement.holds(&scene), "{text}");
                assert_eq!(scan::sorted_facts(text), facts_of(statement), "{text}");
            }
        }
    }

    #[test]
    fn synthetic_captions_say_everything_and_nothing_else() {
        let world = world();
        for index in 0..500 {
            let scene = world.scene(Split::Train, index);
            let everything = Statement {
                objects: scene.objects.iter().map(Mention::all_of).collect(),
                background: Some(scene.background),
            };
            let mut expected = facts_of(&everything);
            // Each further object's relation names the colour and shape of both objects once more.
            let brief = |m: &Mention| {
                let only = Mention {
                    size: None,
                    texture: None,
                    position: None,
                    ..*m
                };
                facts_of(&Statement {
                    objects: vec![only],
                    background: None,
                })
            };
            for other in &everything.objects[1..] {
                expected.extend(brief(other));
                expected.extend(brief(&everything.objects[0]));
            }
            expected.sort_unstable();
            let text = world.captions(Split::Train, index).synthetic;
            assert_eq!(scan::sorted_facts(&text), expected, "{text}");
        }
    }

    #[test]
    fn no_caption_uses_an_unseen_word() {
        let world = world();
        let unseen: Vec<&str> = scan::all_words()
            .iter()
            .map(|(word, _)| word.unseen)
            .collect();
        for index in 0..500 {
            let captions = world.captions(Split::Train, index);
            let texts = captions
                .rewrites
                .iter()
                .chain(&captions.test)
                .chain([&captions.synthetic, &captions.web]);
            for text in texts {
                let words = format!(" {} ", scan::tokens(text).join(" "));
                let used: Vec<_> = unseen
                    .iter()
                    .filter(|u| words.contains(&format!(" {u} ")))
                    .collect();
                assert!(used.is_empty(), "{text} uses {used:?}");
            }
        }
    }

    #[test]
    fn the_rates_of_the_settings_hold() {
        let config = ScenesConfig {
            wrong_caption: 0.2,
            advert: 0.1,
            file_name: 0.05,
            ..Default::default()
        };
        let world = Scenes::new(config).unwrap();
        let n = 4000;
        let all: Vec<_> = (0..n)
            .map(|i| {
                (
                    world.scene(Split::Train, i),
                    world.captions(Split::Train, i),
                )
            })
            .collect();
        let rate = |kind| all.iter().filter(|(_, c)| c.web_kind == kind).count() as f64 / n as f64;
        for (kind, wanted) in [
            (WebKind::Wrong, 0.2),
            (WebKind::Advert, 0.1),
            (WebKind::FileName, 0.05),
        ] {
            assert!(
                (rate(kind) - wanted).abs() < 0.02,
                "{kind:?}: {}",
                rate(kind)
            );
        }
        let statements: Vec<_> = all
            .iter()
            .filter_map(|(_, c)| c.web_statement.as_ref())
            .collect();
        let mentions: Vec<_> = statements.iter().flat_map(|s| &s.objects).collect();
        let share = |kept: usize, of: usize| kept as f64 / of as f64;
        let textures = mentions.iter().filter(|m| m.texture.is_some()).count();
        assert!((share(textures, mentions.len()) - 0.4).abs() < 0.02);
        let colours = mentions.iter().filter(|m| m.colour.is_some()).count();
        assert!((share(colours, mentions.len()) - 0.7).abs() < 0.02);
        let backgrounds = statements.iter().filter(|s| s.background.is_some()).count();
        assert!((share(backgrounds, statements.len()) - 0.4).abs() < 0.03);
        // With n objects, one is sure to stay and the others stay with 0.6: 1, 1.6, 2.2, 2.8 of them.
        assert!((share(mentions.len(), statements.len()) - 1.9).abs() < 0.06);
    }

    #[test]
    fn synthetic_captions_have_a_sentence_per_fact() {
        let world = world();
        for index in 0..200 {
            let scene = world.scene(Split::Train, index);
            let text = world.captions(Split::Train, index).synthetic;
            let sentences = text.split('.').filter(|s| !s.trim().is_empty()).count();
            let cluttered = usize::from(scene.lines + scene.blobs > 0);
            assert_eq!(sentences, 2 * scene.objects.len() + cluttered, "{text}");
            assert!(!text.contains('!'));
        }
    }
}
