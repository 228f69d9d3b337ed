//! Values made of an input. An input that is too short gives zeros, so that each input means something.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Takes a byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Takes a choice.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Takes eight bytes.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Takes a number of any size.
    pub fn integer(&mut self) -> i64 {
        match self.byte() % 4 {
            0 => i64::from(self.byte()),
            1 => -i64::from(self.byte()),
            2 => i64::MIN.wrapping_add(i64::from(self.byte()).wrapping_sub(128)),
            _ => self.number().cast_signed(),
        }
    }

    /// Takes a length, and so many bytes if there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// Takes a length, and a text of so many bytes.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// Takes a value or nothing.
    pub fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| take(self))
    }

    /// Takes at most seven values.
    pub fn list<T, C: FromIterator<T>>(&mut self, mut take: impl FnMut(&mut Self) -> T) -> C {
        (0..self.byte() % 8).map(|_| take(self)).collect()
    }
}
