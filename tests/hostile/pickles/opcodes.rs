//! Pickles, opcode by opcode.

use crate::Dice;
use std::collections::HashMap;

/// Bytes of a storage.
pub const STORAGE: usize = 64;

/// Classes of storages and the bytes of their elements. The key of a storage is its class's place here.
pub const CLASSES: &[(&str, usize)] = &[
    ("FloatStorage", 4),
    ("HalfStorage", 2),
    ("BFloat16Storage", 2),
    ("DoubleStorage", 8),
    ("LongStorage", 8),
    ("IntStorage", 4),
    ("ByteStorage", 1),
    ("BoolStorage", 1),
];

/// Shapes and strides of tensors within eight elements, an offset of one included.
const LAYOUTS: &[(&[u64], &[u64])] = &[
    (&[2, 3], &[3, 1]),
    (&[3, 2], &[1, 3]),
    (&[2, 3, 1, 1], &[3, 1, 1, 1]),
    (&[7], &[1]),
    (&[], &[]),
    (&[4], &[2]),
    (&[2, 3], &[0, 0]),
    (&[0, 3], &[3, 1]),
    (&[1; 60], &[0; 60]),
    (&[1 << 20, 0], &[u32::MAX as u64, 1]),
];

/// The opcodes of protocol 2 as PyTorch writes them. One that lies may write others, and lengths and numbers that are not true.
pub struct Pickle {
    pub bytes: Vec<u8>,
    pub lies: bool,
    /// Storages that were named, by their classes.
    pub classes: Vec<usize>,
    /// Places of texts and names that are written once, behind those that hostile opcodes take.
    memo: HashMap<String, u32>,
}

impl Pickle {
    pub fn new(dice: &mut Dice, lies: bool) -> Self {
        let protocol = if lies { dice.or_number(2) as u8 } else { 2 };
        Self {
            bytes: vec![0x80, protocol],
            lies,
            classes: Vec::new(),
            memo: HashMap::new(),
        }
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }

    pub fn op(&mut self, opcode: u8) -> &mut Self {
        self.bytes.push(opcode);
        self
    }

    /// A length as it is, or not.
    fn length(&self, dice: &mut Dice, length: usize) -> u64 {
        match self.lies {
            true => dice.or_number(length as u64),
            false => length as u64,
        }
    }

    /// True where it was written before and the memo was asked for it.
    fn recall(&mut self, what: &str) -> bool {
        let Some(place) = self.memo.get(what) else {
            return false;
        };
        let place = place.to_le_bytes();
        self.op(b'j').bytes.extend(place);
        true
    }

    fn remember(&mut self, what: String) {
        let place = 256 + self.memo.len() as u32;
        self.op(b'r').bytes.extend(place.to_le_bytes());
        self.memo.insert(what, place);
    }

    pub fn text(&mut self, dice: &mut Dice, text: &str) -> &mut Self {
        if self.recall(text) {
            return self;
        }
        match if self.lies { dice.below(3) } else { 2 } {
            0 if text.len() < 256 => self.op(0x8c).bytes.push(text.len() as u8),
            1 => {
                let length = self.length(dice, text.len());
                self.op(0x8d).bytes.extend(length.to_le_bytes());
            }
            _ => {
                let length = self.length(dice, text.len()) as u32;
                self.op(b'X').bytes.extend(length.to_le_bytes());
            }
        }
        self.bytes.extend(text.bytes());
        self.remember(text.to_string());
        self
    }

    pub fn global(&mut self, dice: &mut Dice, module: &str, name: &str) -> &mut Self {
        if self.lies && dice.bad() {
            let (module, name) = (dice.or_text(module), dice.or_text(name));
            return self.text(dice, &module).text(dice, &name).op(0x93);
        }
        let whole = format!("{module}\n{name}\n");
        if !self.recall(&whole) {
            self.op(b'c').bytes.extend(whole.bytes());
            self.remember(whole);
        }
        self
    }

    pub fn number(&mut self, dice: &mut Dice, usual: u64) -> &mut Self {
        if !self.lies {
            match i32::try_from(usual) {
                Ok(small @ 0..256) => self.op(b'K').bytes.push(small as u8),
                Ok(number) => self.op(b'J').bytes.extend(number.to_le_bytes()),
                Err(_) => self.op(0x8a).op(8).bytes.extend(usual.to_le_bytes()),
            }
            return self;
        }
        let number = dice.or_number(usual);
        match dice.below(3) {
            0 => {
                let line = format!("{}\n", number as i64);
                self.op(b'I').bytes.extend(line.bytes());
            }
            1 => self.op(0x8a).op(8).bytes.extend(number.to_le_bytes()),
            _ => self.op(b'J').bytes.extend((number as u32).to_le_bytes()),
        }
        self
    }

    /// A tensor, or a parameter, of one of the storages.
    pub fn tensor(&mut self, dice: &mut Dice) -> &mut Self {
        let parameter = dice.below(4) == 0;
        if parameter {
            self.global(dice, "torch._utils", "_rebuild_parameter")
                .op(b'(');
        }
        self.global(dice, "torch._utils", "_rebuild_tensor_v2")
            .op(b'(');
        self.op(b'(').text(dice, "storage");
        let key = match dice.bad() {
            true => dice.below(CLASSES.len()),
            false => 0,
        };
        let (class, size) = CLASSES[key];
        if !self.classes.contains(&key) {
            self.classes.push(key);
        }
        let class = match self.lies {
            true => dice.or_text(class),
            false => class.to_string(),
        };
        self.global(dice, "torch", &class)
            .text(dice, &key.to_string())
            .text(dice, "cpu");
        self.number(dice, (STORAGE / size) as u64).op(b't').op(b'Q');
        let odd = dice.bad();
        let (shape, strides) = match odd {
            true => *dice.pick(LAYOUTS),
            false => LAYOUTS[0],
        };
        self.number(dice, u64::from(odd));
        for sides in [shape, strides] {
            self.op(b'(');
            for side in sides {
                self.number(dice, *side);
            }
            if self.lies && dice.bad() {
                for _ in 0..dice.below(100) {
                    self.number(dice, 1);
                }
            }
            self.op(b't');
        }
        self.op(0x89);
        self.global(dice, "collections", "OrderedDict")
            .op(b')')
            .op(b'R');
        self.op(b't').op(b'R');
        if parameter {
            self.op(0x88).op(b'}').op(b't').op(b'R');
        }
        self
    }
}
