//! Who is who in a cluster: one authority, the API server's certificate, and one for each of its clients.
//!
//! Names and groups are those of <https://kubernetes.io/docs/setup/best-practices/certificates/>, so that the
//! API server's own authorizers (`Node,RBAC`) decide what each may do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::json;

use super::namespaces::ADDRESS;
use super::{NODE, SERVER};

/// The first address of the services' network, which is the API server's.
const SERVICE: &str = "10.96.0.1";

/// Who may do everything.
pub(super) const ADMIN: &str = "admin";

/// Names of clients in files and in the cluster, and their groups.
const CLIENTS: [(&str, &str, Option<&str>); 5] = [
    (ADMIN, "admin", Some("system:masters")),
    ("kubelet", "system:node:node", Some("system:nodes")),
    ("kube-controller-manager", "system:kube-controller-manager", None),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
];

/// The files of a cluster's certificates, keys and kubeconfigs.
#[derive(Debug)]
pub(super) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes all of them in `directory`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn make(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let certificates = Self { directory };
        let key = KeyPair::generate().context("make a key")?;
        let mut params = CertificateParams::new(vec![]).context("name the authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test cluster");
        let authority = params.self_signed(&key).context("sign the authority")?;
        certificates.write("ca.crt", &authority.pem())?;
        let authority = Issuer::new(params, key);

        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", NODE];
        let names = names.into_iter().chain([ADDRESS, SERVICE, "127.0.0.1"]).map(str::to_owned);
        let mut server = CertificateParams::new(names.collect::<Vec<_>>()).context("name it")?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        certificates.sign("kube-apiserver", &server, &authority)?;

        for (file, name, group) in CLIENTS {
            let mut client = CertificateParams::new(vec![]).context("name a client")?;
            client.distinguished_name.push(DnType::CommonName, name);
            if let Some(group) = group {
                client.distinguished_name.push(DnType::OrganizationName, group);
            }
            client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
            certificates.sign(file, &client, &authority)?;
            certificates.write_kubeconfig(file)?;
        }
        let accounts = KeyPair::generate().context("make a key")?;
        certificates.write("accounts.key", &accounts.serialize_pem())?;
        certificates.write("accounts.pub", &accounts.public_key_pem())?;
        Ok(certificates)
    }

    /// A file as an argument.
    pub(super) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The kubeconfig of a client.
    pub(super) fn kubeconfig(&self, client: &str) -> String {
        self.file(&format!("{client}.kubeconfig"))
    }

    fn sign(
        &self,
        file: &str,
        params: &CertificateParams,
        authority: &Issuer<'_, KeyPair>,
    ) -> Result<()> {
        let key = KeyPair::generate().context("make a key")?;
        let certificate = params.signed_by(&key, authority);
        let certificate = certificate.with_context(|| format!("sign {file}"))?;
        self.write(&format!("{file}.crt"), &certificate.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write_kubeconfig(&self, client: &str) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": { "server": SERVER, "certificate-authority": self.file("ca.crt") },
            }],
            "users": [{
                "name": client,
                "user": {
                    "client-certificate": self.file(&format!("{client}.crt")),
                    "client-key": self.file(&format!("{client}.key")),
                },
            }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": client } }],
            "current-context": "test",
        });
        self.write(&format!("{client}.kubeconfig"), &config.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.directory.join(name), text)
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
