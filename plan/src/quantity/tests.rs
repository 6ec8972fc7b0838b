use proptest::prelude::*;

use super::*;

/// Rows made by upstream's own code; see the head of the file.
const TABLE: &str = include_str!("../../tests/data/quantity.tsv");

#[test]
fn agrees_with_upstream_on_every_row() {
    let mut rows = 0;
    for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        match columns.as_slice() {
            [input, "error", kind] => {
                let expected = match *kind {
                    "format" => QuantityError::Format((*input).to_owned()),
                    "suffix" => QuantityError::Suffix((*input).to_owned()),
                    other => panic!("{other}"),
                };
                assert_eq!(Quantity::parse(input), Err(expected), "{input:?}");
            }
            [input, "ok", canonical, value, milli] => {
                let quantity = Quantity::parse(input).unwrap_or_else(|error| panic!("{input:?}: {error}"));
                let got = (quantity.to_string(), quantity.value().to_string(), quantity.milli_value().to_string());
                let expected = ((*canonical).to_owned(), (*value).to_owned(), (*milli).to_owned());
                assert_eq!(got, expected, "{input:?}");
            }
            other => panic!("{other:?}"),
        }
        rows += 1;
    }
    assert!(rows > 300, "{rows}");
}

#[test]
fn too_much_saturates() {
    for text in ["1e40", "1e2000000000", "123456789012345678901234567890123456789012345678901234567890", "1000E"] {
        let quantity = Quantity::parse(text).unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (i64::MAX, i64::MAX), "{text}");
        assert_eq!(Quantity::parse(&format!("-{text}")).unwrap().value(), i64::MIN);
    }
    let most = Quantity::parse("1e40").unwrap();
    assert_eq!(most.plus(most).value(), i64::MAX);
    assert_eq!(Quantity::parse("0e2000000000").unwrap(), Quantity::ZERO);
    assert_eq!(Quantity::parse("1e-2000000000").unwrap().to_string(), "1e-9");
}

#[test]
fn divides_rounding_up() {
    for (amount, divisor, expected) in
        [("1Gi", "1Mi", 1024), ("1", "1Mi", 1), ("1Gi", "0", 1 << 30), ("0", "1", 0), ("1500M", "1G", 2)]
    {
        let [amount, divisor] = [amount, divisor].map(|text| Quantity::parse(text).unwrap());
        assert_eq!(amount.divided(divisor), expected);
    }
    for (amount, divisor, expected) in [("250m", "1", 1), ("250m", "1m", 250), ("2", "0", 2), ("2100m", "1", 3)] {
        let [amount, divisor] = [amount, divisor].map(|text| Quantity::parse(text).unwrap());
        assert_eq!(amount.divided_milli(divisor), expected);
    }
}

#[test]
fn adds_in_the_first_notation_and_compares_by_amount() {
    let [zero, mi, k] = ["0", "1Mi", "24k"].map(|text| Quantity::parse(text).unwrap());
    assert_eq!(zero.plus(mi).to_string(), "1Mi");
    assert_eq!(mi.plus(k).to_string(), "1072576");
    assert_eq!(Quantity::parse("1024Ki").unwrap(), mi);
    assert!(k < mi && !zero.is_negative() && zero.is_zero());
    assert_eq!(Quantity::from_units(1 << 30, Format::BinarySi).to_string(), "1Gi");
    assert_eq!(Quantity::from_milli(1500, Format::DecimalSi).to_string(), "1500m");
    assert_eq!(Quantity::from_api(&ApiQuantity(" 1Gi\n".to_owned())).unwrap().value(), 1 << 30);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", number in "[-+]?[0-9.]{0,60}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
        for text in [text, number] {
            if let Ok(quantity) = Quantity::parse(&text) {
                let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity.plus(quantity));
            }
        }
    }

    #[test]
    fn the_canonical_form_reads_back_as_the_same_amount(
        number in "-?[0-9]{1,9}(\\.[0-9]{0,6})?",
        suffix in prop::sample::select(vec!["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3", "E6"]),
    ) {
        let quantity = Quantity::parse(&format!("{number}{suffix}")).unwrap();
        let canonical = quantity.to_string();
        let again = Quantity::parse(&canonical).unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), canonical);
    }
}
