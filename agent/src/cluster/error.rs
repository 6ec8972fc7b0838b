//! What went wrong between this node and the API server, in one line that says whose turn it is.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

pub(crate) use crate::causes::causes;

/// The API server's answer, where it gave one.
pub(crate) fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The HTTP code of its answer.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    status(error).map(|s| s.code)
}

/// Whoever answers for the API server may say an hour, and it is back within a minute.
const LONGEST_WAIT: u32 = 60;

/// How long the API server wants to be left alone.
pub(crate) fn retry_after(error: &kube::Error) -> Option<Duration> {
    let seconds = status(error)?.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds.min(LONGEST_WAIT))))
}

/// A request with an end: without an answer by then it counts as one to a server that does not answer.
pub(crate) async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}

/// One line for people: what is wrong, and what to do where something can be done.
pub(crate) fn explain(error: &kube::Error) -> String {
    if let Some(status) = status(error) {
        let said = status.message.trim();
        return match status.code {
            401 => "the API server does not accept the credentials of the kubeconfig (401 Unauthorized): they are \
                    expired, revoked or another cluster's"
                .to_owned(),
            403 => format!("the API server forbids it (403): {said}"),
            429 => "the API server is overloaded (429) and asks to come later".to_owned(),
            code if said.is_empty() => format!("the API server answered {code}"),
            code => format!("the API server answered {code}: {said}"),
        };
    }
    format!("cannot talk to the API server: {}", unanswered(error))
}

/// The error and its causes, down to what went wrong.
pub(super) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Whether the request was never sent, for want of a connection.
pub(super) fn unsent(error: &kube::Error) -> bool {
    let mut of_client = chain(error).filter_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    of_client.any(hyper_util::client::legacy::Error::is_connect)
}

/// Whether nobody listens where the server was.
pub(super) fn refused(error: &kube::Error) -> bool {
    let mut of_kernel = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    of_kernel.any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Why there was no answer.
pub(super) fn unanswered(error: &kube::Error) -> String {
    transport(error).unwrap_or_else(|| causes(error))
}

/// What keeps a request from its answer, found in the causes by their types.
fn transport(error: &(dyn Error + 'static)) -> Option<String> {
    for cause in chain(error) {
        if let Some(hint) = hint(cause) {
            return Some(hint);
        }
        // What an io::Error wraps is not among its sources: those are the sources of what it wraps.
        if let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(hint) = transport(inner)
        {
            return Some(hint);
        }
    }
    None
}

fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    if cause.is::<tokio::time::error::Elapsed>() {
        return Some("it does not answer".to_owned());
    }
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(of_tls(tls));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>().filter(|error| error.get_ref().is_none()) {
        return of_io(error.kind());
    }
    // hyper-util's connector gives its errors no public type.
    let text = cause.to_string();
    text.starts_with("dns error").then(|| format!("its name cannot be resolved ({})", causes(cause)))
}

fn of_io(kind: io::ErrorKind) -> Option<String> {
    let hint = match kind {
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)",
        io::ErrorKind::TimedOut => "it does not answer",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            "there is no way to it through the network"
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            "it closed the connection"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn of_tls(error: &rustls::Error) -> String {
    let hint = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not signed by the kubeconfig's certificate-authority (another cluster's?)"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet (is this machine's clock right?)"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for other names than the kubeconfig's server"
            }
            _ => return format!("its certificate is not accepted: {error}"),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS (is the port of the kubeconfig's server right?)",
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::UnknownCA,
        ) => "it refuses the client certificate of the kubeconfig",
        _ => return format!("TLS with it fails: {error}"),
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(cause: impl Into<Box<dyn Error + Send + Sync>>) -> String {
        explain(&kube::Error::Service(cause.into()))
    }

    #[tokio::test]
    async fn what_found_no_connection_was_never_sent() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let ask = async || {
            let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
            client.request_text(http::Request::get("/").body(Vec::new()).unwrap()).await.unwrap_err()
        };
        let listening = tokio::task::spawn_blocking(move || drop(server.accept()));
        assert!(!unsent(&ask().await), "it closed the connection");
        listening.await.unwrap();
        assert!(unsent(&ask().await), "nothing listens there");
    }

    #[test]
    fn causes_are_known_by_their_types_however_deep_they_are() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(said(refused), "cannot talk to the API server: nothing listens there (connection refused)");
        let issuer = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        // As hyper-rustls wraps it.
        let wrapped = io::Error::other(io::Error::other(issuer));
        assert!(said(wrapped).contains("not signed by the kubeconfig's certificate-authority"));
        assert!(said("something new").ends_with("something new"));
    }

    #[tokio::test]
    async fn a_request_without_an_answer_ends() {
        let never = std::future::pending::<kube::Result<()>>();
        let error = within(Duration::from_millis(1), never).await.unwrap_err();
        assert_eq!(explain(&error), "cannot talk to the API server: it does not answer");
    }
}
