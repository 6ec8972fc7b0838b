//! Kubernetes' `resource.Quantity` (apimachinery v0.37): parsing, rounding and the canonical form.
//!
//! The amount is held in units of 10⁻⁹, which is also upstream's finest grain (anything finer is rounded up, away from
//! zero), so no number is ever a float. What upstream does beyond 64 bits is not copied: there, `Value()` of a too large
//! number is 0 or wraps; here [`Quantity::value`] and [`Quantity::milli_value`] saturate.

use std::cmp::Ordering;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// 1 in the unit of [`Quantity::nano`].
const ONE: i128 = 1_000_000_000;
/// Beyond this (10²⁹) an amount saturates.
const MAX_NANO: i128 = ONE * 100_000_000_000_000_000_000_000_000_000;
/// Digits after the point of a number with a binary suffix that count; what follows is rounded up.
const BINARY_FRACTION_DIGITS: usize = 18;

/// Which family of suffixes the amount was written with; it is printed with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12M`.
    DecimalSi,
    /// `12Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// An amount of a resource. Two are equal when they are the same amount, however written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is not a quantity; upstream's `ErrFormatWrong` and `ErrSuffix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("{0:?} is not a quantity: expected a number and an optional suffix, such as 500m, 1.5 or 64Mi")]
    Format(String),
    /// A number, but the suffix is none of Kubernetes'.
    #[error(
        "{0:?} is not a quantity: its suffix is none of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, e<number>"
    )]
    Suffix(String),
}

impl Quantity {
    /// Nothing, in decimal notation.
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// `ParseQuantity`. Like upstream it takes a missing number for 0 (`Ki`, `+`, `.`).
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = split(text).ok_or_else(|| QuantityError::Format(shortened(text)))?;
        let suffix = interpret(parts.suffix).ok_or_else(|| QuantityError::Suffix(shortened(text)))?;
        let (magnitude, format) = match suffix {
            Suffix::Decimal(exponent, format) => (decimal_nano(parts.whole, parts.fraction, exponent), format),
            Suffix::Binary(shift) => {
                let nano = binary_nano(parts.whole, parts.fraction, shift);
                // Upstream prints a fraction of one in decimal, to avoid rounding it.
                (nano, if nano > 0 && nano < ONE { Format::DecimalSi } else { Format::BinarySi })
            }
        };
        Ok(Self { nano: if parts.negative { -magnitude } else { magnitude }, format })
    }

    /// What stands in an API object; like upstream's JSON decoder, blanks around it do not count.
    pub fn from_api(quantity: &ApiQuantity) -> Result<Self, QuantityError> {
        Self::parse(quantity.0.trim())
    }

    /// `value` units.
    pub const fn from_units(value: i64, format: Format) -> Self {
        Self { nano: value as i128 * ONE, format }
    }

    /// `milli` thousandths of a unit.
    pub const fn from_milli(milli: i64, format: Format) -> Self {
        Self { nano: milli as i128 * (ONE / 1000), format }
    }

    /// In whole units, rounded away from zero; the ends of `i64` when it is beyond them.
    pub fn value(self) -> i64 {
        saturate(divide_away(self.nano, ONE))
    }

    /// In thousandths, rounded away from zero; the ends of `i64` when it is beyond them.
    pub fn milli_value(self) -> i64 {
        saturate(divide_away(self.nano, ONE / 1000))
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nano % ONE == 0
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is less than 0.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// How often `divisor` fits in, rounded up, counted in whole units: `resourceFieldRef` of memory. A divisor of 0 is 1.
    pub fn divided(self, divisor: Self) -> i64 {
        quotient(self.value(), divisor.value())
    }

    /// How often `divisor` fits in, rounded up, counted in thousandths: `resourceFieldRef` of cpu. A divisor of 0 is 1.
    pub fn divided_milli(self, divisor: Self) -> i64 {
        let by = if divisor.is_zero() { 1000 } else { divisor.milli_value() };
        quotient(self.milli_value(), by)
    }

    /// The sum, in this one's notation (in the other's when this one is 0, as upstream's `Add`).
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let nano = self.nano.saturating_add(other.nano).clamp(-MAX_NANO, MAX_NANO);
        Self { nano, format: if self.is_zero() { other.format } else { self.format } }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// The canonical form: no fraction, no precision lost, the largest suffix that allows for both.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let units = self.nano / ONE;
        match self.format {
            // Small and broken numbers are printed in decimal so that nothing is rounded.
            Format::BinarySi if units.abs() >= 1024 && self.is_whole() => {
                let (number, times) = strip_factors(units, 1024, 6);
                let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(times).copied().unwrap_or_default();
                write!(f, "{number}{suffix}")
            }
            Format::BinarySi | Format::DecimalSi => {
                let (number, times) = strip_factors(self.nano, 1000, 9);
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"].get(times).copied().unwrap_or_default();
                write!(f, "{number}{suffix}")
            }
            Format::DecimalExponent => {
                let (number, times) = strip_factors(self.nano, 1000, usize::MAX);
                match times {
                    3 => write!(f, "{number}"),
                    below @ 0..3 => write!(f, "{number}e-{}", 9 - 3 * below),
                    above => write!(f, "{number}e{}", 3 * (above - 3)),
                }
            }
        }
    }
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// Sign, digits, point, digits, letters and the exponent's digits; None where anything else follows.
fn split(text: &str) -> Option<Parts<'_>> {
    if text.is_empty() {
        return None;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, rest) = split_while(unsigned, |byte| byte.is_ascii_digit());
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(after) => split_while(after, |byte| byte.is_ascii_digit()),
        None => ("", rest),
    };
    let (_, exponent) = split_while(suffix, |byte| b"eEinumkKMGTP".contains(&byte));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(Parts {
        negative: text.starts_with('-'),
        whole,
        fraction,
        suffix,
    })
}

fn split_while(text: &str, take: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !take(byte)).unwrap_or(text.len());
    text.split_at(end)
}

enum Suffix {
    /// A power of ten.
    Decimal(i32, Format),
    /// A power of two.
    Binary(u32),
}

fn interpret(suffix: &str) -> Option<Suffix> {
    Some(match suffix {
        "n" => Suffix::Decimal(-9, Format::DecimalSi),
        "u" => Suffix::Decimal(-6, Format::DecimalSi),
        "m" => Suffix::Decimal(-3, Format::DecimalSi),
        "" => Suffix::Decimal(0, Format::DecimalSi),
        "k" => Suffix::Decimal(3, Format::DecimalSi),
        "M" => Suffix::Decimal(6, Format::DecimalSi),
        "G" => Suffix::Decimal(9, Format::DecimalSi),
        "T" => Suffix::Decimal(12, Format::DecimalSi),
        "P" => Suffix::Decimal(15, Format::DecimalSi),
        "E" => Suffix::Decimal(18, Format::DecimalSi),
        "Ki" => Suffix::Binary(10),
        "Mi" => Suffix::Binary(20),
        "Gi" => Suffix::Binary(30),
        "Ti" => Suffix::Binary(40),
        "Pi" => Suffix::Binary(50),
        "Ei" => Suffix::Binary(60),
        other => {
            let exponent: i64 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Far beyond what can be held either way.
            Suffix::Decimal(exponent.clamp(-1_000_000, 1_000_000) as i32, Format::DecimalExponent)
        }
    })
}

/// `whole.fraction × 10^exponent` in units of 10⁻⁹, rounded up, at most [`MAX_NANO`].
fn decimal_nano(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // The number of digits, from the first one of `whole` on, that stand before the nano unit's point.
    let kept = whole.len() as i64 + i64::from(exponent) + 9;
    let mut nano: i128 = 0;
    let mut position: i64 = 0;
    let mut more = false;
    for digit in whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0')) {
        if position < kept {
            nano = nano.saturating_mul(10).saturating_add(digit).min(MAX_NANO);
        } else {
            more |= digit != 0;
        }
        position += 1;
    }
    while nano != 0 && nano < MAX_NANO && position < kept {
        nano = nano.saturating_mul(10).min(MAX_NANO);
        position += 1;
    }
    (nano + i128::from(more)).min(MAX_NANO)
}

/// `whole.fraction × 2^shift` in units of 10⁻⁹, rounded up, at most upstream's cap for this notation, 2⁶³-1 units.
fn binary_nano(whole: &str, fraction: &str, shift: u32) -> i128 {
    let cap = i128::from(i64::MAX) * ONE;
    let mut units: i128 = 0;
    for digit in whole.bytes().map(|byte| i128::from(byte - b'0')) {
        units = (units * 10 + digit).min(i128::from(i64::MAX));
    }
    let mut part: i128 = 0;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(BINARY_FRACTION_DIGITS);
    for digit in digits {
        part = part * 10 + i128::from(digit - b'0');
    }
    part += i128::from(fraction.bytes().skip(BINARY_FRACTION_DIGITS).any(|digit| digit != b'0'));
    let from_units = units.saturating_mul(1 << shift).min(i128::from(i64::MAX)) * ONE;
    // part ≤ 10^18 and 2^shift < 1.2 × 10^18.
    from_units.saturating_add(divide_away(part * (1 << shift), ONE)).min(cap)
}

fn divide_away(number: i128, by: i128) -> i128 {
    number / by + if number % by == 0 { 0 } else { number.signum() }
}

fn saturate(number: i128) -> i64 {
    number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn quotient(number: i64, by: i64) -> i64 {
    let (number, by) = (i128::from(number), i128::from(if by == 0 { 1 } else { by }));
    let exact = number % by == 0;
    saturate(number / by + i128::from(!exact && (number < 0) == (by < 0)))
}

fn strip_factors(mut number: i128, factor: i128, at_most: usize) -> (i128, usize) {
    let mut times = 0;
    while times < at_most && number % factor == 0 {
        number /= factor;
        times += 1;
    }
    (number, times)
}

/// A quantity in an error message; it may be a whole file.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
