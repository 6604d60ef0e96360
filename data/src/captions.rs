//! Captions in the fields of JSON objects, as DreamLIP and img2dataset store them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sample::{CaptionKind, Captions};

/// A named field, or column, that holds captions of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionField {
    /// Name of the JSON field or of the column.
    pub field: String,
    /// What kind of caption it holds.
    pub kind: CaptionKind,
}

impl CaptionField {
    /// A field with captions of a kind.
    pub fn new(field: impl Into<String>, kind: CaptionKind) -> Self {
        Self {
            field: field.into(),
            kind,
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

/// Adds the captions that `object` has in `fields`: strings, or lists of strings. Absent and null
/// fields are skipped.
pub(crate) fn read_fields(
    object: &Map<String, Value>,
    fields: &[CaptionField],
    captions: &mut Captions,
) {
    for CaptionField { field, kind } in fields {
        match object.get(field) {
            Some(Value::String(caption)) => captions.push(*kind, caption),
            Some(Value::Array(list)) => {
                list.iter()
                    .filter_map(Value::as_str)
                    .for_each(|caption| captions.push(*kind, caption));
            }
            _ => {}
        }
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
        assert_eq!(captions.synthetic, ["s", "t"]);
        assert!(captions.rewrites.is_empty());
    }
}
