//! What a request to the node asks leave for: k8s.io/kubernetes `pkg/kubelet/server/auth.go`, GetRequestAttributes.

/// The longest bearer token that is looked at, bytes: the API server's own headers end at 1 MiB, tokens at some 10 KiB.
const TOKEN_MAX: usize = 16 * 1024;

/// What the API server is asked about, of resource `nodes` in the core group, for this node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its verb; `*` for a method that has none, which only those may use who may do all.
    pub verb: &'static str,
    /// Leave for any of these subresources is leave; asked in this order.
    pub subresources: Vec<&'static str>,
}

/// Of a request with that method to that path (not decoded: a path that has to be is none of ours).
pub fn attributes(method: &str, path: &str) -> Attributes {
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let any_below = |roots: &[&str]| roots.iter().any(|root| below(root));
    let subresources = match () {
        // Commands run in a container by a request with GET: who may only read a node must not (a known weakness of the kubelet).
        () if any_below(&["/exec", "/attach", "/portForward", "/run"]) => {
            return Attributes { verb: "create", subresources: vec!["proxy"] };
        }
        () if any_below(&["/pods", "/runningpods"]) => vec!["pods", "proxy"],
        () if below("/healthz") => vec!["healthz", "proxy"],
        () if below("/configz") => vec!["configz", "proxy"],
        () if below("/stats") => vec!["stats"],
        () if below("/metrics") => vec!["metrics"],
        () if below("/logs") => vec!["log"],
        () if below("/checkpoint") => vec!["checkpoint"],
        () => vec!["proxy"],
    };
    let verb = match method {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "*",
    };
    Attributes { verb, subresources }
}

/// The token of an `Authorization` header. RFC 6750, section 2.1: visible ASCII after `Bearer` and one blank.
pub fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.trim().split_once(' ')?;
    let token = token.trim_start();
    let fits = !token.is_empty() && token.len() <= TOKEN_MAX && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_of_paths() {
        let table: [(&str, &[&str]); 14] = [
            ("/pods", &["pods", "proxy"]),
            ("/pods/", &["pods", "proxy"]),
            ("/podsx", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics/resource", &["metrics"]),
            ("/logs/syslog", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/%70ods", &["proxy"]),
            ("", &["proxy"]),
        ];
        for (path, subresources) in table {
            assert_eq!(
                attributes("GET", path),
                Attributes { verb: "get", subresources: subresources.to_vec() },
                "{path}"
            );
        }
    }

    #[test]
    fn verbs_of_methods() {
        for (method, verb) in [("POST", "create"), ("PUT", "update"), ("PATCH", "patch"), ("DELETE", "delete")] {
            assert_eq!(attributes(method, "/pods").verb, verb);
        }
        assert_eq!(attributes("HEAD", "/pods").verb, "get");
        assert_eq!(attributes("BREW", "/pods").verb, "*");
        for path in ["/exec/a/b/c", "/attach/a/b/c", "/portForward/a/b", "/run/a/b/c"] {
            assert_eq!(attributes("GET", path), Attributes { verb: "create", subresources: vec!["proxy"] }, "{path}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(bearer(b"Bearer abc.def-1"), Some("abc.def-1"));
        assert_eq!(bearer(b" bearer   abc "), Some("abc"));
        let long = format!("Bearer {}", "a".repeat(TOKEN_MAX + 1));
        let wrong: [&[u8]; 8] = [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Basic abc",
            b"Bearer a b",
            b"Bearer a\x7fb",
            b"Bearer \xff",
            long.as_bytes(),
        ];
        for header in wrong {
            assert_eq!(bearer(header), None, "{header:?}");
        }
    }
}
