//! What becomes of a request, and the rules that say so.

use std::time::Duration;

use super::Asked;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A `Status` of this code; with a `Retry-After` in seconds, also in its details.
    Refuse(u16, Option<u32>),
    /// The refusal of a server that is too busy to look at the request (priority and fairness): 429 with `Retry-After` in
    /// seconds as a header alone, and a line of text.
    Busy(u32),
    /// Of a watch: it begins, and its only event is the ERROR of a version that is too old.
    Expired,
    /// This text instead of the answer, with status 200.
    Say(String),
    /// The connection is reset, with all that is on it.
    Reset,
    /// The same after so many bytes of the answer's body.
    ResetAfter(usize),
    /// The body ends after so many bytes, as though that were all.
    Truncate(usize),
    /// The body comes byte by byte with these pauses.
    Trickle(Duration),
    /// It is never answered.
    Stall,
}

/// A fault and what meets it.
pub(super) struct Rule {
    what: String,
    fault: Fault,
    /// None: however many come.
    left: Option<usize>,
}

impl Rule {
    pub(super) fn new(what: &str, fault: Fault, times: Option<usize>) -> Self {
        Self { what: what.to_owned(), fault, left: times }
    }
}

/// The newest rule that is for the request, which counts as met.
pub(super) fn meet(rules: &mut Vec<Rule>, asked: &Asked) -> Option<Fault> {
    let at = rules.iter().rposition(|rule| asked.is(&rule.what))?;
    let fault = rules[at].fault.clone();
    if let Some(left) = &mut rules[at].left {
        *left = left.saturating_sub(1);
        if *left == 0 {
            rules.remove(at);
        }
    }
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rule_counts_and_some_are_used_up() {
        let mut rules =
            vec![Rule::new("*", Fault::Stall, None), Rule::new("list pods", Fault::Refuse(500, None), Some(1))];
        let asked = Asked { what: "list pods".to_owned(), uri: String::new() };
        assert!(matches!(meet(&mut rules, &asked), Some(Fault::Refuse(500, None))));
        assert!(matches!(meet(&mut rules, &asked), Some(Fault::Stall)));
        rules.clear();
        assert!(meet(&mut rules, &asked).is_none());
    }
}
