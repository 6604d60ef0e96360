//! PyTorch's checkpoints: zip archives, TorchScript's among them, and the older streams.
//!
//! Half of the files are put together as `torch.save` does it, and what they hold is hostile: they get past the reader's first
//! look. The others also lie in their opcodes, lengths and directories.

mod archive;
mod opcodes;

use crate::tensors::read_all;
use crate::{Dice, Said};
use opcodes::{CLASSES, Pickle, STORAGE};

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let lies = dice.below(2) == 0;
    let file = match dice.below(3) {
        0 => stream(dice, lies),
        _ => zipped(dice, lies),
    };
    let file = match lies {
        true => dice.mangled(file),
        false => file,
    };
    let path = said.write("model.pt", file);
    read_all(said, &path);
}

/// The entries of an archive; more of them where a choice is hostile.
fn zipped(dice: &mut Dice, lies: bool) -> Vec<u8> {
    let script = dice.below(4) == 0;
    let pickle = match script {
        true => module(dice, lies),
        false => checkpoint(dice, lies),
    };
    let root = *dice.pick(&["archive/", "", "a/b/"]);
    let mut entries = vec![
        ("data.pkl".to_string(), pickle),
        (".format_version".into(), b"1".to_vec()),
        ("byteorder".into(), b"little".to_vec()),
        ("version".into(), b"3\n".to_vec()),
    ];
    entries.extend((0..CLASSES.len()).map(|key| (format!("data/{key}"), vec![0; STORAGE])));
    if script {
        entries.push(("constants.pkl".into(), b"\x80\x02).".to_vec()));
    }
    for (name, _) in &mut entries {
        *name = format!("{root}{name}");
    }
    if dice.bad() {
        let (name, content) = (dice.text(), dice.noise(9));
        entries.push((name, content));
    }
    if dice.bad() {
        entries[2].1 = dice.text().into_bytes();
    }
    if dice.bad() {
        let (one, other) = (dice.below(entries.len()), dice.below(entries.len()));
        entries.swap(one, other);
    }
    if lies && dice.bad() {
        let again = entries[dice.below(entries.len())].clone();
        entries.push(again);
    }
    match lies {
        true => archive::zip(dice, &entries),
        false => dice.honestly(|dice| archive::zip(dice, &entries)),
    }
}

/// Weights of a dictionary, alone or beside what trainers keep.
fn checkpoint(dice: &mut Dice, lies: bool) -> Vec<u8> {
    let mut pickle = Pickle::new(dice, lies);
    if lies && dice.bad() {
        broken(dice, &mut pickle);
    }
    let beside = match dice.below(3) {
        0 => 0,
        _ => 1 + dice.below(3),
    };
    if beside > 0 {
        pickle.op(b'}').op(b'(');
        for number in 0..beside {
            pickle.text(dice, &format!("part {number}"));
            special(dice, &mut pickle);
        }
        let key = *dice.pick(&["state_dict", "model", "module", "model_state_dict"]);
        pickle.text(dice, key);
    }
    state_dict(dice, &mut pickle);
    if beside > 0 {
        pickle.op(b'u');
    }
    if lies && dice.bad() {
        let noise = dice.noise(5);
        pickle.bytes.extend(noise);
    }
    pickle.end()
}

fn state_dict(dice: &mut Dice, pickle: &mut Pickle) {
    let ordered = dice.below(2) == 0;
    match ordered {
        true => pickle
            .global(dice, "collections", "OrderedDict")
            .op(b')')
            .op(b'R'),
        false => pickle.op(b'}'),
    };
    pickle.op(b'(');
    let wrapper = *dice.pick(&["", "", "module."]);
    for name in ["visual.conv1.weight", "visual.class_embedding"] {
        pickle.text(dice, &format!("{wrapper}{name}")).tensor(dice);
    }
    for name in ["logit_scale", "visual.proj", "text_projection", "x"] {
        let name = dice.or_text(&format!("{wrapper}{name}"));
        pickle.text(dice, &name).tensor(dice);
        if pickle.lies && dice.bad() {
            broken(dice, pickle);
        }
    }
    pickle.op(b'u');
    if ordered {
        // What PyTorch says of versions is an attribute.
        pickle.op(b'}').text(dice, "_metadata").op(b'}');
        pickle.op(b's').op(b'b');
    }
}

/// Nested modules of a TorchScript archive.
fn module(dice: &mut Dice, lies: bool) -> Vec<u8> {
    let mut pickle = Pickle::new(dice, lies);
    let open = |dice: &mut Dice, pickle: &mut Pickle| {
        pickle.global(dice, "__torch__.open_clip", "Module");
        pickle.op(b')').op(0x81).op(b'}').op(b'(');
    };
    open(dice, &mut pickle);
    pickle.text(dice, "logit_scale").tensor(dice);
    if dice.bad() {
        let name = dice.text();
        pickle.text(dice, &name);
        special(dice, &mut pickle);
    }
    pickle.text(dice, "visual");
    open(dice, &mut pickle);
    pickle.text(dice, "class_embedding").tensor(dice);
    pickle.text(dice, "conv1");
    open(dice, &mut pickle);
    pickle.text(dice, "weight").tensor(dice);
    pickle.op(b'u').op(b'b');
    if dice.bad() {
        // One module under many names.
        pickle.bytes.extend(b"q\xfe");
        for number in 0..1 << dice.below(14) {
            pickle.text(dice, &format!("n{number}")).op(b'h').op(0xfe);
        }
    }
    pickle.op(b'u').op(b'b').op(b'u').op(b'b');
    pickle.end()
}

/// One value that no checkpoint has: depth, circles, one thing many times over.
fn special(dice: &mut Dice, pickle: &mut Pickle) {
    if !dice.bad() {
        pickle.number(dice, 3);
        return;
    }
    let times = 1 << (4 + dice.below(14));
    let long = "x".repeat(times);
    let many =
        |pickle: &mut Pickle, opcodes: &[u8]| (0..times).for_each(|_| pickle.bytes.extend(opcodes));
    match dice.below(9) {
        0 => {
            many(pickle, b"]");
            pickle.bytes.extend(vec![b'a'; times - 1]);
        }
        1 => {
            pickle.op(b')');
            many(pickle, &[0x85]); // a tuple of the one before
        }
        2 => {
            pickle.op(b']');
            many(pickle, b"2a"); // a list in itself
        }
        3 => {
            pickle.bytes.extend(b"}q\xff");
            many(pickle, b"h\xffh\xffh\xffs0"); // a dictionary in itself
        }
        4 => {
            // A long text in the memo, which is the name of a class again and again.
            pickle.text(dice, &long).bytes.extend(b"q\xff");
            many(pickle, b"h\xffh\xff\x930");
        }
        5 => {
            pickle.text(dice, &long).bytes.extend(b"q\xff0}(");
            many(pickle, b"h\xffK\x01");
            pickle.op(b'u');
        }
        6 => {
            pickle.bytes.extend(b"c__torch__\nM\n)\x81q\xff");
            many(pickle, b"}X\x01\0\0\0ah\xffsb"); // a module that is its own attribute
        }
        7 => {
            pickle.bytes.extend(b"cos\nsystem\n(X\x04\0\0\0exittR");
            many(pickle, b"N\x85R");
        }
        _ => {
            // Tensors of one storage, which is there once.
            pickle.op(b']');
            for _ in 0..times.min(1 << 10) {
                pickle.tensor(dice).op(b'a');
            }
        }
    }
}

/// What leaves the stack in disorder, or is refused by itself.
fn broken(dice: &mut Dice, pickle: &mut Pickle) {
    let times = 1 << (4 + dice.below(14));
    let many =
        |pickle: &mut Pickle, opcodes: &[u8]| (0..times).for_each(|_| pickle.bytes.extend(opcodes));
    match dice.below(5) {
        0 => many(pickle, b"("),
        1 => many(pickle, b"]"),
        2 => {
            // One list of many sides for many tensors.
            pickle.op(b'(');
            many(pickle, b"K\x01");
            let tensors = b"tq\xffctorch._utils\n_rebuild_tensor_v2\nq\xfe";
            pickle.bytes.extend(tensors);
            pickle
                .bytes
                .extend(b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NNtQq\xfd");
            many(pickle, b"h\xfe(h\xfdK\0h\xffh\xfftR");
        }
        3 => {
            // The name of a storage.
            let long = "x".repeat(times);
            pickle.text(dice, &long).bytes.extend(b"q\xff");
            pickle.bytes.extend(b"ctorch\nFloatStorage\nq\xfe");
            many(pickle, b"(Nh\xfeh\xffNNtQ");
        }
        _ => {
            let noise = dice.noise(40);
            pickle.bytes.extend(noise);
        }
    }
}

/// Magic number, protocol, system, object, keys, then the storages.
fn stream(dice: &mut Dice, lies: bool) -> Vec<u8> {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let mut file = vec![0x80, 2, 0x8a, 10];
    file.extend(magic);
    file.push(b'.');
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    let (object, named) = {
        let mut pickle = Pickle::new(dice, lies);
        state_dict(dice, &mut pickle);
        let named = pickle.classes.clone();
        (pickle.end(), named)
    };
    file.extend(object);
    let mut keys = Pickle::new(dice, lies);
    keys.op(b']');
    let more = if lies && dice.bad() {
        dice.below(3000)
    } else {
        0
    };
    for key in named.iter().chain(std::iter::repeat_n(&named[0], more)) {
        keys.text(dice, &key.to_string()).op(b'a');
    }
    file.extend(keys.end());
    for key in named {
        let count = (STORAGE / CLASSES[key].1) as u64;
        let count = if lies { dice.or_number(count) } else { count };
        file.extend(count.to_le_bytes());
        file.extend([0; STORAGE]);
    }
    file
}
