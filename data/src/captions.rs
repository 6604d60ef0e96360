//! Captions in the fields of JSON objects, as DreamLIP and img2dataset store them.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::sample::{CaptionKind, Captions};

/// A named field, or column, that holds captions of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionField {
    /// Name of the JSON field or of the column.
    pub field: String,
    /// What kind of caption it holds; web captions if absent.
    #[serde(default)]
    pub kind: CaptionKind,
    /// How often the field is drawn among the fields of its kind that are not empty; its captions
    /// share that alike, as with open_clip's `--json-text-key-probs`. If absent, every caption of
    /// the field weighs 1.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Option<f64>,
}

/// Reads a weight: a finite number, not negative.
pub(crate) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        Some(weight) if !(weight.is_finite() && weight >= 0.0) => Err(de::Error::custom(format!(
            "the weight {weight} of captions must be a finite number of at least 0"
        ))),
        weight => Ok(weight),
    }
}

impl CaptionField {
    /// A field with captions of a kind.
    pub fn new(field: impl Into<String>, kind: CaptionKind) -> Self {
        Self {
            field: field.into(),
            kind,
            weight: None,
        }
    }

    /// Adds the captions that stand in this field of a sample. A field without any takes one place:
    /// the rewrites of the fields behind it do not move up.
    pub(crate) fn add<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str>,
        captions: &mut Captions,
    ) {
        let mut texts: Vec<_> = texts.into_iter().collect();
        if texts.is_empty() {
            texts.push("");
        }
        let filled = texts.iter().filter(|text| !text.trim().is_empty()).count();
        let weight = self
            .weight
            .map_or(1.0, |weight| weight / filled.max(1) as f64);
        for text in texts {
            captions.add(self.kind, text.into(), weight, &self.field);
        }
    }

    /// The seven caption fields of DreamLIP's CC3M, CC12M and YFCC15M: the raw one, and a short and
    /// a long one of each of three captioners.
    pub fn dreamlip() -> Vec<Self> {
        let synthetic = [
            "shortIB_captions",
            "longIB_captions",
            "shortSV_captions",
            "longSV_captions",
            "shortLLA_captions",
            "longLLA_captions",
        ];
        let mut fields = vec![Self::new("raw_caption", CaptionKind::Web)];
        fields.extend(synthetic.map(|field| Self::new(field, CaptionKind::Synthetic)));
        fields
    }
}

/// Adds the captions that `object` has in `fields`: strings, or lists of strings. What is absent or
/// no string is a caption without text.
pub(crate) fn read_fields(
    object: &Map<String, Value>,
    fields: &[CaptionField],
    captions: &mut Captions,
) {
    for field in fields {
        match object.get(&field.field) {
            Some(Value::String(caption)) => field.add([caption.as_str()], captions),
            Some(Value::Array(list)) => {
                field.add(
                    list.iter().map(|text| text.as_str().unwrap_or("")),
                    captions,
                );
            }
            _ => field.add([], captions),
        }
    }
}

/// Which of the configured fields occur at all.
#[derive(Debug, Default)]
pub(crate) struct FieldsSeen {
    objects: usize,
    /// Objects that could not be read: what stands in them is not known.
    broken: usize,
    seen: Vec<bool>,
    /// The fields of the first object.
    there: Vec<String>,
}

impl FieldsSeen {
    pub fn see(&mut self, object: &Map<String, Value>, fields: &[CaptionField]) {
        if self.objects == 0 {
            self.there = object.keys().take(30).cloned().collect();
            self.there.sort();
            self.seen = vec![false; fields.len()];
        }
        self.objects += 1;
        let seen = self.seen.iter_mut().zip(fields);
        seen.for_each(|(seen, field)| *seen |= object.contains_key(&field.field));
    }

    pub fn see_broken(&mut self) {
        self.broken += 1;
    }

    /// What is wrong, if a field stood in none of the objects.
    pub fn absent(&self, fields: &[CaptionField]) -> Option<String> {
        if let (0, 0, Some(first)) = (self.objects, self.broken, fields.first()) {
            return Some(format!(
                "no JSON object in any of the samples that were looked at, so no field `{}`; ask for no fields, or make \
                 the data with its .json members",
                first.field
            ));
        }
        let place = self.seen.iter().position(|seen| !seen)?;
        Some(format!(
            "no field `{}` in any of the {} JSON objects that were looked at; the first has {}. Mend \
             the name, or leave it out",
            fields[place].field,
            self.objects,
            self.there.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hold_strings_or_lists_and_may_be_absent() {
        let json = r#"{"raw_caption": "w", "shortSV_captions": ["s", "", 3, "t"], "longSV_captions": null, "other": "x"}"#;
        let object = serde_json::from_str(json).unwrap();
        let mut captions = Captions::default();
        read_fields(&object, &CaptionField::dreamlip(), &mut captions);
        assert_eq!(captions.web, ["w"]);
        let synthetic: Vec<_> = captions.filled(CaptionKind::Synthetic).collect();
        assert_eq!(synthetic, ["s", "t"]);
        assert_eq!(
            captions.of_field("shortSV_captions").collect::<Vec<_>>(),
            ["s", "t"]
        );
        assert!(captions.rewrites.is_empty());
    }

    #[test]
    fn a_rewrite_keeps_its_slot_whatever_is_missing_before_it() {
        let slots = |fields: &[&str], json: &str| {
            let rewrite = |field: &&str| CaptionField::new(*field, CaptionKind::Rewrite);
            let fields: Vec<_> = fields.iter().map(rewrite).collect();
            let mut captions = Captions::default();
            read_fields(&serde_json::from_str(json).unwrap(), &fields, &mut captions);
            captions.rewrites
        };
        assert_eq!(
            slots(&["r"], r#"{"r": ["a", " ", null, "d"]}"#),
            ["a", "", "", "d"]
        );
        assert_eq!(
            slots(&["r1", "r2", "r3"], r#"{"r1": null, "r3": "c"}"#),
            ["", "", "c"]
        );
    }

    #[test]
    fn the_captions_of_a_field_share_its_weight() {
        let fields: Vec<CaptionField> = serde_json::from_str(
            r#"[{"field": "a", "weight": 3},
                {"field": "b", "kind": "synthetic"},
                {"field": "c", "kind": "synthetic", "weight": 0.5}]"#,
        )
        .unwrap();
        let object = r#"{"a": ["x", " ", "y"], "b": ["s", "t"], "c": "u"}"#;
        let mut captions = Captions::default();
        read_fields(
            &serde_json::from_str(object).unwrap(),
            &fields,
            &mut captions,
        );
        assert_eq!(captions.web, ["x", "y"]);
        assert_eq!(captions.synthetic, ["s", "t", "u"]);
        let expected = [vec![1.5, 1.5], vec![], vec![1.0, 1.0, 0.5]];
        assert_eq!(captions.weights, expected);
        assert_eq!(captions.fields[2], ["b", "b", "c"]);
    }

    #[test]
    fn a_negative_weight_is_refused() {
        let field = r#"{"field": "a", "kind": "web", "weight": -1}"#;
        let error = serde_json::from_str::<CaptionField>(field).unwrap_err();
        assert!(error.to_string().contains("weight -1"), "{error}");
    }
}
