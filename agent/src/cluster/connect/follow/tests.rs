use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use super::*;
use crate::reconcile::now_ms;

/// A kubeconfig that names its certificate, as a kubelet's does.
const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443'}}]\n\
    users: [{name: u, user: {client-certificate: current.pem, client-key: current.pem}}]\n\
    contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";

fn certificate(node: &str, year: i32) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem() + &key.serialize_pem()
}

struct Home(tempfile::TempDir);

impl Home {
    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }
}

/// What a refusal of the credential is told as: it names the certificate's end.
fn said(followed: &Arc<Followed>) -> String {
    let status = kube::core::Status { code: 401, ..kube::core::Status::default() };
    followed.current().credential.explain(&kube::Error::Api(Box::new(status)), "a", now_ms())
}

#[tokio::test]
async fn another_certificate_is_taken_over_and_one_that_cannot_be_is_not() {
    let home = Home(tempfile::tempdir().unwrap());
    home.write("config", KUBECONFIG);
    home.write("current.pem", &certificate("a", 2020));
    let file = home.0.path().join("config");
    let first = super::super::read(&file).await.unwrap();
    assert_eq!(first.files, [file.clone(), home.0.path().join("current.pem"), home.0.path().join("current.pem")]);
    let followed = Followed::new(&file, first);
    let look = async || {
        let before = followed.current();
        Arc::clone(&followed).look().await;
        !Arc::ptr_eq(&before, &followed.current())
    };
    assert!(!look().await, "nothing has changed");

    home.write("current.pem", &certificate("a", 2021));
    assert!(look().await && said(&followed).contains("2021-01-01"), "{}", said(&followed));
    for unfit in ["half of it".to_owned(), certificate("b", 2022)] {
        home.write("current.pem", &unfit);
        assert!(!look().await && said(&followed).contains("2021-01-01"), "{}", said(&followed));
    }
    home.write("config", &KUBECONFIG.replace("192.0.2.1", "192.0.2.2"));
    home.write("current.pem", &certificate("a", 2023));
    assert!(!look().await, "another server");
    home.write("config", KUBECONFIG);
    assert!(look().await && said(&followed).contains("2023-01-01"), "{}", said(&followed));

    // First the kubeconfig, then what it names.
    home.write("config", &KUBECONFIG.replace("current.pem", "later.pem"));
    assert!(!look().await && said(&followed).contains("2023-01-01"), "{}", said(&followed));
    home.write("later.pem", &certificate("a", 2024));
    assert!(look().await && said(&followed).contains("2024-01-01"), "{}", said(&followed));
}
