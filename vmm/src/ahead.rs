//! What is opened before a process is locked, because it has no path to it afterwards.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use crate::memory;

/// Opens what micro-VMs of this process will need of the host's files beside KVM, which [`crate::Shell`]
/// opens: `/dev/null` and `/proc/self/pagemap`. A process that does not call it opens them as it needs them.
///
/// # Errors
///
/// One of them cannot be opened.
pub fn open_ahead() -> io::Result<()> {
    null()?;
    memory::open_pagemap()?;
    Ok(())
}

/// `/dev/null`, for reading and writing.
pub(crate) fn null() -> io::Result<&'static File> {
    static NULL: OnceLock<File> = OnceLock::new();
    if let Some(file) = NULL.get() {
        return Ok(file);
    }
    let file = File::options().read(true).write(true).open("/dev/null")?;
    Ok(NULL.get_or_init(|| file))
}
