//! What a pickle can hold.

use super::TensorRef;
use crate::checkpoint::state_dict::StoredType;
use std::cell::RefCell;
use std::rc::Rc;

/// What a pickle can hold.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    /// The number that opens a checkpoint of PyTorch before 1.6.
    Magic,
    Str(Rc<str>),
    Bytes,
    List(Rc<RefCell<Vec<Value>>>),
    Tuple(Rc<[Value]>),
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// A class or function by its full name.
    Global(Rc<str>),
    Object(Rc<Object>),
    Storage(Rc<(Rc<str>, StoredType)>),
    Tensor(Rc<TensorRef>),
    Mark,
}

/// The most axes that a tensor of PyTorch has.
const MAX_SIDES: usize = 64;

/// An instance of a class that we do not know.
#[derive(Debug)]
pub(super) struct Object {
    pub class: Rc<str>,
    pub state: RefCell<Option<Value>>,
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        self.as_shared().map(|text| &**text)
    }

    /// The text with its owners, to be one of them without a copy.
    pub fn as_shared(&self) -> Option<&Rc<str>> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Bool => "a truth value".into(),
            Self::Int(_) | Self::Float | Self::Magic => "a number".into(),
            Self::Str(_) => "a string".into(),
            Self::Bytes => "bytes".into(),
            Self::List(_) => "a list".into(),
            Self::Tuple(_) => "a tuple".into(),
            Self::Dict(_) => "a dictionary".into(),
            Self::Global(name) => format!("the Python name {name}"),
            Self::Object(object) => format!("a Python object of class {}", object.class),
            Self::Storage(_) | Self::Tensor(_) => "a tensor".into(),
            Self::Mark => "nothing".into(),
        }
    }

    pub fn object(class: Rc<str>, state: Option<Value>) -> Self {
        Self::Object(Rc::new(Object {
            class,
            state: RefCell::new(state),
        }))
    }

    pub fn dict() -> Self {
        Self::Dict(Rc::default())
    }

    /// The sides of a tensor, or its strides. More than [`MAX_SIDES`] are none: a pickle may name one list of millions in
    /// every tensor.
    pub fn usizes(&self) -> Option<Vec<usize>> {
        let convert = |items: &[Value]| {
            if items.len() > MAX_SIDES {
                return None;
            }
            items
                .iter()
                .map(|item| match item {
                    Value::Int(value) => usize::try_from(*value).ok(),
                    _ => None,
                })
                .collect()
        };
        match self {
            Self::Tuple(items) => convert(items),
            Self::List(items) => convert(&items.borrow()),
            _ => None,
        }
    }
}
