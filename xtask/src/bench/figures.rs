//! Samples and what may be said of them: median, spread, ratio, and when two are too near to be told apart.

use serde_json::{Value, json};

/// Below this difference two figures are equal: the machine is shared and the clock is not the only noise.
const TIE: f64 = 0.10;

/// What was measured in the rounds of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(pub(super) Vec<f64>);

/// Something to compare with.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// Measured in the same run, interleaved with ours.
    Measured(Samples),
    /// Why there is no figure: never filled from another run.
    Missing(String),
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// What was measured.
    pub(super) name: &'static str,
    /// The unit of its values; less is better, but for what says "per".
    pub(super) unit: &'static str,
    /// Ours.
    pub(super) ours: Samples,
    /// The peers, by name.
    pub(super) peers: Vec<(&'static str, Peer)>,
    /// What it should be.
    pub(super) target: &'static str,
}

impl Samples {
    /// The middle one, or the mean of the two there are.
    pub(super) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// Median, lowest and highest, and how many there were.
    pub(super) fn show(&self) -> String {
        let sorted = self.sorted();
        match (sorted.first(), sorted.last()) {
            (Some(low), Some(high)) if sorted.len() > 1 => {
                format!("{} ({}–{}, n={})", number(self.median()), number(*low), number(*high), sorted.len())
            }
            (Some(only), _) => number(*only),
            _ => "–".to_owned(),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Figure {
    /// Ours over the peer's.
    fn ratio(&self, peer: &Peer) -> Option<f64> {
        match peer {
            Peer::Measured(samples) if samples.median() > 0.0 => Some(self.ours.median() / samples.median()),
            Peer::Measured(_) | Peer::Missing(_) => None,
        }
    }

    /// As in `--json`: a missing peer is null.
    pub(super) fn json(&self) -> Value {
        let peers: serde_json::Map<String, Value> = self
            .peers
            .iter()
            .map(|(name, peer)| {
                let value = match peer {
                    Peer::Measured(samples) => json!(rounded(samples.median())),
                    Peer::Missing(_) => Value::Null,
                };
                ((*name).to_owned(), value)
            })
            .collect();
        let ratio: serde_json::Map<String, Value> =
            self.peers.iter().map(|(name, peer)| ((*name).to_owned(), json!(self.ratio(peer).map(rounded)))).collect();
        let ours = rounded(self.ours.median());
        json!({"name": self.name, "unit": self.unit, "ours": ours, "peers": peers, "ratio": ratio})
    }

    /// The cells of a table's row: name, unit, ours, peers, ratios, target.
    pub(super) fn row(&self) -> [String; 5] {
        let peers = self.peers.iter().map(|(name, peer)| match peer {
            Peer::Measured(samples) => format!("{name} {}", samples.show()),
            Peer::Missing(reason) => format!("{name} missing: {reason}"),
        });
        let ratios = self.peers.iter().filter_map(|(name, peer)| {
            let ratio = self.ratio(peer)?;
            let tie = if (ratio - 1.0).abs() < TIE { " (tie)" } else { "" };
            Some(format!("{ratio:.2}x {name}{tie}"))
        });
        let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
        [
            format!("{} ({})", self.name, self.unit),
            self.ours.show(),
            or_dash(peers.collect::<Vec<_>>().join("; ")),
            or_dash(ratios.collect::<Vec<_>>().join("; ")),
            or_dash(self.target.to_owned()),
        ]
    }
}

/// Three digits say all that a shared machine can.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ratios_and_ties() {
        assert!((Samples(vec![3.0, 1.0, 2.0]).median() - 2.0).abs() < f64::EPSILON);
        assert!((Samples(vec![4.0, 1.0]).median() - 2.5).abs() < f64::EPSILON);
        let figure = Figure {
            name: "a",
            unit: "ms",
            ours: Samples(vec![10.0, 11.0, 12.0]),
            peers: vec![
                ("near", Peer::Measured(Samples(vec![10.5]))),
                ("far", Peer::Measured(Samples(vec![44.0]))),
                ("none", Peer::Missing("not here".to_owned())),
            ],
            target: "",
        };
        let [name, ours, peers, ratios, target] = figure.row();
        assert_eq!((name.as_str(), ours.as_str(), target.as_str()), ("a (ms)", "11.0 (10.0–12.0, n=3)", "–"));
        assert_eq!(peers, "near 10.5; far 44.0; none missing: not here");
        assert_eq!(ratios, "1.05x near (tie); 0.25x far");
        let json = figure.json();
        assert_eq!(json["peers"]["none"], Value::Null);
        assert_eq!(json["ratio"]["far"], 0.25);
    }
}
