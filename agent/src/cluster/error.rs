//! What went wrong between this node and the API server, in one line that says whose turn it is.

use std::error::Error;
use std::time::Duration;

/// An error with everything below it, each cause said once.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

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

/// How long the API server wants to be left alone.
pub(crate) fn retry_after(error: &kube::Error) -> Option<Duration> {
    let seconds = status(error)?.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
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
    let text = causes(error);
    let hint = if text.contains("UnknownIssuer") {
        "its certificate is not signed by the kubeconfig's certificate-authority"
    } else if text.contains("CertificateExpired") || text.contains("certificate expired") {
        "a certificate has expired"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "its certificate is for another name"
    } else if text.contains("AccessDenied") || text.contains("CertificateRequired") || text.contains("BadCertificate") {
        "it refuses the client certificate of the kubeconfig"
    } else if text.contains("Connection refused") {
        "nothing listens there (connection refused)"
    } else if text.contains("dns error") || text.contains("failed to lookup") {
        "its name cannot be resolved"
    } else if text.contains("deadline has elapsed") || text.contains("timed out") {
        "it does not answer"
    } else {
        return format!("cannot talk to the API server: {text}");
    };
    format!("cannot talk to the API server: {hint}")
}
