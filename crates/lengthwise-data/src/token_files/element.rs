//! How an id is stored.

/// The type of an id in a `.bin` file, by the numbers that Megatron-LM gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the types are what they are called")]
pub enum TokenType {
    U8,
    I8,
    I16,
    I32,
    I64,
    U16,
}

/// A vocabulary below this is stored in 16 bits; the number is Megatron-LM's.
const MOST_IN_16_BITS: usize = 65_500;

impl TokenType {
    /// The smaller of the two types that Megatron-LM writes which holds all ids below `vocab_size`.
    pub fn for_vocabulary(vocab_size: usize) -> Self {
        match vocab_size < MOST_IN_16_BITS {
            true => TokenType::U16,
            false => TokenType::I32,
        }
    }

    /// The type of a number in a header, or what it stands for instead.
    pub(crate) fn of_code(code: u8) -> Result<Self, &'static str> {
        match code {
            1 => Ok(TokenType::U8),
            2 => Ok(TokenType::I8),
            3 => Ok(TokenType::I16),
            4 => Ok(TokenType::I32),
            5 => Ok(TokenType::I64),
            8 => Ok(TokenType::U16),
            6 => Err("float64"),
            7 => Err("float32"),
            _ => Err("no type"),
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            TokenType::U8 => 1,
            TokenType::I8 => 2,
            TokenType::I16 => 3,
            TokenType::I32 => 4,
            TokenType::I64 => 5,
            TokenType::U16 => 8,
        }
    }

    /// The bytes of an id.
    pub const fn num_bytes(self) -> u64 {
        match self {
            TokenType::U8 | TokenType::I8 => 1,
            TokenType::I16 | TokenType::U16 => 2,
            TokenType::I32 => 4,
            TokenType::I64 => 8,
        }
    }

    /// Appends the ids of some bytes; a number that is no id is given back.
    pub(crate) fn decode(self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<(), i64> {
        let mut add = |number: i64| {
            ids.push(u32::try_from(number).map_err(|_| number)?);
            Ok(())
        };
        let two = || bytes.as_chunks::<2>().0.iter().copied();
        match self {
            TokenType::U8 => bytes.iter().try_for_each(|&byte| add(byte.into())),
            TokenType::I8 => bytes.iter().try_for_each(|&byte| add((byte as i8).into())),
            TokenType::I16 => two().try_for_each(|two| add(i16::from_le_bytes(two).into())),
            TokenType::U16 => {
                ids.extend(two().map(|two| u32::from(u16::from_le_bytes(two))));
                Ok(())
            }
            TokenType::I32 => {
                let mut four = bytes.as_chunks::<4>().0.iter().copied();
                four.try_for_each(|four| add(i32::from_le_bytes(four).into()))
            }
            TokenType::I64 => {
                let mut eight = bytes.as_chunks::<8>().0.iter().copied();
                eight.try_for_each(|eight| add(i64::from_le_bytes(eight)))
            }
        }
    }

    /// Appends the bytes of an id, which the type holds.
    pub(crate) fn encode(self, id: u32, bytes: &mut Vec<u8>) {
        match self {
            TokenType::U8 | TokenType::I8 => bytes.push(id as u8),
            TokenType::I16 | TokenType::U16 => bytes.extend((id as u16).to_le_bytes()),
            TokenType::I32 => bytes.extend(id.to_le_bytes()),
            TokenType::I64 => bytes.extend(u64::from(id).to_le_bytes()),
        }
    }
}
