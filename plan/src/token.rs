//! When a service account's token is asked for anew: the kubelet's rule (`requiresRefresh` of its token manager).

use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_JITTER: Duration = Duration::from_secs(10);

/// How long after it was asked for: when 80 % of its life are over, or 24 hours, a little earlier each time so that the
/// pods of a node, or the nodes of a cluster, do not ask all at once. `random` is between 0 and 1.
///
/// The kubelet counts from the API server's clock; this counts from the request, which a wrong clock of the node does not
/// upset.
pub fn refresh_after(life: Duration, random: f64) -> Duration {
    (life - life / 5).min(LONGEST).saturating_sub(LONGEST_JITTER.mul_f64(random.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_four_fifths_or_a_day() {
        let after = |life, random| refresh_after(Duration::from_secs(life), random).as_secs();
        assert_eq!(after(600, 0.0), 480);
        assert_eq!(after(600, 1.0), 470);
        assert_eq!(after(3607, 0.0), 2885);
        assert_eq!(after(365 * 24 * 3600, 0.0), 24 * 3600);
        assert_eq!(after(365 * 24 * 3600, 1.0), 24 * 3600 - 10);
        assert_eq!(after(0, 1.0), 0);
    }

    proptest! {
        #[test]
        fn before_it_expires(life in 0u64..1 << 33, random in 0.0f64..1.0) {
            let (life, after) = (Duration::from_secs(life), refresh_after(Duration::from_secs(life), random));
            prop_assert!(after <= life && after <= LONGEST);
            prop_assert!(after + LONGEST_JITTER >= (life - life / 5).min(LONGEST));
        }
    }
}
