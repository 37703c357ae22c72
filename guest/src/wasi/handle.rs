//! A capability handle that is given back when nobody uses it any more.

use alloc::sync::Arc;

use abi::{Handle, Request};

use crate::doorbell;

/// Owns a handle: closes it on the host when the last owner is gone.
#[derive(Debug)]
pub struct OwnedHandle(Handle);

impl OwnedHandle {
    /// Takes a handle that nothing else closes.
    pub(crate) fn own(handle: Handle) -> Self {
        Self(handle)
    }

    /// As [`own`](Self::own), to be shared.
    pub(crate) fn shared(handle: Handle) -> Arc<Self> {
        Arc::new(Self::own(handle))
    }

    /// The handle, for requests.
    pub(crate) fn get(&self) -> Handle {
        self.0
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        // The host declines only what is not open, and then there is nothing to give back.
        let _ = doorbell::call_without_data(&Request::Close { handle: self.0 });
    }
}
