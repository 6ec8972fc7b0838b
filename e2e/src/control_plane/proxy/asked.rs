//! What a request is about, in the words of the API server's audit log.

use std::time::Instant;

use http::{Method, Uri};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Verb and kind: `list pods`, `patch pods/status`.
    pub what: String,
    /// Path and query.
    pub uri: String,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What for.
    pub asked: Asked,
    /// The answer's HTTP status; None: not answered (yet).
    pub code: Option<u16>,
    /// The certificate that its connection was made with, as [`fingerprint`](super::fingerprint) tells it.
    pub certificate: String,
}

impl Asked {
    pub(super) fn new(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let rest = match segments.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            other => other,
        };
        let rest = match rest {
            ["namespaces", _, kind, rest @ ..] => [&[*kind][..], rest].concat(),
            rest => rest.to_vec(),
        };
        let (kind, name, subresource) = (rest.first(), rest.get(1), rest.get(2));
        let watches = uri.query().is_some_and(|query| query.contains("watch=true"));
        let verb = match (method, name) {
            (&Method::GET, None) if watches => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, _) => "delete",
            _ => "other",
        };
        let subresource = subresource.map(|name| format!("/{name}")).unwrap_or_default();
        Self { what: format!("{verb} {}{subresource}", kind.unwrap_or(&"")), uri: uri.to_string() }
    }

    /// Whether `pattern` names it: `list pods`, `watch *`, `* pods`, `*`.
    pub fn is(&self, pattern: &str) -> bool {
        let (verb, kind) = pattern.split_once(' ').unwrap_or((pattern, "*"));
        let (own_verb, own_kind) = self.what.split_once(' ').unwrap_or((&self.what, ""));
        [(verb, own_verb), (kind, own_kind)].iter().all(|(wanted, own)| *wanted == "*" || wanted == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_in_the_audit_log() {
        let named = |method: Method, uri: &str| Asked::new(&method, &uri.parse().unwrap()).what;
        assert_eq!(named(Method::GET, "/api/v1/pods?fieldSelector=a&limit=500"), "list pods");
        assert_eq!(named(Method::GET, "/api/v1/pods?watch=true"), "watch pods");
        assert_eq!(named(Method::GET, "/api/v1/namespaces/n/configmaps?watch=true"), "watch configmaps");
        assert_eq!(named(Method::PATCH, "/api/v1/namespaces/n/pods/p/status"), "patch pods/status");
        assert_eq!(named(Method::POST, "/api/v1/namespaces/n/serviceaccounts/d/token"), "create serviceaccounts/token");
        assert_eq!(named(Method::PATCH, "/apis/coordination.k8s.io/v1/namespaces/k/leases/n"), "patch leases");
        let asked = Asked::new(&Method::GET, &"/api/v1/nodes/n".parse().unwrap());
        assert!(asked.is("*") && asked.is("get *") && asked.is("* nodes") && !asked.is("list nodes"));
    }
}
