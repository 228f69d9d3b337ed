//! Mutations of inputs, from a stream of numbers that depends on its seed alone.

/// The longest input, in bytes.
const LONGEST: usize = 64 * 1024;

/// Bytes at the ends of ranges.
const EDGES: [u8; 10] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF, b'0', b'"', b';', b','];

/// A stream of numbers (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins the stream of a name.
    pub fn of(name: &str) -> Self {
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self(hash | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `end`; zero if that is zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below(length - start + 1)
    }
}

/// Makes an input from one of `seeds` by one to four mutations.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = seeds.get(random.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        mutate(random, &mut input, seeds, words);
    }
    input.truncate(LONGEST);
    input
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let length = input.len();
    let at = random.below(length);
    match random.below(14) {
        0 if length > 0 => input[at] ^= 1 << random.below(8),
        1 if length > 0 => input[at] = EDGES[random.below(EDGES.len())],
        2 if length > 0 => input[at] = random.byte(),
        3 if length > 0 => input[at] = input[at].wrapping_add([1, 255][random.below(2)]),
        4 => input.truncate(at),
        5 => drop(input.drain(random.range(length))),
        6 => input.insert(at, random.byte()),
        7 => {
            let count = 1 + random.below(16);
            input.splice(at..at, (0..count).map(|_| random.byte()));
        }
        // Repeats a part, rarely very often.
        8 => {
            let part = input[random.range(length)].to_vec();
            let times = if random.below(64) == 0 { random.below(4096) } else { random.below(8) };
            let repeated = part.repeat(times.min(LONGEST / part.len().max(1)));
            input.splice(at..at, repeated);
        }
        // Splices two inputs.
        9 => {
            let other = &seeds[random.below(seeds.len())];
            let part = other[random.range(other.len())].to_vec();
            let end = (at + random.below(part.len() + 1)).min(length);
            input.splice(at..end, part);
        }
        // Writes a length, in one to eight bytes of either order.
        10 => {
            let edges = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 31, u64::MAX, 1 << 63, 1 << 20];
            let number = edges[random.below(edges.len())].wrapping_sub(random.below(3) as u64);
            let width = 1 << random.below(4);
            let bytes = if random.below(2) == 0 {
                number.to_be_bytes()[8 - width..].to_vec()
            } else {
                number.to_le_bytes()[..width].to_vec()
            };
            let end = (at + width).min(length);
            input.splice(at..end, bytes);
        }
        11 | 12 if !words.is_empty() => {
            let word = words[random.below(words.len())];
            let end = if random.below(2) == 0 { at } else { (at + word.len()).min(length) };
            input.splice(at..end, word.bytes());
        }
        _ => {
            let part = input[random.range(length)].to_vec();
            let end = (at + part.len()).min(length);
            input.splice(at..end, part);
        }
    }
}
