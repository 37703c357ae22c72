//! The control plane of a cluster: etcd, API server, controller manager and scheduler.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::certificates::Certificates;
use super::namespaces::{ADDRESS, Namespaces};
use super::programs::Service;
use super::{SERVICES, program};
use crate::process::wait_until;
use crate::tools;

/// Its programs, in the order in which they end.
#[derive(Debug)]
pub(super) struct ControlPlane {
    scheduler: Service,
    controllers: Service,
    api_server: Service,
    etcd: Service,
}

impl ControlPlane {
    /// Starts it. The calling thread is in the network.
    ///
    /// # Errors
    ///
    /// A program cannot be started, or does not listen.
    pub(super) fn start(
        directory: &Path,
        namespaces: &Namespaces,
        certificates: &Certificates,
    ) -> Result<Self> {
        let mut etcd = namespaces.command(tools::tree("etcd")?.file(&["usr/bin/etcd"])?);
        etcd.arg("--data-dir").arg(directory.join("etcd"));
        // What is in it lives as long as the run, so nothing waits for a disk.
        etcd.args(["--unsafe-no-fsync", "--listen-peer-urls", "http://127.0.0.1:2380"]);
        let etcd = Service::start(etcd, directory, "etcd")?;
        listens("127.0.0.1:2379").with_context(|| etcd.log())?;

        let mut api_server = program(namespaces, "kube-apiserver")?;
        let file = |name| certificates.file(name);
        for (option, value) in [
            ("etcd-servers", "http://127.0.0.1:2379"),
            ("advertise-address", ADDRESS),
            ("tls-cert-file", &file("kube-apiserver.crt")),
            ("tls-private-key-file", &file("kube-apiserver.key")),
            ("client-ca-file", &file("ca.crt")),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("service-account-key-file", &file("accounts.pub")),
            ("service-account-signing-key-file", &file("accounts.key")),
            ("service-cluster-ip-range", SERVICES),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("allow-privileged", "true"),
            ("kubelet-client-certificate", &file("admin.crt")),
            ("kubelet-client-key", &file("admin.key")),
            ("kubelet-preferred-address-types", "InternalIP"),
        ] {
            api_server.arg(format!("--{option}={value}"));
        }
        let api_server = Service::start(api_server, directory, "kube-apiserver")?;
        listens(&format!("{ADDRESS}:6443")).with_context(|| api_server.log())?;

        let mut controllers = program(namespaces, "kube-controller-manager")?;
        for (option, value) in [
            ("kubeconfig", certificates.kubeconfig("kube-controller-manager")),
            ("service-account-private-key-file", file("accounts.key")),
            ("root-ca-file", file("ca.crt")),
            ("use-service-account-credentials", "true".to_owned()),
            ("leader-elect", "false".to_owned()),
            ("secure-port", "0".to_owned()),
        ] {
            controllers.arg(format!("--{option}={value}"));
        }
        let controllers = Service::start(controllers, directory, "kube-controller-manager")?;

        let mut scheduler = program(namespaces, "kube-scheduler")?;
        let kubeconfig = certificates.kubeconfig("kube-scheduler");
        scheduler.args(["--kubeconfig", &kubeconfig, "--leader-elect=false", "--secure-port=0"]);
        let scheduler = Service::start(scheduler, directory, "kube-scheduler")?;
        Ok(Self { scheduler, controllers, api_server, etcd })
    }

    /// The ends of the logs.
    pub(super) fn log(&self) -> String {
        let programs = [&self.etcd, &self.api_server, &self.controllers, &self.scheduler];
        programs.map(Service::log).join("\n---\n")
    }
}

fn listens(address: &str) -> Result<()> {
    let what = format!("a server at {address}");
    wait_until(&what, Duration::from_secs(120), || TcpStream::connect(address).is_ok())
}
