//! As much of protobuf's wire format as a SentencePiece model needs.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field that we read has.
    Wide,
}

/// The fields of a message in order, by number.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "not a SentencePiece model, or cut short".to_string()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Wide
            }
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).ok()?)?)
            }
            5 => Value::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_kind_are_read_and_a_cut_message_is_an_error() {
        let bytes = [8, 172, 2, 18, 2, b'h', b'i', 29, 0, 0, 128, 63];
        let fields: Vec<_> = Fields(&bytes).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Number(300)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Float(1.0)),
        ];
        assert_eq!(fields, expected);
        for end in [1, 2, 5, 10] {
            assert!(Fields(&bytes[..end]).any(|field| field.is_err()), "{end}");
        }
        assert!(Fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).any(|field| field.is_err()));
    }
}
