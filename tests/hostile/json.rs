//! JSON by its structure: a valid document with hostile values in places.

use crate::Dice;
use serde_json::{Value, json};

/// Stands in a document for what no JSON value can be.
const RAW: &str = "\u{1}raw";

/// The document as text, some of it changed.
pub fn text(dice: &mut Dice, mut value: Value) -> String {
    for _ in 0..1 + dice.below(2) {
        if dice.bad() {
            let nodes = count(&value);
            let mut at = dice.below(nodes);
            change(dice, &mut value, &mut at);
        }
    }
    let mut text = value.to_string();
    let mark = json!(RAW).to_string();
    while text.contains(&mark) {
        let raw = raw(dice);
        text = text.replacen(&mark, &raw, 1);
    }
    text
}

/// The same as bytes, which may be cut or no text at all.
pub fn bytes(dice: &mut Dice, value: Value) -> Vec<u8> {
    let bytes = text(dice, value).into_bytes();
    match dice.below(4) {
        0 => dice.mangled(bytes),
        _ => bytes,
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes node number `at`, counted from the root.
fn change(dice: &mut Dice, value: &mut Value, at: &mut usize) -> bool {
    if *at == 0 {
        *value = hostile(dice, value);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|value| change(dice, value, at)),
        Value::Object(fields) => fields.values_mut().any(|value| change(dice, value, at)),
        _ => false,
    }
}

fn hostile(dice: &mut Dice, was: &Value) -> Value {
    // Mostly of the kind that is expected, so that it is not refused at once.
    let kind = match (dice.below(3), was) {
        (0, _) => dice.below(8),
        (_, Value::Number(_)) => 0,
        (_, Value::String(_)) => 1,
        (_, Value::Array(_)) => 2,
        (_, Value::Object(_)) => 3,
        _ => dice.below(8),
    };
    match kind {
        0 => match dice.below(5) {
            0 => json!(-(dice.number() as i64).saturating_abs()),
            1 => json!(*dice.pick(&[0.5, -0.0, 1e-320, 1e308, -1e308, 1e-9])),
            2 => json!(RAW),
            _ => json!(dice.number()),
        },
        1 => json!(dice.text()),
        2 => match (was, dice.below(3)) {
            (Value::Array(list), 0) => {
                Value::Array(list.iter().cycle().take(3 * list.len()).cloned().collect())
            }
            (Value::Array(list), 1) => Value::Array(list.iter().rev().skip(1).cloned().collect()),
            _ => json!([]),
        },
        3 => match was {
            Value::Object(fields) if !fields.is_empty() => {
                let mut fields = fields.clone();
                let name = fields
                    .keys()
                    .nth(dice.below(fields.len()))
                    .cloned()
                    .unwrap_or_default();
                let field = fields.shift_remove(&name).unwrap_or_default();
                match dice.below(3) {
                    0 => {}
                    1 => drop(fields.insert(dice.text(), field)),
                    _ => drop(fields.insert(name.to_uppercase(), field)),
                }
                Value::Object(fields)
            }
            _ => json!({}),
        },
        4 => Value::Null,
        5 => json!(dice.below(2) == 0),
        6 => json!([was, was]),
        _ => json!(RAW),
    }
}

/// What a parser of JSON meets only in files by hand.
fn raw(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => "1e999".into(),
        1 => "-1e999".into(),
        2 => "NaN".into(),
        3 => "[".repeat(100_000),
        4 => "{\"a\":".repeat(100_000),
        5 => "340282366920938463463374607431768211456".into(),
        6 => "\"\\ud800\"".into(),
        _ => format!("{{\"a\":1,\"a\":{}}}", dice.number()),
    }
}
