//! Which parameters are trained, with what learning rate, and with or without weight decay.
//!
//! The rules see dotted paths and ranks only. `visual.` and `text.` are the towers; what belongs to
//! neither, such as `logit_scale`, is always trained at the full rate.

use super::Parameter;
use crate::error::{Result, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Which parameters are decayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayRule {
    /// Not: parameters of rank 0 or 1, positional and class embeddings (open_clip's current rule).
    #[default]
    Rank,
    /// Not: parameters of rank 0 or 1, or whose name contains `bn`, `ln`, `bias` or `logit_scale`
    /// (open_clip 2 and 3, SLIP, LaCLIP). Positional embeddings are decayed.
    Name,
}

/// How far below the top of its tower a parameter is, for the layer decays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerRule {
    /// The final norm belongs to the last block; all that is no block, norm or projection is at the bottom (open_clip).
    #[default]
    OpenClip,
    /// At the bottom only the patch projection, the positions and the class token of an EVA-02 tower; the final norm, the
    /// norm before the blocks and the class embedding of other towers are at the top, with the projection (EVA-CLIP's
    /// `get_num_layer_for_vit`, LLM2CLIP).
    Eva,
}

/// The `[groups]` table of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupsConfig {
    /// `rank` or `name`.
    pub decay_rule: DecayRule,
    /// Patterns (`*` and `?`) of paths that are never decayed.
    pub decay_exclude: Vec<String>,
    /// Patterns of paths that are always decayed; stronger than all else.
    pub decay_include: Vec<String>,
    /// Factor on the learning rate per layer below the top of the vision tower.
    pub image_layer_decay: Option<f64>,
    /// Factor on the learning rate per layer below the top of the text tower.
    pub text_layer_decay: Option<f64>,
    /// `open-clip` or `eva`: where the layer decays count from.
    pub layer_rule: LayerRule,
    /// Freezes the vision tower.
    pub lock_image: bool,
    /// Groups at the top of a locked vision tower that stay trainable: projection, last block, ...
    pub lock_image_unlocked: usize,
    /// Freezes the text tower.
    pub lock_text: bool,
    /// Groups at the top of a locked text tower that stay trainable.
    pub lock_text_unlocked: usize,
    /// Patterns of paths that are frozen.
    pub freeze: Vec<String>,
}

/// How one parameter is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The parameter.
    pub parameter: Parameter,
    /// Factor on the learning rate.
    pub lr_scale: f64,
    /// Whether weight decay applies.
    pub decay: bool,
    /// Whether it is trained at all.
    pub trainable: bool,
}

/// The rules of a whole model. Its `Display` is the table printed at the start of a run.
#[derive(Clone, Debug)]
pub struct Groups(pub Vec<Rule>);

impl Groups {
    /// Applies the rules of `config` to the parameters of a model.
    ///
    /// # Errors
    ///
    /// When a pattern matches nothing, when a layer decay is outside (0, 1], when blocks are counted in a ResNet, or when
    /// nothing is left to train.
    pub fn new(config: &GroupsConfig, parameters: Vec<Parameter>) -> Result<Self> {
        for pattern in config
            .decay_exclude
            .iter()
            .chain(&config.decay_include)
            .chain(&config.freeze)
        {
            if !parameters.iter().any(|p| matches(pattern, &p.path)) {
                return Err(TrainError::Config(format!(
                    "the pattern `{pattern}` in [groups] matches no parameter; a path looks like `{}`",
                    parameters
                        .first()
                        .map_or("visual.proj", |p| p.path.as_str())
                )));
            }
        }
        for decay in [config.image_layer_decay, config.text_layer_decay]
            .into_iter()
            .flatten()
        {
            if !(decay > 0.0 && decay <= 1.0) {
                return Err(TrainError::Config(format!(
                    "a layer decay of {decay} is outside (0, 1]"
                )));
            }
        }
        let pool = "visual.attnpool.";
        let resnet = parameters.iter().any(|p| p.path.starts_with(pool));
        let partly = config.lock_image && config.lock_image_unlocked > 0;
        if resnet && (config.image_layer_decay.is_some() || partly) {
            return Err(TrainError::Config(
                "image_layer_decay and lock_image_unlocked count the blocks of a transformer, and the vision tower is a \
                 ResNet: remove them from [groups], or name what stays as it is in `freeze`"
                    .into(),
            ));
        }
        let towers = Towers {
            depths: depths(&parameters),
            class_token: parameters.iter().any(|p| p.path == "visual.head.weight"),
        };
        let rules = parameters
            .into_iter()
            .map(|p| rule(config, &towers, p))
            .collect::<Vec<_>>();
        if !rules.iter().any(|r| r.trainable) {
            return Err(TrainError::Config(
                "[groups] freezes every parameter: unlock a tower or drop a pattern of `freeze`"
                    .into(),
            ));
        }
        Ok(Self(rules))
    }

    /// Paths of the parameters that are trained.
    pub fn trained(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|r| r.trainable)
            .map(|r| r.parameter.path.as_str())
    }
}

/// What the rules must know of a model as a whole.
struct Towers {
    depths: BTreeMap<Tower, usize>,
    /// Whether the vision tower is EVA-02's, whose class embedding the rule `eva` knows as `cls_token`.
    class_token: bool,
}

impl Towers {
    /// Groups above a parameter by the rule `eva`.
    fn below_top_in_eva(&self, path: &str, position: Position, blocks: usize) -> usize {
        let stem = path.starts_with("visual.conv1.")
            || path.starts_with("visual.patch_embed.")
            || path == "visual.positional_embedding"
            || (path == "visual.class_embedding" && self.class_token)
            || path.starts_with("text.token_embedding")
            || path == "text.positional_embedding";
        match position {
            Position::Block(_) => position.below_top(blocks),
            _ if stem => Position::Embeddings.below_top(blocks),
            _ => 0,
        }
    }
}

fn rule(config: &GroupsConfig, towers: &Towers, parameter: Parameter) -> Rule {
    let path = parameter.path.as_str();
    let any = |patterns: &[String]| patterns.iter().any(|p| matches(p, path));
    let decay = any(&config.decay_include)
        || (!any(&config.decay_exclude)
            && match config.decay_rule {
                DecayRule::Rank => decayed_by_rank(&parameter),
                DecayRule::Name => decayed_by_name(&parameter),
            });
    let (mut lr_scale, mut locked) = (1.0, false);
    if let Some((tower, position)) = place(path) {
        let blocks = towers.depths.get(&tower).copied().unwrap_or(0);
        let top_down = position.below_top(blocks);
        let (layer_decay, lock, unlocked) = match tower {
            Tower::Image => (
                config.image_layer_decay,
                config.lock_image,
                config.lock_image_unlocked,
            ),
            Tower::Text => (
                config.text_layer_decay,
                config.lock_text,
                config.lock_text_unlocked,
            ),
        };
        let layers = match config.layer_rule {
            LayerRule::OpenClip => top_down,
            LayerRule::Eva => towers.below_top_in_eva(path, position, blocks),
        };
        lr_scale = layer_decay.map_or(1.0, |d| d.powi(layers as i32));
        locked = lock && top_down >= unlocked;
    }
    let trainable = parameter.trainable && !locked && !any(&config.freeze);
    Rule {
        lr_scale,
        decay,
        trainable,
        parameter,
    }
}

fn decayed_by_rank(parameter: &Parameter) -> bool {
    let name = last(&parameter.path);
    parameter.shape.len() >= 2
        && ![
            "positional_embedding",
            "class_embedding",
            "cls_emb",
            "pos_embed",
            "cls_token",
        ]
        .contains(&name)
}

fn decayed_by_name(parameter: &Parameter) -> bool {
    parameter.shape.len() >= 2
        && !["bn", "ln", "bias", "logit_scale"]
            .iter()
            .any(|part| parameter.path.contains(part))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tower {
    Image,
    Text,
}

/// Place in a tower, in open_clip's enumeration: embeddings, one group per block, projection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Position {
    Embeddings,
    Block(usize),
    LastBlock,
    Head,
}

impl Position {
    /// Groups above this one in a tower of `blocks` blocks.
    fn below_top(self, blocks: usize) -> usize {
        match self {
            Position::Head => 0,
            Position::LastBlock => 1,
            Position::Block(index) => blocks - index,
            Position::Embeddings => blocks + 1,
        }
    }
}

fn place(path: &str) -> Option<(Tower, Position)> {
    let (first, rest) = path.split_once('.')?;
    let tower = match first {
        "visual" => Tower::Image,
        "text" => Tower::Text,
        _ => return None,
    };
    if let Some(index) = block_index(rest) {
        return Some((tower, Position::Block(index)));
    }
    // Only the tower's own fields: deeper down, `proj` is also a part of a patch embedding.
    let field = rest.split('.').next().unwrap_or(rest);
    let has = |wanted: &[&str]| wanted.contains(&field);
    let position = match tower {
        // The final norm of the vision tower belongs to the last block, that of the text tower to the head.
        Tower::Image if has(&["ln_post", "norm", "fc_norm"]) => Position::LastBlock,
        _ if has(&["proj", "head", "ln_final", "text_projection"]) => Position::Head,
        _ => Position::Embeddings,
    };
    Some((tower, position))
}

/// The number after `resblocks`, `blocks` or `layers`.
fn block_index(path: &str) -> Option<usize> {
    let mut names = path.split('.');
    names.find(|name| ["resblocks", "blocks", "layers"].contains(name))?;
    names.next()?.parse().ok()
}

fn depths(parameters: &[Parameter]) -> BTreeMap<Tower, usize> {
    let mut depths = BTreeMap::new();
    for parameter in parameters {
        if let Some((tower, Position::Block(index))) = place(&parameter.path) {
            let depth = depths.entry(tower).or_insert(0);
            *depth = (*depth).max(index + 1);
        }
    }
    depths
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Shell-style match in which `*` also crosses dots.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.chars().next() {
        None => path.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            path.char_indices().any(|(i, _)| matches(rest, &path[i..])) || matches(rest, "")
        }
        Some(wanted) => path.chars().next().is_some_and(|found| {
            (wanted == '?' || wanted == found)
                && matches(&pattern[wanted.len_utf8()..], &path[found.len_utf8()..])
        }),
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<(bool, u64, bool), (usize, usize, &str)> = BTreeMap::new();
        for rule in &self.0 {
            let key = (!rule.trainable, (rule.lr_scale * 1e9) as u64, rule.decay);
            let row = rows
                .entry(key)
                .or_insert((0, 0, rule.parameter.path.as_str()));
            row.0 += 1;
            row.1 += rule.parameter.len();
        }
        writeln!(
            f,
            "{:>9} {:>6} {:>8} {:>12}  such as",
            "lr scale", "decay", "tensors", "parameters"
        )?;
        for ((frozen, scale, decay), (tensors, elements, example)) in rows.iter().rev() {
            let scale = if *frozen {
                "frozen".into()
            } else {
                format!("{:.4}", *scale as f64 / 1e9)
            };
            let decay = if *decay && !frozen { "yes" } else { "no" };
            writeln!(
                f,
                "{scale:>9} {decay:>6} {tensors:>8} {elements:>12}  {example}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [(&str, usize); 17] = [
        ("visual.class_embedding", 1),
        ("visual.positional_embedding", 2),
        ("visual.conv1.weight", 2),
        ("visual.patch_embed.proj.weight", 2),
        ("visual.ln_pre.gamma", 1),
        ("visual.transformer.resblocks.0.attn.in_proj.weight", 2),
        ("visual.transformer.resblocks.1.attn.in_proj.weight", 2),
        ("visual.transformer.resblocks.1.attn.in_proj.bias", 1),
        ("visual.ln_post.gamma", 1),
        ("visual.proj", 2),
        ("text.token_embedding.weight", 2),
        ("text.positional_embedding", 2),
        ("text.transformer.resblocks.0.mlp.c_fc.weight", 2),
        ("text.transformer.resblocks.1.mlp.c_fc.weight", 2),
        ("text.ln_final.gamma", 1),
        ("text.text_projection", 2),
        ("logit_scale", 1),
    ];

    fn groups(config: GroupsConfig) -> Groups {
        try_groups(config).unwrap()
    }

    fn try_groups(config: GroupsConfig) -> Result<Groups> {
        let parameters = PATHS.iter().map(|(path, rank)| Parameter {
            path: path.to_string(),
            id: crate::parameters::stable_ids::stable_id(path),
            shape: vec![2; *rank],
            trainable: true,
        });
        Groups::new(&config, parameters.collect())
    }

    fn paths(groups: &Groups, wanted: impl Fn(&Rule) -> bool) -> Vec<&str> {
        let chosen = groups.0.iter().filter(|r| wanted(r));
        chosen.map(|r| r.parameter.path.as_str()).collect()
    }

    #[test]
    fn the_rank_rule_spares_vectors_and_positions() {
        let spared = groups(GroupsConfig::default());
        let spared = paths(&spared, |r| !r.decay);
        assert_eq!(
            spared,
            [
                "visual.class_embedding",
                "visual.positional_embedding",
                "visual.ln_pre.gamma",
                "visual.transformer.resblocks.1.attn.in_proj.bias",
                "visual.ln_post.gamma",
                "text.positional_embedding",
                "text.ln_final.gamma",
                "logit_scale",
            ]
        );
    }

    #[test]
    fn the_name_rule_decays_positions() {
        let all = groups(GroupsConfig {
            decay_rule: DecayRule::Name,
            ..Default::default()
        });
        let decayed = paths(&all, |r| r.decay);
        assert!(decayed.contains(&"visual.positional_embedding"));
        assert!(decayed.contains(&"text.positional_embedding"));
        assert!(!decayed.contains(&"visual.class_embedding"));
        assert_eq!(decayed.len(), 11);
    }

    #[test]
    fn patterns_override_the_rule() {
        let config = GroupsConfig {
            decay_exclude: vec!["*token_embedding*".into()],
            decay_include: vec!["visual.class_embeddin?".into()],
            ..Default::default()
        };
        let all = groups(config);
        let decayed = paths(&all, |r| r.decay);
        assert!(!decayed.contains(&"text.token_embedding.weight"));
        assert!(decayed.contains(&"visual.class_embedding"));
    }

    #[test]
    fn blocks_are_not_counted_in_a_resnet() {
        let parameter = |path: &str| Parameter {
            path: path.into(),
            id: crate::parameters::stable_ids::stable_id(path),
            shape: vec![2],
            trainable: true,
        };
        let parameters = [
            "visual.layer4.0.conv1.weight",
            "visual.attnpool.c_proj.bias",
            "logit_scale",
        ];
        let try_groups = |config| Groups::new(&config, parameters.map(parameter).to_vec());
        let locked = GroupsConfig {
            lock_image: true,
            ..Default::default()
        };
        let groups = try_groups(locked.clone()).unwrap();
        assert_eq!(paths(&groups, |r| r.trainable), ["logit_scale"]);
        for config in [
            GroupsConfig {
                lock_image_unlocked: 1,
                ..locked
            },
            GroupsConfig {
                image_layer_decay: Some(0.5),
                ..Default::default()
            },
        ] {
            let message = try_groups(config).unwrap_err().to_string();
            assert!(message.contains("ResNet"), "{message}");
        }
    }

    #[test]
    fn a_pattern_without_a_match_is_refused() {
        let config = GroupsConfig {
            freeze: vec!["visuall.*".into()],
            ..Default::default()
        };
        assert!(
            try_groups(config)
                .unwrap_err()
                .to_string()
                .contains("visuall.*")
        );
    }

    #[test]
    fn layer_decay_falls_from_the_projection_to_the_embeddings() {
        let all = groups(GroupsConfig {
            image_layer_decay: Some(0.5),
            ..Default::default()
        });
        let scale = |path: &str| {
            all.0
                .iter()
                .find(|r| r.parameter.path == path)
                .unwrap()
                .lr_scale
        };
        assert_eq!(scale("visual.proj"), 1.0);
        assert_eq!(scale("visual.ln_post.gamma"), 0.5);
        assert_eq!(
            scale("visual.transformer.resblocks.1.attn.in_proj.weight"),
            0.5
        );
        assert_eq!(
            scale("visual.transformer.resblocks.0.attn.in_proj.weight"),
            0.25
        );
        assert_eq!(scale("visual.conv1.weight"), 0.125);
        assert_eq!(scale("visual.patch_embed.proj.weight"), 0.125);
        assert_eq!(scale("text.token_embedding.weight"), 1.0);
        assert_eq!(scale("logit_scale"), 1.0);
    }

    #[test]
    fn locking_the_vision_tower_leaves_the_groups_at_its_top() {
        let config = GroupsConfig {
            lock_image: true,
            lock_image_unlocked: 2,
            ..Default::default()
        };
        let all = groups(config);
        let trained = paths(&all, |r| {
            r.trainable && r.parameter.path.starts_with("visual")
        });
        assert_eq!(
            trained,
            [
                "visual.transformer.resblocks.1.attn.in_proj.weight",
                "visual.transformer.resblocks.1.attn.in_proj.bias",
                "visual.ln_post.gamma",
                "visual.proj",
            ]
        );
        assert!(
            all.0
                .iter()
                .filter(|r| r.parameter.path.starts_with("text"))
                .all(|r| r.trainable)
        );
    }

    #[test]
    fn locking_both_towers_still_trains_the_scale_but_freezing_all_is_refused() {
        let locked = GroupsConfig {
            lock_image: true,
            lock_text: true,
            ..Default::default()
        };
        assert_eq!(paths(&groups(locked), |r| r.trainable), ["logit_scale"]);
        assert!(
            try_groups(GroupsConfig {
                freeze: vec!["*".into()],
                ..Default::default()
            })
            .is_err()
        );
    }

    #[test]
    fn the_table_counts_tensors_and_parameters() {
        let table = groups(GroupsConfig {
            lock_text: true,
            ..Default::default()
        })
        .to_string();
        let numbers: Vec<Vec<&str>> = table
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().take(4).collect())
            .collect();
        assert!(
            numbers.contains(&vec!["1.0000", "yes", "5", "20"]),
            "{table}"
        );
    }
}
