//! Who owns what a pickle builds.

use super::value::Value;

/// Every container of a pickle. A file can nest them as deep as it likes, or in a circle: left to reference counts,
/// they would be dropped one inside the other until the stack overflows, or never.
#[derive(Default)]
pub(super) struct Heap(Vec<Value>);

impl Heap {
    /// Call for each new value.
    pub fn own(&mut self, value: &Value) {
        if let Value::List(_) | Value::Dict(_) | Value::Tuple(_) | Value::Object(_) = value {
            self.0.push(value.clone());
        }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // As long as each container is owned here, emptying one drops no other.
        for value in &self.0 {
            match value {
                Value::List(items) => items.borrow_mut().clear(),
                Value::Dict(entries) => entries.borrow_mut().clear(),
                Value::Object(object) => drop(object.state.take()),
                _ => {}
            }
        }
        // Tuples cannot be emptied, but hold only what is older than they are.
        while self.0.pop().is_some() {}
    }
}
