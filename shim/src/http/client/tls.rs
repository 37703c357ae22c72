//! Which servers are trusted.
//!
//! Rule: there is always a check of the certificate. Where no root can be read, no server is trusted.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Where distributions have the bundle of roots, in their root file system.
const BUNDLES: [&str; 3] =
    ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem"];

/// Most bytes of a bundle that are read: those of distributions have some 200 KiB.
const BUNDLE_BYTES_MAX: u64 = 4 << 20;

/// How TLS is spoken, trusting the roots of the system and those in `root`.
///
/// # Errors
///
/// The cryptography does not go with the protocol: a bug of ours.
pub(super) fn config(root: Option<&Path>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(of_system());
    if let Some(root) = root {
        roots.add_parsable_certificates(bundle(root));
    }
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens the bundle of the system for a process that is locked later, and takes no other roots of the system
/// from then on.
pub(in crate::http) fn open_ahead() {
    AHEAD.get_or_init(|| {
        BUNDLES.iter().find_map(|path| std::fs::File::open(Path::new("/").join(path)).ok())
    });
}

/// What [`open_ahead`] has opened, if it was called.
static AHEAD: OnceLock<Option<std::fs::File>> = OnceLock::new();

/// The certificates that the system trusts.
fn of_system() -> Vec<CertificateDer<'static>> {
    if let Some(ahead) = AHEAD.get() {
        let mut text = Vec::new();
        let read = ahead.as_ref().map(|file| file.take(BUNDLE_BYTES_MAX).read_to_end(&mut text));
        if let Some(Err(error)) = read {
            log::debug!("read the roots of the system: {error}");
        }
        return certificates(&text);
    }
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        log::debug!("read the roots of the system: {error}");
    }
    system.certs
}

/// The certificates of the first bundle in `root`; those that are none are left out.
fn bundle(root: &Path) -> Vec<CertificateDer<'static>> {
    let text = BUNDLES.iter().find_map(|path| read(root, path).ok()).unwrap_or_default();
    certificates(&text)
}

fn certificates(text: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect()
}

/// Reads a file of the program's: no link leads out of its root, and nothing waits.
fn read(root: &Path, path: &str) -> io::Result<Vec<u8>> {
    let dir = openat2(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(&dir, path, flags, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(BUNDLE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}
