//! What became of numbered packets, told from those that arrived.

/// The numbers that have arrived.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Lowest and highest number; `None`: nothing has come yet.
    span: Option<(u64, u64)>,
    /// Different numbers.
    distinct: u64,
    late: u64,
    duplicates: u64,
    /// A bit for each of the last numbers.
    recent: Vec<u64>,
}

/// How many numbers are remembered; what is older counts as late.
const MEMORY: u64 = 1 << 16;

impl Sequence {
    pub(super) fn new() -> Self {
        Self {
            span: None,
            distinct: 0,
            late: 0,
            duplicates: 0,
            recent: vec![0; (MEMORY / 64) as usize],
        }
    }

    /// Number `number` has arrived.
    pub(super) fn note(&mut self, number: u64) {
        let Some((lowest, highest)) = self.span else {
            self.span = Some((number, number));
            self.distinct = 1;
            self.mark(number, true);
            return;
        };
        if number > highest {
            // What is skipped has not come yet.
            for skipped in (highest + 1).max(number.saturating_sub(MEMORY - 1))..number {
                self.mark(skipped, false);
            }
            self.span = Some((lowest, number));
        } else if highest - number < MEMORY && number >= lowest && self.is_marked(number) {
            self.duplicates += 1;
            return;
        } else {
            self.late += 1;
            self.span = Some((lowest.min(number), highest));
        }
        self.distinct += 1;
        self.mark(number, true);
    }

    /// Numbers between the first and the last that have not come.
    pub(super) fn lost(&self) -> u64 {
        let all = self
            .span
            .map_or(0, |(lowest, highest)| highest - lowest + 1);
        all.saturating_sub(self.distinct)
    }

    /// Packets that came after one with a higher number.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Packets whose number had come before.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    fn mark(&mut self, number: u64, arrived: bool) {
        let (word, bit) = place(number);
        if let Some(word) = self.recent.get_mut(word) {
            match arrived {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }

    fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.recent.get(word).is_some_and(|word| word & bit != 0)
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = number % MEMORY;
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut sequence = Sequence::new();
        for number in numbers {
            sequence.note(number);
        }
        (sequence.lost(), sequence.late(), sequence.duplicates())
    }

    #[test]
    fn gaps_are_losses_until_they_are_filled() {
        assert_eq!(of([]), (0, 0, 0));
        assert_eq!(of(5..100_000), (0, 0, 0));
        assert_eq!(of([5, 6, 9]), (2, 0, 0));
        assert_eq!(of([5, 6, 9, 7]), (1, 1, 0));
        assert_eq!(of([5, 6, 6, 9, 5]), (2, 0, 2));
        assert_eq!(of([5, 3, 4]), (0, 2, 0));
    }

    #[test]
    fn a_long_gap_forgets_what_was_before() {
        let far = 10 * MEMORY;
        assert_eq!(of([1, far, far + MEMORY / 2]).0, far + MEMORY / 2 - 3);
        // The bit of far - 1 was that of an earlier number.
        assert_eq!(of((0..MEMORY).chain([far, far - 1])).2, 0);
        assert_eq!(of([0, far, 1]), (far - 2, 1, 0));
    }
}
