//! Overrides of the form `table.field=value`.

use toml::{Table, Value};

/// Fields that exclude each other: setting one takes the other out.
const EITHER: [[&str; 2]; 2] = [["run.steps", "run.epochs"], ["run.epochs", "run.steps"]];

/// Applies one `a.b=value`, or `a={...}` for a whole table. A number among the names is a place in a list, counted from 0.
///
/// # Errors
///
/// A sentence that says what the assignment should read like.
pub(super) fn set(table: &mut Table, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment
        .split_once('=')
        .ok_or_else(|| format!("the override `{assignment}` should read `table.field=value`"))?;
    let key = key.trim();
    let parsed = toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(text.to_string()));
    if let (false, Value::Table(whole)) = (key.is_empty() || key.contains('.'), &value) {
        table.insert(key.to_string(), Value::Table(whole.clone()));
        return Ok(());
    }
    let (path, field) = key.rsplit_once('.').unwrap_or(("", key));
    if path.is_empty() || field.is_empty() {
        return Err(format!(
            "the override `{assignment}` should read `table.field=value`"
        ));
    }
    for [_, other] in EITHER.iter().filter(|[set, _]| *set == key) {
        let (name, field) = other.split_once('.').expect("a table and a field");
        if let Some(Value::Table(table)) = table.get_mut(name) {
            table.remove(field);
        }
    }
    let mut names = path.split('.');
    let first = names.next().unwrap_or_default();
    let mut place = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    let mut walked = first.to_string();
    for name in names.chain([field]).collect::<Vec<_>>() {
        place = match place {
            Value::Table(table) => table
                .entry(name)
                .or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => {
                let len = list.len();
                let index = name.parse::<usize>().ok();
                index.and_then(|index| list.get_mut(index)).ok_or_else(|| {
                    format!(
                        "the override `{assignment}`: `{walked}` has the places 0 to {}, not `{name}`",
                        len.max(1) - 1
                    )
                })?
            }
            _ => {
                return Err(format!(
                    "the override `{assignment}`: `{walked}` is a value, not a table"
                ));
            }
        };
        walked = format!("{walked}.{name}");
    }
    *place = value;
    Ok(())
}
