//! The stack machine of Python's pickle format, protocols 0 to 5, without imports or calls.

use super::heap::Heap;
use super::value::Value;
use super::{MAX_NAMES, TensorRef};
use crate::checkpoint::state_dict::StoredType;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

type Result<T> = std::result::Result<T, String>;

/// Reads one pickle from the front of a buffer.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<usize, Value>,
    /// Element types of the storages that the pickle names.
    storages: HashMap<Rc<str>, StoredType>,
    /// Bytes of names that were put together of others.
    joined: usize,
    heap: Heap, // last, to be dropped last
}

/// What a pickle holds.
pub(super) struct Pickled {
    pub object: Value,
    /// Element types of the storages that the pickle names.
    pub storages: HashMap<Rc<str>, StoredType>,
    /// Bytes that the pickle took.
    pub len: usize,
    _heap: Heap, // last, to be dropped last
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            stack: Vec::new(),
            memo: HashMap::new(),
            storages: HashMap::new(),
            joined: 0,
            heap: Heap::default(),
        }
    }

    pub fn run(mut self) -> Result<Pickled> {
        loop {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return Ok(Pickled {
                    object: self.pop()?,
                    storages: self.storages,
                    len: self.at,
                    _heap: self.heap,
                });
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => drop(self.take(1)?),          // PROTO
            0x95 => drop(self.take(8)?),          // FRAME
            b'(' => self.stack.push(Value::Mark), // MARK
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.push(self.top()?.clone()),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'J' => {
                let raw = self.array::<4>()?;
                self.push(Value::Int(i32::from_le_bytes(raw).into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let raw = self.array::<2>()?;
                self.push(Value::Int(u16::from_le_bytes(raw).into()));
            }
            b'I' | b'L' => {
                let line = self.line()?;
                let value = match line.trim_end_matches('L') {
                    "00" | "01" => Value::Bool,
                    digits => digits.parse().map_or(Value::Float, Value::Int),
                };
                self.push(value);
            }
            0x8a => {
                let len = self.byte()? as usize;
                self.long(len)?;
            }
            0x8b => {
                let len = self.length(4)?;
                self.long(len)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float);
            }
            b'F' => {
                self.line()?;
                self.push(Value::Float);
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'V' | b'S' => {
                let line = self.line()?.trim_matches(['\'', '"']).to_string();
                self.push(Value::Str(line.into()));
            }
            b'C' => self.raw(1)?,
            b'B' => self.raw(4)?,
            0x8e | 0x96 => self.raw(8)?,
            b']' | 0x8f => self.push(Value::List(Rc::default())), // EMPTY_LIST, EMPTY_SET
            b'}' => self.push(Value::dict()),
            b')' => self.push(Value::Tuple(Rc::new([]))),
            b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(Rc::new(RefCell::new(items))));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items.into()));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self
                    .stack
                    .len()
                    .checked_sub(count)
                    .ok_or("a pickle whose stack runs dry")?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items.into()));
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                let dict = Value::dict();
                set_items(&dict, items);
                self.push(dict);
            }
            b'a' => {
                let item = self.pop()?;
                append(self.top()?, vec![item]);
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                append(self.top()?, items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                set_items(self.top()?, vec![key, value]);
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                set_items(self.top()?, items);
            }
            b'q' => {
                let slot = self.byte()? as usize;
                self.remember(slot)?;
            }
            b'r' => {
                let slot = self.length(4)?;
                self.remember(slot)?;
            }
            b'p' => {
                let slot = self
                    .line()?
                    .parse()
                    .map_err(|_| "a pickle with a broken memo")?;
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let slot = self.byte()? as usize;
                self.recall(slot)?;
            }
            b'j' => {
                let slot = self.length(4)?;
                self.recall(slot)?;
            }
            b'g' => {
                let slot = self
                    .line()?
                    .parse()
                    .map_err(|_| "a pickle with a broken memo")?;
                self.recall(slot)?;
            }
            b'c' => {
                let module = self.line()?.to_string();
                let name = format!("{module}.{}", self.line()?);
                self.push(Value::Global(name.into()));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (module.as_str(), name.as_str()) else {
                    return Err("a pickle with a class that has no name".into());
                };
                // Both may be texts of the memo, named by two bytes again and again.
                self.joined += module.len() + name.len();
                if self.joined > MAX_NAMES {
                    return Err("a pickle with names of classes beyond any checkpoint".into());
                }
                self.push(Value::Global(format!("{module}.{name}").into()));
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.push(call(&callable, &arguments)?);
            }
            0x92 => {
                let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(call(&class, &arguments)?);
            }
            b'b' => {
                let state = self.pop()?;
                if let Value::Object(object) = self.top()? {
                    *object.state.borrow_mut() = Some(state);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = storage(&id)?;
                if let Value::Storage(named) = &storage {
                    self.storages.insert(named.0.clone(), named.1);
                }
                self.push(storage);
            }
            other => return Err(format!("a pickle with the unknown opcode 0x{other:02x}")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.heap.own(&value);
        self.stack.push(value);
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack
            .pop()
            .ok_or_else(|| "a pickle whose stack runs dry".into())
    }

    fn top(&self) -> Result<&Value> {
        self.stack
            .last()
            .ok_or_else(|| "a pickle whose stack runs dry".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self
            .stack
            .iter()
            .rposition(|value| matches!(value, Value::Mark));
        let mark = mark.ok_or("a pickle whose stack runs dry")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, slot: usize) -> Result<()> {
        let value = self.top()?.clone();
        self.memo.insert(slot, value);
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Result<()> {
        let value = self
            .memo
            .get(&slot)
            .ok_or("a pickle with a broken memo")?
            .clone();
        self.stack.push(value);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.ok_or("the pickle is cut short")?];
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("exactly N bytes"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let raw = self.take(width)?;
        Ok(raw
            .iter()
            .rev()
            .fold(0usize, |len, byte| (len << 8) | usize::from(*byte)))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("the pickle is cut short")?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| "a pickle with broken text".into())
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let len = self.length(width)?;
        let text = String::from_utf8_lossy(self.take(len)?);
        self.push(Value::Str(text.as_ref().into()));
        Ok(())
    }

    fn raw(&mut self, width: usize) -> Result<()> {
        let len = self.length(width)?;
        self.take(len)?;
        self.push(Value::Bytes);
        Ok(())
    }

    fn long(&mut self, len: usize) -> Result<()> {
        let raw = self.take(len)?;
        let value = if raw == MAGIC {
            Value::Magic
        } else if len <= 8 {
            let negative = raw.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..len].copy_from_slice(raw);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Float
        };
        self.push(value);
        Ok(())
    }
}

fn append(target: &Value, mut items: Vec<Value>) {
    if let Value::List(list) = target {
        list.borrow_mut().append(&mut items);
    }
}

fn set_items(target: &Value, items: Vec<Value>) {
    if let Value::Dict(entries) = target {
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.borrow_mut().push((key, value));
        }
    }
}

/// The few calls whose result we know; any other gives an opaque object.
fn call(callable: &Value, arguments: &Value) -> Result<Value> {
    let Value::Global(name) = callable else {
        return Ok(Value::object("unknown".into(), None));
    };
    let arguments = match arguments {
        Value::Tuple(items) => items.clone(),
        _ => Rc::new([]),
    };
    match &**name {
        "collections.OrderedDict" | "collections.defaultdict" => Ok(Value::dict()),
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
            tensor(&arguments).ok_or_else(|| "a tensor without shape or storage".to_string())
        }
        "torch._utils._rebuild_parameter" => arguments
            .first()
            .cloned()
            .ok_or_else(|| "a parameter without a tensor".to_string()),
        _ => Ok(Value::object(name.clone(), None)),
    }
}

fn tensor(arguments: &[Value]) -> Option<Value> {
    let [
        Value::Storage(storage),
        Value::Int(offset),
        shape,
        strides,
        ..,
    ] = arguments
    else {
        return None;
    };
    Some(Value::Tensor(Rc::new(TensorRef {
        storage: storage.0.clone(),
        dtype: storage.1,
        offset: usize::try_from(*offset).ok()?,
        shape: shape.usizes()?,
        strides: strides.usizes()?,
    })))
}

/// Longest name of a storage; PyTorch's are numbers.
const MAX_KEY: usize = 256;

/// `("storage", class, key, location, length)`, with a sixth entry for a view in the old format.
fn storage(id: &Value) -> Result<Value> {
    let Value::Tuple(parts) = id else {
        return Err("a storage without a description".into());
    };
    let (Some(Value::Global(class)), Some(key)) =
        (parts.get(1), parts.get(2).and_then(Value::as_shared))
    else {
        return Err("a storage without a description".into());
    };
    // It is looked up for every tensor, and one of megabytes would take its time.
    if key.len() > MAX_KEY {
        return Err(format!("a storage whose name has {} bytes", key.len()));
    }
    let dtype = match class.rsplit('.').next().unwrap_or_default() {
        "DoubleStorage" => StoredType::F64,
        "FloatStorage" => StoredType::F32,
        "HalfStorage" => StoredType::F16,
        "BFloat16Storage" => StoredType::Bf16,
        "LongStorage" => StoredType::I64,
        "IntStorage" => StoredType::I32,
        "ShortStorage" => StoredType::I16,
        "CharStorage" => StoredType::I8,
        "ByteStorage" => StoredType::U8,
        "BoolStorage" => StoredType::Bool,
        other => return Err(format!("storage of type {other}, which is not supported")),
    };
    Ok(Value::Storage(Rc::new((key.clone(), dtype))))
}
