//! Numbers of JSON as the built-in functions, keys and results see them: integers are exact, everything else is a double.
//!
//! Invariant: there is one order of numbers, by their exact size, and it is total: an integer and a double are never
//! compared as two doubles, for then two integers that differ could both equal a third number.

use std::cmp::Ordering;

/// 2^127: the least double beyond 128-bit integers.
const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

/// A number. Two are equal if they have the same size, however they are written: `1` and `1.0`, `0` and `-0.0`.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// An integer within 128 bits.
    Int(i128),
    /// Any other number.
    Float(f64),
}

impl Number {
    /// Reads JSON's spelling of a number. An integer beyond 128 bits is the double next to it; `None` also for what no
    /// double can hold.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        if !plain || !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return None;
        }
        let int = text.parse().ok().map(Self::Int);
        int.or_else(|| {
            text.parse()
                .ok()
                .filter(|float: &f64| float.is_finite())
                .map(Self::Float)
        })
    }

    /// The double next to it.
    #[must_use]
    pub fn as_float(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// The greatest integer that is not above it; `None` if that is beyond 128 bits.
    #[must_use]
    pub fn floor(self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(int),
            Self::Float(float) if (-BEYOND..BEYOND).contains(&float) => Some(float.floor() as i128),
            Self::Float(_) => None,
        }
    }

    /// Its JSON; `null` if it is not finite.
    #[must_use]
    pub fn json(self) -> String {
        match self {
            Self::Int(int) => int.to_string(),
            Self::Float(float) => serde_json::Value::from(float).to_string(),
        }
    }
}

/// Compares without rounding: first with what is whole of the double, which an integer can hold, then with its fraction.
fn compare(int: i128, float: f64) -> Ordering {
    if float >= BEYOND {
        Ordering::Less
    } else if float < -BEYOND {
        Ordering::Greater
    } else if float.is_nan() {
        // Nothing reads as one; it stands where `total_cmp` has it.
        0.0_f64.total_cmp(&float)
    } else {
        let fraction = float - float.trunc();
        int.cmp(&(float.trunc() as i128))
            .then(0.0_f64.total_cmp(&(fraction + 0.0)))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Int(a), Self::Float(b)) => compare(*a, *b),
            (Self::Float(a), Self::Int(b)) => compare(*b, *a).reverse(),
            // The two zeros are equal.
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).unwrap_or_else(|| a.total_cmp(b)),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn an_integer_and_a_double_are_compared_without_rounding() {
        for (less, greater) in [
            ("9007199254740992.0", "9007199254740993"),
            ("9007199254740993", "9007199254740994.0"),
            ("-9007199254740993", "-9007199254740992.0"),
            ("1", "1.5"),
            ("-1.5", "-1"),
            ("-1", "-0.5"),
            ("0", "5e-324"),
            ("-5e-324", "0"),
            ("170141183460469231731687303715884105727", "1.7014118346046923e38"),
            ("-1.7014118346046928e38", "-170141183460469231731687303715884105728"),
            ("-1e300", "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(of(less).cmp(&of(greater)), Ordering::Less, "{less} {greater}");
            assert_eq!(of(greater).cmp(&of(less)), Ordering::Greater, "{less} {greater}");
        }
        for (one, same) in [
            ("1", "1.0"),
            ("0", "-0.0"),
            ("0.0", "-0.0"),
            ("9007199254740992", "9007199254740992.0"),
            ("-170141183460469231731687303715884105728", "-1.7014118346046923e38"),
        ] {
            assert_eq!(of(one), of(same));
        }
    }

    #[test]
    fn what_no_double_holds_is_no_number() {
        for text in [
            "1e400", "-1e400", "", "x", "\"1\"", "nan", "inf", "-inf", "+1", "1-2", "-",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_floor_of_what_fits_is_exact() {
        assert_eq!(of("-0.5").floor(), Some(-1));
        assert_eq!(of("1e17").floor(), Some(100_000_000_000_000_000));
        assert_eq!(of("-1.7014118346046923e38").floor(), Some(i128::MIN));
        assert_eq!(of("1.7014118346046923e38").floor(), None);
    }

    /// The exact decimal digits of a number: its sign, what is whole, and its fraction.
    fn digits(number: Number) -> (bool, String, String) {
        let text = match number {
            Number::Int(int) => format!("{int}."),
            // A double has at most 1,074 places, and all of them are written.
            Number::Float(float) => format!("{float:.1080}"),
        };
        let (whole, fraction) = text.split_once('.').unwrap();
        let bare = whole.trim_start_matches('-').trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let negative = whole.starts_with('-') && !(bare.is_empty() && fraction.is_empty());
        (negative, bare, fraction)
    }

    fn by_digits(a: Number, b: Number) -> Ordering {
        let ((a_negative, a, a_fraction), (b_negative, b, b_fraction)) = (digits(a), digits(b));
        let size = (a.len(), a, a_fraction).cmp(&(b.len(), b, b_fraction));
        match (a_negative, b_negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }

    /// Numbers that are near each other, and near where integers and doubles part.
    fn numbers() -> impl Strategy<Value = Number> {
        let edges = prop::sample::select(vec![
            0_i128,
            1 << 53,
            -(1 << 53),
            1 << 64,
            1 << 100,
            i128::MAX,
            i128::MIN,
        ]);
        let near = (edges, -3..=3_i128).prop_map(|(edge, step)| edge.saturating_add(step));
        prop_oneof![
            near.clone().prop_map(Number::Int),
            near.clone().prop_map(|int| Number::Float(int as f64)),
            (near, -2.0..2.0).prop_map(|(int, part)| Number::Float(int as f64 + part)),
            any::<i128>().prop_map(Number::Int),
            any::<i64>().prop_map(|int| Number::Float(int as f64)),
            (prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO).prop_map(Number::Float),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_order_is_that_of_exact_arithmetic(a in numbers(), b in numbers()) {
            prop_assert_eq!(a.cmp(&b), by_digits(a, b), "{:?} {:?}", a, b);
        }

        #[test]
        fn what_is_written_reads_as_the_same_number(a in numbers()) {
            prop_assert_eq!(Number::parse(&a.json()), Some(a));
        }
    }
}
