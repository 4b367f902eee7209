//! What can be said about figures that scatter.
//!
//! Systems are measured in turn, so the figures of one round belong together: whatever else the
//! machine did at that time met all of them. The interval of a ratio therefore comes from drawing
//! whole rounds again and again (the bootstrap), never single figures.

use std::cmp::Ordering;

use serde::Serialize;

/// Which figures are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Large ones, such as throughput.
    Higher,
    /// Small ones, such as latency.
    Lower,
}

/// The figures of all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// How many times as good as the baseline: above 1 is better, whichever figures are good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Of the medians.
    pub value: f64,
    /// Where the interval begins that holds the true one with 95 % confidence.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

/// What a [`Ratio`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better than the baseline.
    Faster,
    /// Worse.
    Slower,
    /// Neither, though a difference beyond [`WIDE`] would have shown.
    NoDifferenceShown,
    /// A difference might hide in the noise.
    TooNoisy,
    /// Fewer than [`FEWEST_ROUNDS`] rounds.
    TooFewRounds,
}

/// An interval that reaches further than this from its ratio is too wide to show that there is no
/// difference.
pub const WIDE: f64 = 0.15;
/// The fewest rounds that say anything about scatter.
pub const FEWEST_ROUNDS: usize = 3;
/// How often rounds are drawn anew.
const DRAWS: usize = 4000;
const SEED: u64 = 0x7a95_317c;

/// The middle and the ends of `values`; `None` without any.
pub fn summary(values: &[f64]) -> Option<Summary> {
    let mut sorted = values.to_vec();
    let median = median(&mut sorted)?;
    Some(Summary {
        median,
        min: *sorted.first()?,
        max: *sorted.last()?,
    })
}

/// The ratio of `system` to `baseline`, whose figures of the same round have the same index; rounds
/// in which one of them failed do not count. `None` if no round is left, or figures are not positive.
pub fn ratio(
    better: Better,
    baseline: &[Option<f64>],
    system: &[Option<f64>],
) -> Option<(Ratio, usize)> {
    let pairs = baseline.iter().zip(system);
    let pairs: Vec<(f64, f64)> = pairs.filter_map(|(&b, &s)| b.zip(s)).collect();
    if pairs.iter().any(|&(b, s)| b <= 0.0 || s <= 0.0) {
        return None;
    }
    let value = of_medians(better, &pairs)?;
    let mut random = Random(SEED);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let draw = |_| pairs.get(random.below(pairs.len())).copied();
            let sample: Vec<_> = (0..pairs.len()).filter_map(draw).collect();
            of_medians(better, &sample)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    // 2.5 % of the draws are below, and 2.5 % above.
    let low = *drawn.get(DRAWS / 40)?;
    let high = *drawn.get(DRAWS - 1 - DRAWS / 40)?;
    Some((Ratio { value, low, high }, pairs.len()))
}

/// What `ratio` over so many rounds shows; `noisy`: the machine did other things meanwhile.
pub fn verdict(ratio: Ratio, rounds: usize, noisy: bool) -> Verdict {
    let Ratio { value, low, high } = ratio;
    if rounds < FEWEST_ROUNDS {
        return Verdict::TooFewRounds;
    }
    if noisy {
        return Verdict::TooNoisy;
    }
    if low > 1.0 {
        return Verdict::Faster;
    }
    if high < 1.0 {
        return Verdict::Slower;
    }
    let is_wide = low < value * (1.0 - WIDE) || high > value * (1.0 + WIDE);
    match is_wide {
        true => Verdict::TooNoisy,
        false => Verdict::NoDifferenceShown,
    }
}

/// Jain's index of fairness: 1 if all shares are equal, `1/n` if one has everything.
pub fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    match squares.total_cmp(&0.0) {
        Ordering::Greater => sum * sum / (squares * count(shares)),
        _ => 0.0,
    }
}

fn of_medians(better: Better, pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut baseline, mut system): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    let (baseline, system) = (median(&mut baseline)?, median(&mut system)?);
    Some(match better {
        Better::Higher => system / baseline,
        Better::Lower => baseline / system,
    })
}

/// Sorts `values`.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let is_odd = values.len() % 2 == 1;
    let lower = match is_odd {
        true => upper,
        false => *values.get(values.len() / 2 - 1)?,
    };
    Some(f64::midpoint(lower, upper))
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(values: &[f64]) -> f64 {
    values.len() as f64
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let product = u128::from(self.next()) * limit as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| summary(values).unwrap();
        assert_eq!(
            of(&[3.0, 1.0, 2.0]),
            Summary {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn a_ratio_is_above_one_for_what_is_better() {
        let (slow, quick) = (some(&[1.0, 1.0, 1.0]), some(&[2.0, 2.0, 2.0]));
        let (ratio_of, rounds) = ratio(Better::Higher, &slow, &quick).unwrap();
        assert_eq!(
            (ratio_of.value, ratio_of.low, ratio_of.high),
            (2.0, 2.0, 2.0)
        );
        assert_eq!(rounds, 3);
        let (ratio_of, _) = ratio(Better::Lower, &slow, &quick).unwrap();
        assert_eq!(ratio_of.value, 0.5);
    }

    #[test]
    fn what_meets_all_systems_of_a_round_does_not_widen_the_interval() {
        // The machine got slower and slower, and one system is always twice the other.
        let base = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0];
        let twice = base.map(|value| 2.0 * value);
        let (ratio_of, _) = ratio(Better::Higher, &some(&base), &some(&twice)).unwrap();
        assert_eq!((ratio_of.low, ratio_of.high), (2.0, 2.0));
    }

    #[test]
    fn the_interval_holds_the_ratio_and_is_the_same_each_time() {
        let base = some(&[10.0, 11.0, 9.0, 10.5, 9.5, 10.2, 9.8]);
        let other = some(&[12.0, 11.0, 13.0, 12.5, 11.5, 12.2, 11.8]);
        let first = ratio(Better::Higher, &base, &other).unwrap().0;
        assert!(
            first.low < first.value && first.value < first.high,
            "{first:?}"
        );
        assert!(first.low > 1.0 && first.high < 1.45, "{first:?}");
        assert_eq!(ratio(Better::Higher, &base, &other).unwrap().0, first);
    }

    #[test]
    fn rounds_that_failed_do_not_count() {
        let base = [Some(1.0), None, Some(1.0), Some(1.0)];
        let other = [Some(3.0), Some(9.0), None, Some(3.0)];
        let (ratio_of, rounds) = ratio(Better::Higher, &base, &other).unwrap();
        assert_eq!((ratio_of.value, rounds), (3.0, 2));
        assert!(ratio(Better::Higher, &[None], &[Some(1.0)]).is_none());
        assert!(ratio(Better::Higher, &[Some(0.0)], &[Some(1.0)]).is_none());
    }

    #[test]
    fn a_verdict_needs_rounds_and_quiet() {
        let of = |low, high| Ratio {
            value: f64::midpoint(low, high),
            low,
            high,
        };
        for (low, high, expected) in [
            (1.05, 1.2, Verdict::Faster),
            // Wide, and still clear.
            (1.5, 3.0, Verdict::Faster),
            (0.7, 0.9, Verdict::Slower),
            (0.95, 1.05, Verdict::NoDifferenceShown),
            (0.8, 1.2, Verdict::TooNoisy),
        ] {
            assert_eq!(verdict(of(low, high), 7, false), expected);
            assert_eq!(verdict(of(low, high), 7, true), Verdict::TooNoisy);
            assert_eq!(verdict(of(low, high), 2, false), Verdict::TooFewRounds);
        }
    }

    #[test]
    fn fairness_goes_from_one_to_one_nth() {
        assert_eq!(fairness(&[2.0, 2.0, 2.0, 2.0]), 1.0);
        assert_eq!(fairness(&[8.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(fairness(&[]), 0.0);
    }

    #[test]
    fn all_numbers_below_a_limit_come_about_equally_often() {
        let mut random = Random(SEED);
        let mut counts = [0; 7];
        for _ in 0..7000 {
            counts[random.below(7)] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
