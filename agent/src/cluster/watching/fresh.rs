//! The newest version that was heard of: a list that is older than that is one of a server that lags, and would bring pods back
//! that are gone, and stop those that have just come.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;

/// What has been old for so long is no lag: somebody has put back an older etcd.
const LAG: Duration = Duration::from_secs(300);

/// Of one watch.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Nothing at first, which asks for the newest that there is. Any that the server remembers ("0") may be of the past: pods
    /// that are long deleted would be started by an agent that was started again.
    text: String,
    number: u64,
    /// Since when nothing but older lists come.
    older_since: Option<Instant>,
}

/// A list that is not believed.
#[derive(Debug, thiserror::Error)]
#[error("it gives an older list (version {old}) than before ({newest}): that of a server that lags is not believed")]
struct OldList {
    old: u64,
    newest: u64,
}

/// Comparable since 1.35 (KEP-5504), and as etcd's revisions before that. None: another server's way.
pub(in crate::cluster) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

impl Newest {
    /// As it is sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A change of that version was told of; gives whether it is new.
    pub(super) fn saw(&mut self, version: &str) -> bool {
        let Some(number) = number(version) else { return true };
        let new = number > self.number;
        if new {
            (self.text, self.number) = (version.to_owned(), number);
        }
        new
    }

    /// A server has not come to this version.
    pub(super) fn is_ahead(&mut self) {
        if !self.lags() {
            *self = Self::default();
        }
    }

    /// Whether a server that is older is one that lags, since nothing else was heard for a while only.
    fn lags(&mut self) -> bool {
        self.older_since.get_or_insert_with(Instant::now).elapsed() < LAG
    }

    /// All that there is at that version was told.
    ///
    /// # Errors
    /// It is older than what was told before, and not for long.
    pub(super) fn believe(&mut self, version: &str) -> kube::Result<()> {
        let Some(number) = number(version) else { return Ok(()) };
        if number < self.number && self.lags() {
            let error: Box<dyn Error + Send + Sync> = Box::new(OldList { old: number, newest: self.number });
            return Err(kube::Error::Service(error));
        }
        *self = Self { text: version.to_owned(), number, older_since: None };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_older_list_is_not_believed_unless_it_stays() {
        let mut newest = Newest::default();
        assert_eq!(newest.text(), "");
        newest.believe("7").unwrap();
        assert!(newest.saw("9") && !newest.saw("9") && !newest.saw("8"));
        newest.believe("9").unwrap();
        let error = newest.believe("7").unwrap_err();
        assert!(crate::cluster::error::explain(&error).contains("older list (version 7) than before (9)"), "{error}");
        assert_eq!(newest.text(), "9");
        tokio::time::advance(LAG).await;
        newest.believe("7").unwrap();
        assert!(newest.saw("8"));
        newest.believe("8").unwrap();
    }
}
