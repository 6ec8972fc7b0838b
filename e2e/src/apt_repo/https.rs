//! The repository over HTTPS: for images that name a package by URL. A certificate authority of its own, which the
//! sandbox is told to trust, signs the server's certificate: strict clients refuse a certificate that is its own authority.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::command;
use crate::sandbox::Sandbox;

const SERVE: &str = include_str!("serve.py");

/// A server that ends when it is dropped.
#[derive(Debug)]
pub struct HttpsServer {
    child: Child,
    port: u16,
    /// Holds the keys and the server's log.
    _keys: tempfile::TempDir,
}

impl HttpsServer {
    /// Serves `directory` on the loopback of the sandbox's network and makes the sandbox trust it.
    pub(super) fn start(directory: &Path, sandbox: &Sandbox) -> Result<Self> {
        command::require("openssl", "openssl")?;
        command::require("python3", "python3-minimal")?;
        let keys = tempfile::tempdir().context("make a temporary directory")?;
        let authority = make_keys(keys.path()).context("make the server's certificate")?;
        sandbox.write_file("/usr/local/share/ca-certificates/systemk-fixture.crt", authority)?;
        sandbox.run(&["update-ca-certificates"])?;

        let init = sandbox.record().init.context("the sandbox does not run")?.pid.to_string();
        let log = File::create(keys.path().join("log")).context("make the server's log")?;
        // The machine's files and python, the sandbox's network.
        let mut child = Command::new("nsenter")
            .args(["--target", &init, "--net", "--", "python3", "-c", SERVE])
            .args([keys.path().join("server.pem"), keys.path().join("server.key")])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start the HTTPS server")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the server's stdout")?;
        BufReader::new(stdout).read_line(&mut line).context("read the server's port")?;
        let mut server = Self { child, port: 0, _keys: keys };
        server.port = line.trim().parse().with_context(|| {
            let log = std::fs::read_to_string(server._keys.path().join("log")).unwrap_or_default();
            format!("the HTTPS server did not start:\n{}", command::tail(&log, 20))
        })?;
        Ok(server)
    }

    /// The URL of a file of the repository.
    pub fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.port)
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        // It may be dead already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes server.pem and server.key below `directory` and gives the authority's certificate.
fn make_keys(directory: &Path) -> Result<Vec<u8>> {
    let openssl = |arguments: &[&str]| command::run(Command::new("openssl").args(arguments).current_dir(directory));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let request = |rest: &[&str]| openssl(&[&["req", "-x509"], &new_key[..], rest].concat());
    let authority = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=systemk fixture authority"];
    request(&[&authority[..], &["-addext", "keyUsage=critical,keyCertSign"]].concat())?;
    std::fs::write(
        directory.join("extensions"),
        "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .context("write the certificate's extensions")?;
    let mut sign_request = vec!["req", "-new"];
    sign_request.extend(&new_key[..5]);
    openssl(&[&sign_request[..], &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"]].concat())?;
    let signed = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&signed[..], &["-days", "2", "-extfile", "extensions", "-out", "server.pem"]].concat())?;
    std::fs::read(directory.join("ca.pem")).context("read the authority's certificate")
}
