//! The text of a kubeconfig, with all keys in it: one file to hand to a node or a client.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::pki::Certified;

/// What a client shows to the API server.
#[derive(Debug)]
pub(super) enum Credentials<'a> {
    Certificate(&'a Certified),
    Token(&'a str),
}

/// A kubeconfig for `server`, whose certificate `authority` signed.
pub(super) fn text(server: &str, authority: &str, credentials: &Credentials<'_>) -> String {
    let user = match credentials {
        Credentials::Certificate(certified) => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(&certified.certificate),
            STANDARD.encode(&certified.key)
        ),
        Credentials::Token(token) => format!("    token: {token}\n"),
    };
    let authority = STANDARD.encode(authority);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: systemk\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {authority}\nusers:\n- name: user\n  user:\n{user}contexts:\n- name: systemk\n  \
         context:\n    cluster: systemk\n    user: user\ncurrent-context: systemk\n"
    )
}
