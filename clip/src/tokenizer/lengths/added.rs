//! Tokens that are not the model's: those that are looked for in a text, and those that are put around it.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value};
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

use super::MAX_TOKEN;
use super::growth::growth;

/// Tokens around a text; those that are known have at most three.
const MAX_SPECIAL: usize = 16;

/// Refuses post-processors that name the text twice, or put many tokens around it.
pub fn check_special(post_processor: &Value) -> Result<(), String> {
    match special(post_processor)? {
        tokens if tokens > MAX_SPECIAL => Err(format!(
            "its post-processor adds {tokens} tokens to a text, more than {MAX_SPECIAL}"
        )),
        _ => Ok(()),
    }
}

/// Tokens that post-processors add, however deep they lie.
fn special(value: &Value) -> Result<usize, String> {
    let (own, inner): (usize, Vec<&Value>) = match value {
        Value::Array(list) => (0, list.iter().collect()),
        Value::Object(fields) => (of_one(fields)?, fields.values().collect()),
        _ => return Ok(0),
    };
    let mut inner = inner.into_iter();
    inner.try_fold(own, |sum, value| Ok(sum.saturating_add(special(value)?)))
}

/// Those of one of them, which is known by its fields.
fn of_one(fields: &Map<String, Value>) -> Result<usize, String> {
    let framed = fields.contains_key("cls") && fields.contains_key("sep");
    let single = fields.get("single").and_then(Value::as_array);
    let (mut texts, mut tokens) = (0, 2 * usize::from(framed));
    for piece in single.into_iter().flatten() {
        texts += usize::from(piece.get("Sequence").is_some());
        let ids = piece["SpecialToken"]["id"].as_str().and_then(|name| {
            fields
                .get("special_tokens")?
                .get(name)?
                .get("ids")?
                .as_array()
        });
        tokens = tokens.saturating_add(ids.map_or(0, Vec::len));
    }
    match texts {
        0 | 1 => Ok(tokens),
        texts => Err(format!(
            "the template of its post-processor names the text {texts} times"
        )),
    }
}

/// Refuses long ones among the tokens that are looked for, and those that are listed again in another way: both would be looked
/// for, but only the last is known by its text, and only that would be written.
pub fn check_tokens(tokens: &Value, normalizer: &Value) -> Result<(), String> {
    let (factor, parsed) = (growth(normalizer), OnceCell::new());
    let mut seen = HashMap::new();
    for token in tokens.as_array().into_iter().flatten() {
        let Some(content) = token["content"].as_str() else {
            continue;
        };
        if seen
            .insert(content, token)
            .is_some_and(|other| other != token)
        {
            return Err(format!(
                "the added token `{content:.40}` is listed twice, and not alike"
            ));
        }
        let mut length = content.len();
        // Most normalizers change no special token, whatever they might do to other texts.
        let grows = length <= MAX_TOKEN && length.saturating_mul(factor) > MAX_TOKEN;
        if grows && token["normalized"] == Value::Bool(true) {
            let normalizer = parsed.get_or_init(|| parse(normalizer)).as_ref();
            length = normalizer
                .and_then(|normalizer| normalized(normalizer, content))
                .unwrap_or(length);
        }
        if length > MAX_TOKEN {
            let begin: String = content.chars().take(20).collect();
            return Err(format!(
                "the added token `{begin}..` has {length} bytes, more than {MAX_TOKEN}"
            ));
        }
    }
    Ok(())
}

// What cannot be used is told by its own reader, which is asked next.

fn parse(normalizer: &Value) -> Option<NormalizerWrapper> {
    catch_unwind(|| serde_json::from_value(normalizer.clone()).ok()).ok()?
}

/// Bytes of a normalized text.
fn normalized(normalizer: &NormalizerWrapper, content: &str) -> Option<usize> {
    let mut text = NormalizedString::from(content);
    let normalize = AssertUnwindSafe(|| normalizer.normalize(&mut text));
    catch_unwind(normalize).ok()?.ok()?;
    Some(text.get().len())
}
