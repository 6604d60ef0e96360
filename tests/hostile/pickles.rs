//! PyTorch's checkpoints: zip archives and the older streams.

use crate::tensors::read_all;
use crate::{Dice, Said};

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let file = match dice.below(3) {
        0 => stream(dice),
        _ => {
            let pickle = state_dict(dice);
            let root = *dice.pick(&["archive/", "", "a/b/"]);
            let data: Vec<u8> = vec![0; 24];
            let mut entries = vec![
                (format!("{root}data.pkl"), pickle),
                (format!("{root}data/0"), data),
            ];
            if dice.bad() {
                let (name, content) = (dice.text(), dice.noise(9));
                entries.push((name, content));
            }
            if dice.bad() {
                entries.push((
                    format!("{root}byteorder"),
                    dice.or_text("little").into_bytes(),
                ));
            }
            if dice.bad() {
                entries.swap(0, 1);
                let again = entries[0].clone();
                entries.push(again);
            }
            zip(dice, &entries)
        }
    };
    let file = dice.mangled(file);
    let path = said.write("model.pt", file);
    read_all(said, &path);
}

/// Opcodes of protocol 2, and those of later ones that are worth an attack.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new(dice: &mut Dice) -> Self {
        Self(vec![0x80, dice.or_number(2) as u8])
    }

    fn op(&mut self, opcode: u8) -> &mut Self {
        self.0.push(opcode);
        self
    }

    fn text(&mut self, dice: &mut Dice, text: &str) -> &mut Self {
        match dice.below(3) {
            0 if text.len() < 256 => self.op(0x8c).0.push(text.len() as u8),
            1 => {
                let length = dice.or_number(text.len() as u64);
                self.op(0x8d).0.extend(length.to_le_bytes());
            }
            _ => {
                let length = dice.or_number(text.len() as u64) as u32;
                self.op(b'X').0.extend(length.to_le_bytes());
            }
        }
        self.0.extend(text.bytes());
        self
    }

    fn global(&mut self, dice: &mut Dice, module: &str, name: &str) -> &mut Self {
        match dice.bad() {
            false => self
                .op(b'c')
                .0
                .extend(format!("{module}\n{name}\n").bytes()),
            true => {
                let (module, name) = (dice.or_text(module), dice.or_text(name));
                self.text(dice, &module).text(dice, &name).op(0x93);
            }
        }
        self
    }

    fn number(&mut self, dice: &mut Dice, usual: u64) -> &mut Self {
        let number = dice.or_number(usual);
        match dice.below(3) {
            0 => self
                .op(b'I')
                .0
                .extend(format!("{}\n", number as i64).bytes()),
            1 => {
                let bytes = number.to_le_bytes();
                self.op(0x8a).0.push(8);
                self.0.extend(bytes);
            }
            _ => self.op(b'J').0.extend((number as u32).to_le_bytes()),
        }
        self
    }

    /// `(2, 3)` and its strides, or others.
    fn tensor(&mut self, dice: &mut Dice) -> &mut Self {
        self.global(dice, "torch._utils", "_rebuild_tensor_v2")
            .op(b'(');
        self.op(b'(').text(dice, "storage");
        let class = *dice.pick(&[
            "FloatStorage",
            "FloatStorage",
            "HalfStorage",
            "LongStorage",
            "BoolStorage",
            "X",
        ]);
        self.global(dice, "torch", class)
            .text(dice, "0")
            .text(dice, "cpu");
        self.number(dice, 6).op(b't').op(b'Q');
        self.number(dice, 0);
        for usual in [[2, 3], [3, 1]] {
            self.op(b'(');
            for side in usual {
                self.number(dice, side);
            }
            if dice.bad() {
                for _ in 0..dice.below(100) {
                    self.number(dice, 1);
                }
            }
            self.op(b't');
        }
        self.op(0x89).op(b'}').op(b't').op(b'R')
    }
}

fn state_dict(dice: &mut Dice) -> Vec<u8> {
    let mut pickle = Pickle::new(dice);
    if dice.bad() {
        special(dice, &mut pickle);
    }
    let nested = dice.below(3) == 0;
    if nested {
        pickle.op(b'}').text(dice, "state_dict");
    }
    pickle.op(b'}').op(b'(');
    for name in [
        "logit_scale",
        "visual.proj",
        "a.self_attn.q_proj.weight",
        "a.self_attn.k_proj.weight",
        "a.self_attn.v_proj.weight",
    ] {
        let name = dice.or_text(name);
        pickle.text(dice, &name).tensor(dice);
        if dice.bad() {
            special(dice, &mut pickle);
        }
    }
    pickle.op(b'u');
    if nested {
        pickle.op(b's');
    }
    if dice.bad() {
        let noise = dice.noise(5);
        pickle.0.extend(noise);
    }
    pickle.op(b'.').0.clone()
}

/// What no checkpoint has: depth, circles, one thing many times over.
fn special(dice: &mut Dice, pickle: &mut Pickle) {
    let times = 1 << (4 + dice.below(14));
    let many =
        |pickle: &mut Pickle, opcodes: &[u8]| (0..times).for_each(|_| pickle.0.extend(opcodes));
    match dice.below(12) {
        0 => many(pickle, b"("),
        1 => many(pickle, b"]"),
        2 => {
            pickle.op(b')');
            many(pickle, &[0x85]); // a tuple of the one before
        }
        3 => {
            pickle.op(b']');
            many(pickle, b"2a"); // a list in itself
        }
        4 => {
            pickle.op(b'}').op(0x94);
            many(pickle, b"h\0h\0h\0s0"); // a dictionary in itself
        }
        5 => {
            // A long text in the memo, which is the name of a class again and again.
            pickle.text(dice, &"x".repeat(times)).op(b'q').op(0);
            many(pickle, b"h\0h\0\x93");
        }
        6 => {
            pickle
                .text(dice, &"x".repeat(times))
                .op(b'q')
                .op(0)
                .op(b'}')
                .op(b'(');
            many(pickle, b"h\0K\x01");
            pickle.op(b'u');
        }
        7 => {
            // One list of many sides for many tensors.
            pickle.op(b'(');
            many(pickle, b"K\x01");
            pickle.op(b't').op(b'q').op(0);
            pickle.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\nq\x01");
            pickle
                .0
                .extend(b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NNtQq\x02");
            many(pickle, b"h\x01(h\x02K\0h\0h\0tR");
        }
        8 => {
            // The same for the name of a storage.
            pickle.text(dice, &"x".repeat(times)).op(b'q').op(0);
            pickle.0.extend(b"ctorch\nFloatStorage\nq\x01");
            many(pickle, b"(Nh\x01h\0NNtQ");
        }
        9 => {
            pickle.0.extend(b"c__torch__\nM\n)\x81q\x00");
            many(pickle, b"}X\x01\0\0\0ah\0sb"); // a module that is its own attribute
        }
        10 => {
            let noise = dice.noise(40);
            pickle.0.extend(noise);
        }
        _ => {
            pickle.0.extend(b"cos\nsystem\n(X\x04\0\0\0exittR");
            many(pickle, b"N\x85R");
        }
    }
}

/// Magic number, protocol, system, object, keys, then the storages.
fn stream(dice: &mut Dice) -> Vec<u8> {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let mut file = vec![0x80, 2, 0x8a, 10];
    file.extend(magic);
    file.push(b'.');
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    file.extend(state_dict(dice));
    let mut keys = Pickle::new(dice);
    keys.op(b']');
    for _ in 0..1 + if dice.bad() { dice.below(3000) } else { 0 } {
        keys.text(dice, "0").op(b'a');
    }
    file.extend(keys.op(b'.').0.clone());
    file.extend(dice.or_number(6).to_le_bytes());
    file.extend([0; 24]);
    file
}

/// Stored entries with a directory behind them, any field of which may lie.
fn zip(dice: &mut Dice, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let name = dice.or_text(name);
        let name = &name.as_bytes()[..name.len().min(65_535)];
        let start = file.len() as u64;
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let flags = if dice.bad() { dice.number() as u16 } else { 0 };
        let method = if dice.bad() {
            *dice.pick(&[8u16, 12, 93, 99])
        } else {
            0
        };
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(flags.to_le_bytes());
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((dice.or_number(content.len() as u64) as u32).to_le_bytes());
        common.extend((dice.or_number(content.len() as u64) as u32).to_le_bytes());
        common.extend((dice.or_number(name.len() as u64) as u16).to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend((dice.or_number(0) as u16).to_le_bytes());
        file.extend(name);
        file.extend(content);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        let extra = if dice.bad() {
            let sizes = [dice.number(), dice.number(), dice.number()];
            let sizes = sizes.iter().flat_map(|size| size.to_le_bytes());
            [vec![1, 0, 24, 0], sizes.collect()].concat()
        } else {
            Vec::new()
        };
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend((dice.or_number(start) as u32).to_le_bytes());
        directory.extend(name);
        directory.extend(extra);
    }
    let start = dice.or_number(file.len() as u64);
    let count = entries.len() as u64;
    if dice.bad() {
        let at = (file.len() + directory.len()) as u64;
        directory.extend(b"PK\x06\x06");
        for number in [44, 45, 0, count, count, 0, start] {
            directory.extend(dice.or_number(number).to_le_bytes());
        }
        directory.extend(b"PK\x06\x07\0\0\0\0");
        directory.extend(dice.or_number(at).to_le_bytes());
        directory.extend(1u32.to_le_bytes());
    }
    let size = dice.or_number(directory.len() as u64) as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((dice.or_number(count) as u16).to_le_bytes());
    file.extend((dice.or_number(count) as u16).to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend((start as u32).to_le_bytes());
    file.extend((dice.or_number(0) as u16).to_le_bytes());
    file
}
