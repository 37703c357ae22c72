//! The server.

mod bodies;
mod ends;
mod http2;
mod limits;
mod many;
mod refused;
mod requests;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use shim::http::server::{Limits, Refused, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use vmm::host::http::Incoming;

use crate::guest::Given;
use crate::raw::{HANG, Raw};

/// A server on a thread of its own.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Every request is handled by a guest of its own.
    pub(crate) fn of(guest: impl Fn(Given) + Send + Sync + 'static) -> Self {
        Self::with(Limits::default(), guest)
    }

    fn with(limits: Limits, guest: impl Fn(Given) + Send + Sync + 'static) -> Self {
        let guest = Arc::new(guest);
        Self::submitting(limits, move |incoming| {
            let guest = guest.clone();
            thread::spawn(move || guest(Given::new(incoming)));
            Ok(())
        })
    }

    fn submitting(
        limits: Limits,
        submit: impl Fn(Incoming) -> Result<(), Refused> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("set non-blocking");
        let addr = listener.local_addr().expect("an address");
        let (shutdown, is_shut_down) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                serve(listener, limits, submit, async {
                    // Either way it is to end.
                    let _ = is_shut_down.await;
                })
                .await;
            });
        });
        Self { addr, shutdown: Some(shutdown), thread: Some(thread) }
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.addr)
    }

    /// Asks the server to end.
    fn shut_down(&mut self) {
        self.shutdown.take().into_iter().for_each(|shutdown| shutdown.send(()).expect("it runs"));
    }

    /// Waits until it has ended.
    fn join(&mut self) {
        self.thread.take().into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

/// What became of guests, in their order.
struct Outcomes<T>(Receiver<T>);

impl<T> Outcomes<T> {
    fn next(&self) -> T {
        self.0.recv_timeout(HANG).expect("a guest has ended")
    }
}

/// A guest that tells what becomes of it.
fn telling<T: Send + 'static>(
    guest: impl Fn(Given) -> T + Send + Sync + 'static,
) -> (impl Fn(Given) + Send + Sync + 'static, Outcomes<T>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let tells = move |given| {
        let outcome = guest(given);
        // Not every test looks.
        let _ = sender.lock().expect("a lock").send(outcome);
    };
    (tells, Outcomes(receiver))
}

/// A guest that is given `go_on`, by which it waits to be told to go on; and what tells it.
fn stopping(
    guest: impl Fn(Given, &dyn Fn()) + Send + Sync + 'static,
) -> (impl Fn(Given) + Send + Sync + 'static, Sender<()>) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let stops = move |given| {
        guest(given, &|| {
            receiver.lock().expect("a lock").recv_timeout(HANG).expect("nobody says to go on");
        });
    };
    (stops, sender)
}
